/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large pages.  A guest that boots touches memory everywhere: with 4 KiB pages each touch is a nested page
 * fault.  Anonymous memory gets large pages by itself where the host's policy is "always"; a memfd does not,
 * because it lies on the kernel's own tmpfs, whose policy is another switch (shmem_enabled, "never" by default).
 * A tmpfs of our own carries its policy as a mount option, needs no folder when it stays detached, and its file
 * is a memfd but for the seals.  So where the host says "always" and we may mount, memory comes from there.
 * "within_size": no large page reaches beyond the end of guest memory.
 * The detached mount is kept open: closing it waits for all CPUs (1.7 ms), the end of the process does not.
 */
#include "vmm/ram.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vmm/layout.h"

#define MIB        (UINT64_C(1) << 20)
#define LARGE_PAGE (UINT64_C(2) << 20)
#define RAM_NAME   "guest-memory"
#define THP_POLICY "/sys/kernel/mm/transparent_hugepage/enabled"

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

static bool ram_host_wants_large(void)
{
	char text[64] = "";
	cleanup_close int fd = open(THP_POLICY, O_RDONLY | O_CLOEXEC);

	return fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strstr(text, "[always]");
}

/* A detached tmpfs with large pages and room for `bytes`, or -1: then it is a memfd. */
static int ram_mount_large(uint64_t bytes)
{
	char size[32];

	if (!ram_host_wants_large())
		return -1;
	cleanup_close int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	if (fs < 0)
		return -1;
	snprintf(size, sizeof(size), "%llu", (unsigned long long)bytes);
	if (fsconfig(fs, FSCONFIG_SET_STRING, "huge", "within_size", 0) ||
	    fsconfig(fs, FSCONFIG_SET_STRING, "size", size, 0) ||
	    fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		return -1;
	return fsmount(fs, FSMOUNT_CLOEXEC,
		       MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

/* The file that is guest memory, called guest-memory in /proc/PID/maps either way. */
static int ram_open(struct ram *ram, uint64_t bytes)
{
	ram->mount_fd = ram_mount_large(bytes);
	if (ram->mount_fd >= 0) {
		int fd = openat(ram->mount_fd, RAM_NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
				0600);
		if (fd >= 0)
			return fd;
	}
	return memfd_create(RAM_NAME, MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

/* Large pages need addresses that are aligned as they are. */
static void *ram_addresses(uint64_t bytes)
{
	uint64_t room = bytes + LARGE_PAGE;
	uint8_t *at =
		mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return MAP_FAILED;
	uint64_t skip = (LARGE_PAGE - (uintptr_t)at % LARGE_PAGE) % LARGE_PAGE;
	if (skip)
		munmap(at, skip);
	munmap(at + skip + bytes, room - skip - bytes);
	return at + skip;
}

/* Neither in core dumps, nor in a child that forgot to exec. */
static int ram_map(void **map, uint64_t bytes, int fd, int flags, struct errmsg *why)
{
	const int access = PROT_READ | PROT_WRITE;
	void *at = ram_addresses(bytes);
	bool good = at != MAP_FAILED;

	if (good && fd >= 0)
		good = mmap(at, bytes, access, flags | MAP_FIXED | MAP_NORESERVE, fd, 0) == at;
	if (!good) {
		int err = errno;
		if (at != MAP_FAILED)
			munmap(at, bytes);
		return err_set(why, err, "guest memory: mmap of %llu MiB",
			       (unsigned long long)(bytes / MIB));
	}
	madvise(at, bytes, MADV_DONTDUMP);
	*map = at;
	return 0;
}

static int ram_open_read(int fd, struct errmsg *why)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int read_fd = open(path, O_RDONLY | O_CLOEXEC);
	return read_fd < 0 ? err_set(why, errno, "guest memory: open for reading") : read_fd;
}

int ram_create(struct ram *ram, uint64_t mib, struct errmsg *why)
{
	*ram = (struct ram){.fd = -1, .read_fd = -1, .mount_fd = -1};
	int err = ram_check_size(mib, why);
	if (err)
		return err;
	cleanup_close int fd = ram_open(ram, mib * MIB);
	if (fd < 0)
		return err_set(why, errno, "guest memory: memfd_create");
	if (ftruncate(fd, (off_t)(mib * MIB)))
		return err_set(why, errno, "guest memory: %llu MiB", (unsigned long long)mib);
	cleanup_close int read_fd = ram_open_read(fd, why);
	if (read_fd < 0)
		return read_fd;
	err = ram_map(&ram->map, mib * MIB, fd, MAP_SHARED, why);
	if (err)
		return err;
	ram->fd = steal_fd(&fd);
	ram->read_fd = steal_fd(&read_fd);
	ram->size = mib * MIB;
	return 0;
}

int ram_reserve(struct ram *ram, uint64_t mib, struct errmsg *why)
{
	*ram = (struct ram){.fd = -1, .read_fd = -1, .mount_fd = -1};
	int err = ram_check_size(mib, why);
	if (!err)
		err = ram_map(&ram->map, mib * MIB, -1, 0, why);
	ram->size = err ? 0 : mib * MIB;
	return err;
}

int ram_twin(const struct ram *ram, void **map, struct errmsg *why)
{
	return ram_map(map, ram->size, ram->read_fd, MAP_PRIVATE, why);
}

int ram_freeze(struct ram *ram, struct errmsg *why)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE;

	if (ram->mount_fd < 0 && fcntl(ram->fd, F_ADD_SEALS, seals))
		return err_set(why, errno, "guest memory: seal");
	if (ram->mount_fd < 0)
		return 0; /* a sealed descriptor writes nothing; the last seal goes through it */
	close(ram->fd);
	ram->fd = -1;
	return 0;
}

int ram_unmap(struct ram *ram, void *shared, struct errmsg *why)
{
	munmap(shared, ram->size);
	if (ram->fd < 0)
		return 0;
	if (fcntl(ram->fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL))
		return err_set(why, errno, "guest memory: seal");
	close(ram->fd);
	ram->fd = -1;
	return 0;
}

void ram_destroy(struct ram *ram)
{
	if (ram->map)
		munmap(ram->map, ram->size);
	if (ram->fd >= 0)
		close(ram->fd);
	if (ram->read_fd >= 0)
		close(ram->read_fd);
	if (ram->mount_fd >= 0)
		close(ram->mount_fd);
	*ram = (struct ram){.fd = -1, .read_fd = -1, .mount_fd = -1};
}

int ram_describe(const struct ram *ram, struct gmem *gm, struct errmsg *why)
{
	uint64_t low = layout_low_size(ram->size), high = layout_high_size(ram->size);

	int err = gm_add(gm, gpa(0), ram_region_host(ram, 0), low);
	if (!err && high)
		err = gm_add(gm, gpa(LAYOUT_HIGH), ram_region_host(ram, 1), high);
	if (err)
		return err_set(why, err, "guest memory: regions");
	if (ram->fd < 0)
		return 0;
	gm_set_file(gm, 0, ram->fd, 0);
	if (high)
		gm_set_file(gm, 1, ram->fd, low);
	return 0;
}

void *ram_region_at(const struct ram *ram, void *map, unsigned index)
{
	assert(index < 2);
	return (uint8_t *)map + (index ? layout_low_size(ram->size) : 0);
}

void *ram_region_host(const struct ram *ram, unsigned index)
{
	return ram_region_at(ram, ram->map, index);
}
