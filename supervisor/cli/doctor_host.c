/* SPDX-License-Identifier: Apache-2.0 */
/* Doctor's checks of what surrounds the kernel: groups, devices, memory, disk, Spore's own files. */
#include "supervisor/cli/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/image/store.h"
#include "supervisor/net/passt.h"
#include "supervisor/lifecycle/files.h"

#define MIB UINT64_C(1048576)

static int read_text(const char *path, char *buf, size_t cap)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, buf, cap - 1);
	if (n < 0)
		return -errno;
	buf[n] = '\0';
	while (n > 0 && buf[n - 1] == '\n')
		buf[--n] = '\0';
	return 0;
}

/* The folder of this process in the unified hierarchy, wherever that is mounted. */
static int own_cgroup(char *path, size_t cap)
{
	char text[4096];
	const char *root = access("/sys/fs/cgroup/cgroup.controllers", F_OK)
				   ? "/sys/fs/cgroup/unified"
				   : "/sys/fs/cgroup";

	if (access(root, F_OK) || read_text("/proc/self/cgroup", text, sizeof(text)))
		return -ENOENT;
	char *at = strncmp(text, "0::", 3) ? strstr(text, "\n0::") : text;
	if (!at)
		return -ENOENT;
	at += *at == '\n' ? 4 : 3;
	at[strcspn(at, "\n")] = '\0';
	return snprintf(path, cap, "%s%s", root, at) < (int)cap ? 0 : -ENAMETOOLONG;
}

static void check_cgroup(struct doctor_finding *out)
{
	char path[512], file[560], list[192] = "";

	if (own_cgroup(path, sizeof(path))) {
		doctor_found(out, DOCTOR_DEGRADED, "no cgroup v2 hierarchy");
		return;
	}
	snprintf(file, sizeof(file), "%s/cgroup.controllers", path);
	if (read_text(file, list, sizeof(list)) || !*list)
		doctor_found(out, DOCTOR_DEGRADED, "cgroup v2 without controllers");
	else if (access(path, W_OK))
		doctor_found(out, DOCTOR_DEGRADED, "cgroup v2, not delegated to this user");
	else if (!strstr(list, "cpu") || !strstr(list, "memory"))
		doctor_found(out, DOCTOR_DEGRADED, "cgroup v2, only with: %s", list);
	else
		doctor_found(out, DOCTOR_OK, "cgroup v2, delegated: %s", list);
}

static void check_network(struct doctor_finding *out)
{
	char path[512];

	if (passt_find(path, sizeof(path)))
		doctor_found(out, DOCTOR_OK, "%s", path);
	else
		doctor_found(out, DOCTOR_DEGRADED,
			     "passt is not installed: guests have no network");
}

static void check_hugepages(struct doctor_finding *out)
{
	char thp[128] = "absent", shmem[128] = "absent";

	read_text("/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof(thp));
	read_text("/sys/kernel/mm/transparent_hugepage/shmem_enabled", shmem, sizeof(shmem));
	bool never = strstr(shmem, "[never]") || !strcmp(shmem, "absent");
	doctor_found(out, never ? DOCTOR_DEGRADED : DOCTOR_OK, "anonymous %s; shared %s", thp,
		     shmem);
}

static uint64_t meminfo_mib(const char *key)
{
	char text[4096];
	const char *at;

	if (read_text("/proc/meminfo", text, sizeof(text)) || !(at = strstr(text, key)))
		return 0;
	return strtoull(at + strlen(key), NULL, 10) / 1024;
}

static void check_memory(struct doctor_finding *out)
{
	uint64_t free_mib = meminfo_mib("MemAvailable:");

	doctor_found(out, free_mib >= 512 ? DOCTOR_OK : DOCTOR_DEGRADED,
		     "%llu MiB available of %llu MiB", (unsigned long long)free_mib,
		     (unsigned long long)meminfo_mib("MemTotal:"));
}

/* The nearest folder that exists: the store may not have been made yet. */
static int nearest_statvfs(const char *path, struct statvfs *fs)
{
	char at[STORE_PATH_MAX];

	snprintf(at, sizeof(at), "%s", path);
	while (statvfs(at, fs)) {
		char *slash = strrchr(at, '/');
		if (!slash || slash == at)
			return statvfs("/", fs);
		*slash = '\0';
	}
	return 0;
}

static void check_disk(struct doctor_finding *out)
{
	char root[STORE_PATH_MAX];
	struct statvfs fs;

	if (store_root(root, NULL) || nearest_statvfs(root, &fs)) {
		doctor_found(out, DOCTOR_MISSING, "no folder for images: HOME is not set");
		return;
	}
	uint64_t mib = (uint64_t)fs.f_bavail * fs.f_frsize / MIB;
	doctor_found(out, mib >= 2048 ? DOCTOR_OK : DOCTOR_DEGRADED, "%llu MiB free for %s",
		     (unsigned long long)mib, root);
}

static void check_files(struct doctor_finding *out)
{
	struct life_files files;
	struct errmsg why;

	if (life_files_find(&files, &why))
		doctor_found(out, DOCTOR_MISSING, "%s", why.text);
	else
		doctor_found(out, DOCTOR_OK, "spore-vmm %s, kernel %s", files.vmm, files.kernel);
}

static void check_image(struct doctor_finding *out)
{
	char path[STORE_PATH_MAX];
	struct errmsg why;

	if (store_resolve(STORE_DEFAULT_IMAGE, path, &why))
		doctor_found(out, DOCTOR_DEGRADED, "%s", why.text);
	else
		doctor_found(out, DOCTOR_OK, "%s", path);
}

const struct doctor_check doctor_host_checks[] = {
	{"cgroup", check_cgroup, "no limits and no accounting of a sandbox's CPU and memory",
	 "run under a systemd user session with Delegate=yes, or as root with cgroup v2 mounted"},
	{"network", check_network, "no sandbox reaches the network, or is reached by it",
	 "a later version brings it"},
	{"hugepages", check_hugepages, "guest memory in small pages: more page faults",
	 "echo advise >/sys/kernel/mm/transparent_hugepage/shmem_enabled"},
	{"memory", check_memory, "few sandboxes fit", "free some"},
	{"disk", check_disk, "images do not fit",
	 "free some, or point XDG_DATA_HOME to another file system"},
	{"files", check_files, "nothing runs", "make, then make install, or set SPORE_KERNEL"},
	{"image", check_image, "`spore run` needs --image", "spore image build"},
	{.name = NULL},
};
