/* SPDX-License-Identifier: Apache-2.0 */
/* vm.h - run a tiny guest through libvmm and collect what it says.  Tests with no /dev/kvm are skipped. */
#ifndef SPORE_TESTS_VM_H
#define SPORE_TESTS_VM_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "vmm/libvmm.h"

#define VM_LIMIT_MS 60000 /* against hangs only */

struct vm {
	struct vmm *vmm;
	int out[2]; /* the guest's serial line */
	char text[65536];
	size_t len;
};

/* The program's exit status when this machine has no KVM at all: the runner's "skip". */
static inline void vm_need_kvm(void)
{
	if (access("/dev/kvm", R_OK | W_OK) == 0)
		return;
	printf("no usable /dev/kvm: %s\n", strerror(errno));
	exit(77);
}

static inline int vm_open_guest(const char *name)
{
	char path[256];
	snprintf(path, sizeof(path), GUEST_DIR "/%s.elf", name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail_msg("open %s: %s", path, strerror(errno));
	return fd;
}

/* A configuration with the tiny guest `name`, 1 vCPU, 16 MiB; the caller may change it before vm_start(). */
static inline struct vmm_config vm_config(struct vm *vm, const char *name)
{
	struct vmm_config cfg = {
		.size = sizeof(cfg),
		.kernel_fd = vm_open_guest(name),
		.initrd_fd = -1,
		.cpus = 1,
		.mem_mib = 16,
		.kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC),
	};
	memset(vm, 0, sizeof(*vm));
	assert_int_equal(pipe2(vm->out, O_CLOEXEC), 0);
	cfg.serial = (struct vmm_serial){.out_fd = vm->out[1], .in_fd = -1};
	cfg.vsock.listen_fd = cfg.vsock.ready_fd = -1;
	return cfg;
}

static inline void vm_start(struct vm *vm, struct vmm_config *cfg)
{
	struct vmm_error why;
	if (vmm_create(&vm->vmm, cfg, &why))
		fail_msg("vmm_create: %s", why.text);
	close(cfg->kernel_fd);
	close(cfg->kvm_fd);
	if (vmm_start(vm->vmm, &why))
		fail_msg("vmm_start: %s", why.text);
}

/* Takes output until the VM has ended, or (if not 0) until `bytes` have come in all. */
static inline void vm_collect(struct vm *vm, size_t bytes)
{
	for (;;) {
		struct pollfd fd[2] = {{.fd = vm->out[0], .events = POLLIN},
				       {.fd = vmm_exit_fd(vm->vmm), .events = POLLIN}};
		if (poll(fd, 2, VM_LIMIT_MS) <= 0)
			fail_msg("no output and no end for %d ms", VM_LIMIT_MS);
		if (fd[0].revents) {
			ssize_t n = read(vm->out[0], vm->text + vm->len,
					 sizeof(vm->text) - 1 - vm->len);
			assert_true(n > 0);
			vm->len += (size_t)n;
			vm->text[vm->len] = '\0';
		} else if (fd[1].revents) {
			return;
		}
		if (bytes && vm->len >= bytes)
			return;
	}
}

/* Ends the VM, takes the rest of its output, frees everything.  Return: how it had ended. */
static inline enum vmm_exit vm_finish(struct vm *vm, struct vmm_error *text)
{
	assert_int_equal(vmm_stop(vm->vmm, NULL), 0);
	enum vmm_exit reason = vmm_exit_reason(vm->vmm, text);
	vmm_destroy(vm->vmm);
	close(vm->out[1]);
	for (ssize_t n = 1; n > 0 && vm->len < sizeof(vm->text) - 1;) {
		n = read(vm->out[0], vm->text + vm->len, sizeof(vm->text) - 1 - vm->len);
		vm->len += n > 0 ? (size_t)n : 0;
		vm->text[vm->len] = '\0';
	}
	close(vm->out[0]);
	return reason;
}

/* From start to end in one call. */
static inline enum vmm_exit vm_run(struct vm *vm, struct vmm_config *cfg, struct vmm_error *text)
{
	vm_start(vm, cfg);
	vm_collect(vm, 0);
	return vm_finish(vm, text);
}

#endif
