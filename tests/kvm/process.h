/* SPDX-License-Identifier: Apache-2.0 */
/* process.h - spore-vmm as a process of its own, sealed, driven by its control socket. */
#ifndef SPORE_TESTS_PROCESS_H
#define SPORE_TESTS_PROCESS_H

#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/ctlsock.h"
#include "tests/kvm/pattern_vm.h"

struct process {
	pid_t pid;
	int sock; /* connected control socket */
	char dir[32];
};

enum process_kind { PROCESS_GUEST, PROCESS_EMPTY };

static inline void process_config(const struct process *p, const struct pattern_cfg *cfg)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/config", p->dir);
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fprintf(file,
		"{\"boot-source\":{\"kernel_image_path\":\"%s/"
		"pattern.elf\",\"boot_args\":\"cpus=%u "
		"pages=%llu enter=%u idle=%u\"},\"machine-config\":{\"vcpu_count\":%u,"
		"\"mem_size_mib\":%u}}",
		GUEST_DIR, cfg->cpus, (unsigned long long)cfg->pages, pattern_enter(), cfg->idle,
		cfg->cpus, cfg->mem_mib);
	fclose(file);
}

static inline int process_listen(const struct process *p, struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);

	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(addr->sun_path, sizeof(addr->sun_path), "%s/ctl", p->dir);
	assert_int_equal(bind(fd, (struct sockaddr *)addr, sizeof(*addr)), 0);
	assert_int_equal(listen(fd, 16), 0);
	return fd;
}

_Noreturn static inline void process_exec(const struct process *p, enum process_kind kind,
					  int listen)
{
	char config[64], fd[16];

	snprintf(config, sizeof(config), "%s/config", p->dir);
	snprintf(fd, sizeof(fd), "%d", listen);
	execl(VMM_PATH, VMM_PATH, "--no-api", "--boot-timer", "--config-file", config, "--ctl-fd",
	      fd, kind == PROCESS_EMPTY ? "--empty" : NULL, NULL);
	_exit(99);
}

static inline int process_connect(const struct process *p)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/ctl", p->dir);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static inline void process_start(struct process *p, const struct pattern_cfg *cfg,
				 enum process_kind kind)
{
	struct sockaddr_un addr;

	snprintf(p->dir, sizeof(p->dir), "/tmp/spore-ctl-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	process_config(p, cfg);
	int listen = process_listen(p, &addr);
	p->pid = fork();
	assert_true(p->pid >= 0);
	if (!p->pid)
		process_exec(p, kind, listen);
	close(listen);
	p->sock = process_connect(p);
}

/* One request and its reply, which is in `msg` then.  Return: its status. */
static inline int process_ask(int sock, uint16_t type, const void *body, uint32_t len,
			      const int *fd, unsigned fd_count, struct ctl_msg *msg)
{
	struct errmsg why;

	ctl_msg_clear(msg);
	if (ctl_msg_send(sock, type, 0, body, len, fd, fd_count, &why))
		fail_msg("send: %s", why.text);
	for (int got = 0; got <= 0;) {
		got = ctl_msg_recv(sock, msg, &why);
		if (got < 0)
			fail_msg("receive: %s", why.text);
	}
	assert_int_equal(msg->head.type, type);
	return msg->head.status;
}

static inline struct ctl_status process_status(const struct process *p)
{
	static struct ctl_msg msg;
	struct ctl_status status;

	assert_int_equal(process_ask(p->sock, CTL_STATUS, NULL, 0, NULL, 0, &msg), 0);
	assert_int_equal(msg.head.len, sizeof(status));
	memcpy(&status, msg.body, sizeof(status));
	ctl_msg_clear(&msg);
	return status;
}

/* The reply to a capture as vmm_captured: state and runs are mapped, descriptors are those in `msg`. */
static inline struct vmm_captured process_captured(struct ctl_msg *msg)
{
	struct ctl_captured made;

	memcpy(&made, msg->body, sizeof(made));
	assert_int_equal(msg->fd_count, 2 + made.source_count);
	void *state = mmap(NULL, made.state_len, PROT_READ, MAP_PRIVATE, msg->fd[0], 0);
	void *runs = mmap(NULL, made.run_count * sizeof(struct vmm_run), PROT_READ, MAP_PRIVATE,
			  msg->fd[1], 0);
	assert_ptr_not_equal(state, MAP_FAILED);
	assert_ptr_not_equal(runs, MAP_FAILED);
	return (struct vmm_captured){
		.state = state,
		.state_len = made.state_len,
		.memory = {runs, made.run_count, msg->fd + 2, made.source_count},
		.diff_source = made.diff_source,
		.diff_pages = made.diff_pages,
		.sequence = made.sequence,
		.pause_ns = made.pause_ns,
		.rehomed = made.rehomed,
	};
}

/* A capture as vmm_captured: state and runs are mapped, descriptors are those in `msg`. */
static inline struct vmm_captured process_capture(const struct process *p, uint32_t flags,
						  struct ctl_msg *msg)
{
	const struct ctl_capture ask = {.flags = flags};

	if (process_ask(p->sock, CTL_CAPTURE, &ask, sizeof(ask), NULL, 0, msg))
		fail_msg("capture: %s", (const char *)msg->body);
	return process_captured(msg);
}

static inline void process_captured_free(struct vmm_captured *got, struct ctl_msg *msg)
{
	munmap((void *)(uintptr_t)got->state, got->state_len);
	munmap((void *)(uintptr_t)got->memory.run, got->memory.run_count * sizeof(struct vmm_run));
	ctl_msg_clear(msg);
}

/* Loads what a capture left in `from` into `p`.  Return: the reply's status. */
static inline int process_load(const struct process *p, const struct ctl_msg *from, uint32_t flags,
			       struct ctl_msg *reply)
{
	struct ctl_captured made;
	struct ctl_load load = {.flags = flags};

	memcpy(&made, from->body, sizeof(made));
	load.state_len = made.state_len;
	load.run_count = made.run_count;
	load.source_count = made.source_count;
	return process_ask(p->sock, CTL_LOAD, &load, sizeof(load), from->fd, from->fd_count, reply);
}

/* Return: the exit status; fails when it does not end. */
static inline int process_wait(const struct process *p)
{
	int status;

	for (unsigned ms = 0; waitpid(p->pid, &status, WNOHANG) == 0; ms++) {
		if (ms == VM_LIMIT_MS)
			fail_msg("spore-vmm does not end");
		poll(NULL, 0, 1);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static inline void process_clean(struct process *p)
{
	char path[64];

	close(p->sock);
	snprintf(path, sizeof(path), "%s/ctl", p->dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/config", p->dir);
	unlink(path);
	assert_int_equal(rmdir(p->dir), 0);
}

static inline void process_stop(struct process *p)
{
	static struct ctl_msg msg;

	assert_int_equal(process_ask(p->sock, CTL_STOP, NULL, 0, NULL, 0, &msg), 0);
	assert_int_equal(process_wait(p), 0);
	process_clean(p);
}

#endif
