/* SPDX-License-Identifier: Apache-2.0 */
/*
 * home.h - the folder of a VMM that outlives the command that started it
 *
 *   vmm           its process id, written by the process itself before it becomes spore-vmm, which holds a
 *                 lock on this file (an open file description that nobody else keeps): locked = alive
 *   vsock.sock    the guest's vsock
 *   ctl.sock      the control socket of the VMM (wire/ctl.h)
 *   console.log   the guest's console, a ring of fixed size (wire/conlog.h)
 *   vmm.log       the VMM's own messages, which it bounds
 *   disk-N.cow    the writable layers of the disk, from the bottom: sealed but for the last (layers.h)
 *
 * Thread: any; no globals.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_HOME_H
#define SPORE_SUPERVISOR_LIFECYCLE_HOME_H

#include <stddef.h>

#include "base/err.h"
#include "supervisor/lifecycle/vm_parts.h"

#define HOME_VMM      "vmm"
#define HOME_SOCKET   "vsock.sock"
#define HOME_CTL      "ctl.sock"
#define HOME_CONSOLE  "console.log"
#define HOME_MESSAGES "vmm.log"
#define HOME_LAYER    "disk-0.cow"

#define HOME_CONSOLE_CAP (256u << 10) /* bytes of console kept */

/*
 * home_parts() - what the VMM gets from the folder, made where it is not there
 * Fills the layer (when there is an image, and a guest to boot), the listening sockets, the lock, the console and the messages
 * in `parts`.
 * Return: 0; -EBUSY a VMM lives there; -errno.
 */
int home_parts(struct life_parts *parts, int home_fd, const struct life_config *cfg,
	       struct errmsg *why);

/*
 * home_vmm() - the VMM that lives there
 * @pid: out, or NULL
 * Return: a pidfd, which is sure to be the VMM's; -ESRCH none lives; -errno.
 */
int home_vmm(int home_fd, int *pid, struct errmsg *why);

/* SIGKILL to the VMM, if one lives, and waits for its end.  Return: 0; -ETIMEDOUT; -errno. */
int home_kill(int home_fd, struct errmsg *why);

/* The sockets in the folder as a path for connect(2), valid while home_fd is open.  @out: 48 bytes. */
void home_socket(int home_fd, char out[static 48]);
void home_ctl(int home_fd, char out[static 48]);

/* The last lines of the console and of the messages, fit for a terminal.  "" when there are none. */
void home_console(int home_fd, unsigned lines, char *text, size_t cap);
void home_messages(int home_fd, unsigned lines, char *text, size_t cap);

#endif
