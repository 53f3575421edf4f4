/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm_parts.h - the descriptors that a VMM is started with
 *
 * In the VMM they stand at fixed numbers, which the configuration names as /proc/self/fd/N.
 * Thread: the one that starts the VM.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_VM_PARTS_H
#define SPORE_SUPERVISOR_LIFECYCLE_VM_PARTS_H

#include "supervisor/lifecycle/vm.h"

enum life_fd {
	LIFE_FD_CONFIG = 3,
	LIFE_FD_IMAGE,
	LIFE_FD_OVERLAY,
	LIFE_FD_LISTEN,
	LIFE_FD_READY,
	LIFE_FD_TIMINGS,
	LIFE_FD_CONSOLE, /* a console log: only in the folder of a sandbox (home.h) */
	LIFE_FD_ALIVE,   /* the same: the VMM keeps it, and does nothing with it */
	LIFE_FD_NET,
	LIFE_FD_CTL, /* the control socket, listening: likewise */
	LIFE_FD_END,
};

#define LIFE_BACKLOG 64

struct life_parts {
	int fd[LIFE_FD_END];               /* by enum life_fd; -1: not given */
	int console_write, messages_write; /* stdout and stderr of the VMM; -1: /dev/null */
};

/* The configuration as a memfd.  Return: a descriptor, or -errno. */
int life_config_fd(const struct life_config *cfg, struct errmsg *why);
/* The image, read-only and locked as shared.  Return: a descriptor, or -errno. */
int life_image_fd(const char *path, struct errmsg *why);
/* An empty file without a name, for the writable layer.  Return: a descriptor, or -errno. */
int life_overlay_fd(struct errmsg *why);
/*
 * A listening unix socket whose name is already gone.
 * @socket_fd: out: an O_PATH descriptor of it: connect(2) to /proc/self/fd/N reaches it
 * Return: a descriptor, or -errno.
 */
int life_listen_fd(int *socket_fd, struct errmsg *why);

/*
 * life_spawn() - start the VMM
 * It ends with this process, unless cfg->home says that it has a folder to live on in; then it writes its
 * number to LIFE_FD_ALIVE first.
 * @pid, @pidfd: out.  The parts stay the caller's.  Return: 0 or -errno.
 */
int life_spawn(const struct life_config *cfg, const struct life_parts *parts, int *pid, int *pidfd,
	       struct errmsg *why);

#endif
