/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ram.h - the memory of a guest, in one or two regions around the gap, one behind the other in the process
 *
 * Generation 0, booted here: one file (a memfd, or one on a tmpfs), mapped shared.  Generation 1: private mappings
 * of files that nobody writes any more: the file of generation 0 once it is frozen, or what a load names.
 * Whoever maps memory privately relies on it: an immutable file has no writable descriptor and no shared mapping
 * in any process, and a memfd is sealed as well.
 *
 * Thread: ctl.
 */
#ifndef SPORE_VMM_RAM_H
#define SPORE_VMM_RAM_H

#include <stdint.h>

#include "base/err.h"
#include "base/gmem.h"

struct ram {
	int fd;       /* for writing; -1: generation 1.  Region 1 follows region 0 in it */
	int read_fd;  /* the same file for reading: what others may map; -1: there is none */
	int mount_fd; /* the tmpfs that they lie on, or -1: a memfd */
	void *map;
	uint64_t size; /* bytes */
};

/*
 * ram_create() - `mib` MiB of zeroes of generation 0; nothing is touched yet
 * Return: 0; -EINVAL more than the host has; -errno.
 */
int ram_create(struct ram *ram, uint64_t mib, struct errmsg *why);

/* Addresses for `mib` MiB, without memory: a load puts it there (plan_map()).  Return: as ram_create(). */
int ram_reserve(struct ram *ram, uint64_t mib, struct errmsg *why);
void ram_destroy(struct ram *ram);

/* A private mapping of the file at fresh addresses, for the VM that moves there.  Return: 0 or -errno. */
int ram_twin(const struct ram *ram, void **map, struct errmsg *why);

/*
 * ram_freeze() - the VM lives at its twin, ram->map, from here on: nobody writes the file any more
 * The file keeps its length, and nobody can write it or map it for writing from here on: by seals, or because no
 * writable descriptor is left.  The shared mapping of generation 0 is there still, and nothing uses it.
 * Return: 0 or -errno: then the file cannot be relied on, and the VM must end.
 */
int ram_freeze(struct ram *ram, struct errmsg *why);

/*
 * ram_unmap() - take down the shared mapping of generation 0, and seal the file against it too
 * Takes time that grows with memory (about 0.2 us a page of 4 KiB), which a capture's client need not wait for.
 */
int ram_unmap(struct ram *ram, void *shared, struct errmsg *why);

/* Describes the regions to `gm`: low memory, and what lies above the gap. */
int ram_describe(const struct ram *ram, struct gmem *gm, struct errmsg *why);

/* Host address of region `index` of ram_describe() when memory begins at `map`, for KVM's memory slot. */
void *ram_region_at(const struct ram *ram, void *map, unsigned index);
void *ram_region_host(const struct ram *ram, unsigned index);

#endif
