/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ram.h - the memory of a guest: one memfd (or tmpfs file), mapped once, in one or two regions around the gap
 *
 * Thread: ctl.
 */
#ifndef SPORE_VMM_RAM_H
#define SPORE_VMM_RAM_H

#include <stdint.h>

#include "base/err.h"
#include "base/gmem.h"

struct ram {
	int fd;       /* region 1 follows region 0 in it */
	int mount_fd; /* the tmpfs that `fd` lies on, or -1: a memfd */
	void *map;
	uint64_t size; /* bytes */
};

/*
 * ram_create() - `mib` MiB of zeroes; nothing is touched yet
 * Return: 0; -EINVAL more than the host has; -errno.
 */
int ram_create(struct ram *ram, uint64_t mib, struct errmsg *why);
void ram_destroy(struct ram *ram);

/* Describes the regions to `gm`: low memory, and what lies above the gap. */
int ram_describe(const struct ram *ram, struct gmem *gm, struct errmsg *why);

/* Host address of region `index` of ram_describe(), for KVM's memory slot. */
void *ram_region_host(const struct ram *ram, unsigned index);

#endif
