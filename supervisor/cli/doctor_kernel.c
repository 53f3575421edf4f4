/* SPDX-License-Identifier: Apache-2.0 */
/* Doctor's checks of the host kernel: each asks the kernel by using the interface once. */
#include "supervisor/cli/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/compat_landlock.h"
#include "base/compat_mdwe.h"

static void check_kernel(struct doctor_finding *out)
{
	struct utsname name;
	unsigned major = 0, minor = 0;

	if (uname(&name) || sscanf(name.release, "%u.%u", &major, &minor) != 2) {
		doctor_found(out, DOCTOR_MISSING, "the kernel does not say its version");
		return;
	}
	bool good = major > 6 || (major == 6 && minor >= 1);
	doctor_found(out, good ? DOCTOR_OK : DOCTOR_DEGRADED, "Linux %s", name.release);
}

static int io_uring_probe(int *features)
{
	struct io_uring_params params = {0};
	int fd = (int)syscall(SYS_io_uring_setup, 4u, &params);

	if (fd < 0)
		return -errno;
	*features = (int)params.features;
	close(fd);
	return 0;
}

static void check_io_uring(struct doctor_finding *out)
{
	int features = 0;
	int err = io_uring_probe(&features);

	if (err)
		doctor_found(out, DOCTOR_MISSING, "io_uring_setup: %s", strerror(-err));
	else
		doctor_found(out, DOCTOR_OK, "io_uring, features 0x%x", (unsigned)features);
}

static void check_userfaultfd(struct doctor_finding *out)
{
	cleanup_close int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	cleanup_close int full = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	cleanup_close int user =
		(int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (full >= 0)
		doctor_found(out, DOCTOR_OK, "userfaultfd for all faults%s",
			     device >= 0 ? ", and /dev/userfaultfd" : "");
	else if (device >= 0)
		doctor_found(out, DOCTOR_OK, "by /dev/userfaultfd");
	else if (user >= 0)
		doctor_found(out, DOCTOR_DEGRADED, "for faults of user code only");
	else
		doctor_found(out, DOCTOR_DEGRADED, "none");
}

/* struct pm_scan_arg of Linux 6.7; not in 6.1's headers. */
struct pagemap_scan {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define DOCTOR_PAGEMAP_SCAN _IOWR('f', 16, struct pagemap_scan)
#define PAGE_IS_PRESENT_BIT (UINT64_C(1) << 3)

static void check_pagemap_scan(struct doctor_finding *out)
{
	cleanup_close int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	uint64_t here = (uint64_t)(uintptr_t)out & ~(page - 1);
	uint64_t regions[3];
	struct pagemap_scan scan = {
		.size = sizeof(scan),
		.start = here,
		.end = here + page,
		.vec = (uint64_t)(uintptr_t)regions,
		.vec_len = 1,
		.category_mask = PAGE_IS_PRESENT_BIT,
		.return_mask = PAGE_IS_PRESENT_BIT,
	};

	if (fd >= 0 && ioctl(fd, DOCTOR_PAGEMAP_SCAN, &scan) == 1)
		doctor_found(out, DOCTOR_OK, "PAGEMAP_SCAN answers");
	else
		doctor_found(out, DOCTOR_DEGRADED, "no PAGEMAP_SCAN: %s", strerror(errno));
}

static void check_memfd(struct doctor_finding *out)
{
	cleanup_close int fd = memfd_create("spore-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		doctor_found(out, DOCTOR_MISSING, "memfd_create: %s", strerror(errno));
	else if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE))
		doctor_found(out, DOCTOR_DEGRADED, "memfd without seals: %s", strerror(errno));
	else
		doctor_found(out, DOCTOR_OK, "memfd with seals");
}

static void check_landlock(struct doctor_finding *out)
{
	int abi = compat_landlock_abi();

	if (!abi)
		doctor_found(out, DOCTOR_DEGRADED, "no Landlock: %s", strerror(errno));
	else
		doctor_found(out, DOCTOR_OK, "Landlock ABI %d", abi);
}

static void check_mdwe(struct doctor_finding *out)
{
	if (compat_mdwe_known())
		doctor_found(out, DOCTOR_OK, "memory deny write execute");
	else
		doctor_found(out, DOCTOR_DEGRADED, "no PR_SET_MDWE: %s", strerror(errno));
}

static void check_seccomp(struct doctor_finding *out)
{
	uint32_t action = SECCOMP_RET_KILL_PROCESS;

	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action))
		doctor_found(out, DOCTOR_MISSING, "seccomp: %s", strerror(errno));
	else
		doctor_found(out, DOCTOR_OK, "seccomp filters");
}

/* In a child, because a namespace cannot be left.  Return: 0 or -errno. */
static int try_user_namespace(void)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(unshare(CLONE_NEWUSER) ? errno : 0);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

static void check_user_namespaces(struct doctor_finding *out)
{
	int err = try_user_namespace();

	if (err)
		doctor_found(out, DOCTOR_DEGRADED, "none: %s", strerror(-err));
	else if (geteuid() && access("/usr/bin/newuidmap", X_OK))
		doctor_found(out, DOCTOR_DEGRADED, "with one user id (no newuidmap)");
	else
		doctor_found(out, DOCTOR_OK, "can be made");
}

const struct doctor_check doctor_kernel_checks[] = {
	{"kernel", check_kernel, "tests cover Linux 6.1 and later only",
	 "Debian 12 or later has one"},
	{"io_uring", check_io_uring, "nothing runs: the VMM's event loop is io_uring",
	 "sysctl kernel.io_uring_disabled=0; a container needs a seccomp profile that allows it"},
	{"userfaultfd", check_userfaultfd, "compressed snapshots load eagerly instead of on demand",
	 "give the user access to /dev/userfaultfd, or sysctl vm.unprivileged_userfaultfd=1"},
	{"pagemap_scan", check_pagemap_scan,
	 "pages changed since a restore are found by mincore, which is slower",
	 "Linux 6.7 or later"},
	{"memfd", check_memfd, "nothing runs: guest memory is a memfd",
	 "Linux 5.1 or later; a container needs a seccomp profile that allows memfd_create"},
	{"landlock", check_landlock, "one layer less around the VMM: files",
	 "a kernel with CONFIG_SECURITY_LANDLOCK and landlock in the lsm= list"},
	{"mdwe", check_mdwe,
	 "one layer less around the VMM: only its filters keep memory from becoming executable",
	 "Linux 6.3 or later"},
	{"seccomp", check_seccomp, "the VMM refuses to run unfiltered",
	 "a kernel with CONFIG_SECCOMP_FILTER"},
	{"user_namespaces", check_user_namespaces,
	 "images cannot be built or imported with owners kept, without root",
	 "sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1; apt install uidmap"},
	{.name = NULL},
};
