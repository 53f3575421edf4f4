/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm.h - one spore-vmm process: started, watched, ended
 *
 * Theory: whatever happens to this process, nothing is left.  All that a VM needs is handed over as open
 * file descriptors without a name in any folder: the configuration is a memfd, the writable disk layer
 * an unlinked file, the vsock socket a bound socket whose name was removed at once (this process keeps
 * an O_PATH descriptor of the socket file and connects through /proc/self/fd).  The VMM asks the kernel
 * for SIGKILL when its parent ends.  So a kill -9 at any instant leaves neither process nor file, but
 * for the microseconds between bind() and unlink() of the socket: a folder named spore-XXXXXX.
 *
 * Or the VMM has a folder to live in (home.h) and outlives this process: then each part has a name there,
 * its console and messages are files, and life_vm_attach() finds it again.  Such a VMM has a control socket
 * and can be captured; the same configuration with `empty` makes the VMM that a capture of it loads into.
 *
 * Without a folder, a thread drains the guest's console and the VMM's messages into bounded rings
 * from start to end, so that neither can block the VMM, and the tail is there when something goes wrong.
 *
 * Threads: one owner; life_vm_kill() may be called from any thread between start and destroy.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_VM_H
#define SPORE_SUPERVISOR_LIFECYCLE_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define LIFE_CONSOLE_MAX  65536 /* bytes kept of the console */
#define LIFE_MESSAGES_MAX 4096  /* bytes kept of the VMM's stderr */
#define LIFE_TAIL_LINES   30

/* One network interface behind a connected socket (supervisor/net/passt.h). */
struct life_net {
	int fd; /* > 0; the caller's, to be closed once the VMM has started; 0: no interface */
	bool allow_private;
	const char *dns;     /* IPv4 address that is open at UDP port 53, or NULL */
	const char *gateway; /* IPv4 address that is open altogether, or NULL */
};

/* The folder of a VMM that outlives this process. */
struct life_home {
	int fd;             /* borrowed while the VM is open */
	uint32_t expire_ms; /* the VMM ends by itself after so long; 0: never */
};

struct life_config {
	const char *vmm, *kernel, *initrd;
	const char *image;   /* root file system, read-only underneath; NULL: none */
	const char *kvm;     /* NULL: /dev/kvm */
	const char *args;    /* behind the default kernel command line, or NULL */
	uint32_t cpus;       /* >= 1 */
	uint64_t memory_mib; /* >= 1 */
	bool timings;
	struct life_net net;
	int console_copy_fd;          /* console bytes go there too; -1: nowhere; not with `home` */
	const struct life_home *home; /* NULL: none, it ends with this process */
	bool empty; /* no guest yet: life_load() brings one (load.h); with `home` only */
};

struct life_vm;

/*
 * life_vm_start() - start a VMM and its guest
 * Returns when the process is started, not when the guest is up: life_vm_wait_ready().
 * Bounds: the config is at most 64 KiB.
 * Return: 0; -errno with *why.
 */
int life_vm_start(struct life_vm **out, const struct life_config *cfg, struct errmsg *why);

/*
 * life_vm_attach() - the VMM that lives in a folder
 * It is neither waited for nor killed at the end: life_vm_ending() and the timings are not to be had.
 * Return: 0; -ESRCH none lives there; -errno.
 */
int life_vm_attach(struct life_vm **out, int home_fd, struct errmsg *why);

/* From here on a VMM that was started with a folder goes on when the handle is destroyed. */
void life_vm_keep(struct life_vm *vm);

enum life_event {
	LIFE_TIME = 0, /* timeout_ms went by */
	LIFE_READY,    /* the agent has knocked */
	LIFE_ENDED,    /* the VMM is gone */
};

/* Waits up to timeout_ms (< 0: for ever).  Return: enum life_event, or -errno. */
int life_vm_wait(struct life_vm *vm, int timeout_ms);

/* Readable once the VMM is gone.  Owned by the VM. */
int life_vm_exit_fd(const struct life_vm *vm);
/* The unix socket of the guest's vsock, as a path for connect(2) in this process. */
const char *life_vm_socket(const struct life_vm *vm);

/* SIGKILL, at once.  Any thread, also from a signal handler's thread; idempotent. */
void life_vm_kill(struct life_vm *vm);

/* SIGTERM, then SIGKILL after grace_ms.  Returns when the process is gone and reaped. */
void life_vm_stop(struct life_vm *vm, int grace_ms);

/* After LIFE_ENDED: how it ended, such as "exit status 1" or "killed by signal 9". */
void life_vm_ending(struct life_vm *vm, char *text, size_t cap);

/*
 * life_vm_console(), life_vm_messages() - the last lines, escaped for a terminal
 * @text: out, NUL-terminated, at most `cap` bytes; empty when nothing was printed
 */
void life_vm_console(struct life_vm *vm, char *text, size_t cap);
void life_vm_messages(struct life_vm *vm, char *text, size_t cap);

/* The VMM's own timings (JSON) once it has ended, or "" without cfg->timings. */
void life_vm_timings(struct life_vm *vm, char *text, size_t cap);

/* Kills it if it still runs (and is not kept), reaps it, closes everything.  NULL is fine. */
void life_vm_destroy(struct life_vm *vm);

#endif
