/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sleep.h - a VM of a folder captured, and put to sleep in files: its memory (keep.h) of the instant at which the top
 * layer of its disk was laid on the others (layers.h)
 *
 * Thread: any; the caller holds the sandbox's lock.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_SLEEP_H
#define SPORE_SUPERVISOR_LIFECYCLE_SLEEP_H

#include "supervisor/lifecycle/ctl.h"
#include "supervisor/lifecycle/layers.h"
#include "supervisor/lifecycle/vm.h"

/* A captured machine, and the way to the VMM that it is of. */
struct sleep {
	struct ctl_client ctl;
	struct ctl_machine machine;
	struct layers sealed; /* its disk at that instant */
};

/*
 * sleep_capture() - capture the VM that lives in a folder, disk and all
 * @flags: CTL_CAPTURE_*
 * sleep_close() in every case.  Return: 0; -errno: the VM goes on as before.
 */
int sleep_capture(struct sleep *s, int home_fd, uint32_t flags, struct errmsg *why);
/*
 * sleep_write() - write the memory of what was captured
 * @home_fd: the VM's folder, whose base it may be an increment on
 * @dir_fd:  where it goes; may be the same
 * Return: 0, durable; -errno: nothing of it is left.
 */
int sleep_write(const struct sleep *s, int home_fd, int dir_fd, uint32_t cpus, struct errmsg *why);
void sleep_close(struct sleep *s);

/*
 * sleep_share() - the sealed layers of one folder in another, by hard links: nothing of them ever changes
 * Return: 0 or -errno: what was made stays in the folder, which is thrown away.
 */
int sleep_share(const struct layers *sealed, int from_fd, int to_fd, struct errmsg *why);

#endif
