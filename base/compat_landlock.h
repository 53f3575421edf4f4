/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compat_landlock.h - Landlock as of ABI 6 (Linux 6.12), whatever the build's headers know
 *
 * What the running kernel lacks is masked out by the ABI that it reports.
 * Source: Linux Documentation/userspace-api/landlock.rst.
 */
#ifndef SPORE_BASE_COMPAT_LANDLOCK_H
#define SPORE_BASE_COMPAT_LANDLOCK_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define COMPAT_LANDLOCK_FS_ABI1  UINT64_C(0x1fff)    /* execute ... make_sym */
#define COMPAT_LANDLOCK_REFER    (UINT64_C(1) << 13) /* ABI 2 */
#define COMPAT_LANDLOCK_TRUNCATE (UINT64_C(1) << 14) /* ABI 3 */
#define COMPAT_LANDLOCK_IOCTL    (UINT64_C(1) << 15) /* ABI 5: devices opened from now on */
#define COMPAT_LANDLOCK_NET      UINT64_C(3)         /* ABI 4: bind and connect of TCP */
#define COMPAT_LANDLOCK_SCOPE    UINT64_C(3)         /* ABI 6: abstract unix sockets, signals */

struct compat_landlock_attr {
	uint64_t handled_access_fs;
	uint64_t handled_access_net; /* ABI 4 */
	uint64_t scoped;             /* ABI 6 */
};

/* Return: the ABI, or 0 where the kernel has no Landlock or has it switched off. */
static inline int compat_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1u /* version */);
	return abi > 0 ? (int)abi : 0;
}

/* All that `abi` can deny. */
static inline struct compat_landlock_attr compat_landlock_all(int abi)
{
	struct compat_landlock_attr attr = {.handled_access_fs = COMPAT_LANDLOCK_FS_ABI1};

	if (abi >= 2)
		attr.handled_access_fs |= COMPAT_LANDLOCK_REFER;
	if (abi >= 3)
		attr.handled_access_fs |= COMPAT_LANDLOCK_TRUNCATE;
	if (abi >= 4)
		attr.handled_access_net = COMPAT_LANDLOCK_NET;
	if (abi >= 5)
		attr.handled_access_fs |= COMPAT_LANDLOCK_IOCTL;
	if (abi >= 6)
		attr.scoped = COMPAT_LANDLOCK_SCOPE;
	return attr;
}

static inline size_t compat_landlock_attr_size(int abi)
{
	if (abi >= 6)
		return sizeof(struct compat_landlock_attr);
	return abi >= 4 ? offsetof(struct compat_landlock_attr, scoped)
			: offsetof(struct compat_landlock_attr, handled_access_net);
}

/* Return: a ruleset's descriptor or -errno. */
static inline int compat_landlock_create(const struct compat_landlock_attr *attr, int abi)
{
	long fd = syscall(SYS_landlock_create_ruleset, attr, compat_landlock_attr_size(abi), 0u);
	return fd < 0 ? -errno : (int)fd;
}

/* The calling thread and those it makes; needs no_new_privs.  Return: 0 or -errno. */
static inline int compat_landlock_restrict(int fd)
{
	return syscall(SYS_landlock_restrict_self, fd, 0u) ? -errno : 0;
}

#endif
