/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ram.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vmm/layout.h"

#define MIB (UINT64_C(1) << 20)

/* More than the machine has is a slip of the pen (or 1 TiB): say so now, not by an OOM kill later. */
static int ram_check_size(uint64_t mib, struct errmsg *why)
{
	uint64_t host_mib =
		(uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / MIB;

	if (mib == 0)
		return err_set(why, 0, "guest memory of 0 MiB: at least 1 MiB is needed");
	if (mib > host_mib)
		return err_set(why, 0,
			       "guest memory of %llu MiB is more than this host has (%llu MiB)",
			       (unsigned long long)mib, (unsigned long long)host_mib);
	return 0;
}

int ram_create(struct ram *ram, uint64_t mib, struct errmsg *why)
{
	*ram = (struct ram){.fd = -1};
	int err = ram_check_size(mib, why);
	if (err)
		return err;
	cleanup_close int fd = memfd_create("guest-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return err_set(why, errno, "guest memory: memfd_create");
	if (ftruncate(fd, (off_t)(mib * MIB)))
		return err_set(why, errno, "guest memory: %llu MiB", (unsigned long long)mib);
	void *map =
		mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (map == MAP_FAILED)
		return err_set(why, errno, "guest memory: mmap of %llu MiB",
			       (unsigned long long)mib);
	/* Neither in core dumps, nor in a child that forgot to exec. */
	madvise(map, mib * MIB, MADV_DONTDUMP);
	*ram = (struct ram){.fd = steal_fd(&fd), .map = map, .size = mib * MIB};
	return 0;
}

void ram_destroy(struct ram *ram)
{
	if (ram->map)
		munmap(ram->map, ram->size);
	if (ram->fd >= 0)
		close(ram->fd);
	*ram = (struct ram){.fd = -1};
}

int ram_describe(const struct ram *ram, struct gmem *gm, struct errmsg *why)
{
	uint64_t low = layout_low_size(ram->size), high = layout_high_size(ram->size);

	int err = gm_add(gm, gpa(0), ram_region_host(ram, 0), low);
	if (!err && high)
		err = gm_add(gm, gpa(LAYOUT_HIGH), ram_region_host(ram, 1), high);
	if (err)
		return err_set(why, err, "guest memory: regions");
	gm_set_file(gm, 0, ram->fd, 0);
	if (high)
		gm_set_file(gm, 1, ram->fd, low);
	return 0;
}

void *ram_region_host(const struct ram *ram, unsigned index)
{
	assert(index < 2);
	return (uint8_t *)ram->map + (index ? layout_low_size(ram->size) : 0);
}
