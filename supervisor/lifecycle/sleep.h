/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sleep.h - a VM of a folder captured, put to sleep in a file, and woken from it
 *
 *   memory.snap   the machine's state and memory (snapshot/image.h), of the instant at which the top layer of its
 *                 disk was laid on the others (layers.h)
 *
 * Thread: any; the caller holds the sandbox's lock.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_SLEEP_H
#define SPORE_SUPERVISOR_LIFECYCLE_SLEEP_H

#include "supervisor/lifecycle/ctl.h"
#include "supervisor/lifecycle/layers.h"
#include "supervisor/lifecycle/vm.h"

#define SLEEP_IMAGE "memory.snap"

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
/* Writes what was captured into a folder, durable when it returns.  Return: 0 or -errno: nothing is left. */
int sleep_write(const struct sleep *s, int dir_fd, uint32_t cpus, struct errmsg *why);
void sleep_close(struct sleep *s);

/* What a VM is woken from. */
struct sleep_source {
	const void *state;
	size_t state_len;
	const struct snap_plan *plan;
	const char *image;           /* below the disk's layers */
	const struct layers *layers; /* with their top */
};

/*
 * sleep_share() - the sealed layers of one folder in another, by hard links: nothing of them ever changes
 * Return: 0 or -errno: what was made stays in the folder, which is thrown away.
 */
int sleep_share(const struct layers *sealed, int from_fd, int to_fd, struct errmsg *why);

/*
 * sleep_load() - put a machine into the empty VMM of a folder, and let it run
 * @flags: CTL_LOAD_*, besides CTL_LOAD_RUN
 * Return: 0, -errno: the VMM is of no use then.
 */
int sleep_load(int home_fd, const struct sleep_source *from, uint32_t flags, struct errmsg *why);
/* The same from SLEEP_IMAGE of the folder and its sealed layers, with an empty top. */
int sleep_load_file(int home_fd, const char *image, uint32_t flags, struct errmsg *why);

#endif
