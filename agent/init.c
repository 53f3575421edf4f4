/* SPDX-License-Identifier: Apache-2.0 */
/*
 * init.c - what the agent does as PID 1
 *
 * Twice, perhaps: as /init of an initramfs it mounts the root device that the kernel command line
 * names, moves the mounts over, empties the initramfs and runs itself again from there (the root's
 * own copy if it has one, else the one in memory).  Without root= it stays where it is.
 *
 * Down again: SIGTERM to all, SIGKILL, sync, root read-only, reboot(2).  "Power off" of a machine
 * whose kernel was told reboot=k is a reset through the keyboard controller, which the VMM takes
 * as the end; both go through RB_AUTOBOOT or RB_POWER_OFF as asked.
 */
#include "agent/agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define NEW_ROOT        "/newroot"
#define SELF_PATH       "/sbin/spore-agent"
#define ROOT_WAIT_MS    5000 /* for the root device to appear */
#define KILL_WAIT_MS    2000 /* after SIGKILL to all */
#define RAMFS_MAGIC_ID  0x858458f6
#define TMPFS_MAGIC_ID  0x01021994
#define CMDLINE_MAX     4096
#define PURGE_DEPTH_MAX 32

struct boot {
	char text[CMDLINE_MAX];
	const char *root;
	const char *type;
	const char *flags;
	const char *net; /* "ADDRESS/BITS,GATEWAY,NAMESERVER" */
	bool writable;
};

static void say(const char *what, const char *object, int err)
{
	dprintf(2, "spore-agent: %s %s%s%s\n", what, object, err ? ": " : "",
		err ? strerror(err) : "");
}

static int mount_at(const char *source, const char *target, const char *type, unsigned long flags,
		    const char *data)
{
	mkdir(target, 0755);
	if (mount(source, target, type, flags, data) < 0 && errno != EBUSY) {
		say("mount", target, errno);
		return -errno;
	}
	return 0;
}

static void mount_kernel(void)
{
	mount_at("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	mount_at("dev", "/dev", "devtmpfs", MS_NOSUID, "mode=0755");
}

/* Standard streams on the console; the kernel opens none when its initramfs lacks the node. */
static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);

	for (int i = 0; fd >= 0 && i < 3; i++) {
		if (fd != i)
			dup2(fd, i);
	}
	if (fd > 2)
		close(fd);
}

static void read_cmdline(struct boot *boot)
{
	cleanup_close int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, boot->text, sizeof(boot->text) - 1);
	char *rest = boot->text;
	char *word;

	boot->text[n > 0 ? n : 0] = '\0';
	boot->writable = true;
	while ((word = strsep(&rest, " \t\n"))) {
		if (strcmp(word, "--") == 0)
			break;
		if (strncmp(word, "root=", 5) == 0)
			boot->root = word + 5;
		else if (strncmp(word, "rootfstype=", 11) == 0)
			boot->type = word + 11;
		else if (strncmp(word, "rootflags=", 10) == 0)
			boot->flags = word + 10;
		else if (strncmp(word, "spore.net=", 10) == 0)
			boot->net = word + 10;
		else if (strcmp(word, "ro") == 0)
			boot->writable = false;
		else if (strcmp(word, "rw") == 0)
			boot->writable = true;
	}
}

static bool wait_for(const char *path)
{
	uint64_t end = now_ms() + ROOT_WAIT_MS;
	const struct timespec nap = {.tv_nsec = 2000000};

	while (access(path, F_OK) < 0) {
		if (now_ms() >= end)
			return false;
		nanosleep(&nap, NULL);
	}
	return true;
}

static int mount_root(const struct boot *boot)
{
	static const char *const types[] = {"ext4", "erofs", "squashfs", "xfs", "btrfs"};
	unsigned long flags = boot->writable ? 0 : MS_RDONLY;
	int err = EINVAL;

	mkdir(NEW_ROOT, 0755);
	if (boot->type)
		return mount(boot->root, NEW_ROOT, boot->type, flags, boot->flags) < 0 ? -errno : 0;
	for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
		if (mount(boot->root, NEW_ROOT, types[i], flags, boot->flags) == 0)
			return 0;
		if (errno != ENODEV && errno != EINVAL)
			err = errno;
	}
	return -err;
}

static void purge_folder(int fd, dev_t dev, unsigned depth);

static void purge_entry(int folder, const char *name, dev_t dev, unsigned depth)
{
	struct stat st;

	if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != dev)
		return; /* never into the new root or another mount */
	if (!S_ISDIR(st.st_mode)) {
		unlinkat(folder, name, 0);
		return;
	}
	int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		purge_folder(fd, dev, depth + 1);
	unlinkat(folder, name, AT_REMOVEDIR);
}

/* Takes fd over. */
static void purge_folder(int fd, dev_t dev, unsigned depth)
{
	DIR *dir = depth < PURGE_DEPTH_MAX ? fdopendir(fd) : NULL;
	const struct dirent *entry;

	if (!dir) {
		close(fd);
		return;
	}
	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			purge_entry(dirfd(dir), entry->d_name, dev, depth);
	}
	closedir(dir);
}

/* The files of the initramfs are memory: free them.  Only after is_initramfs(). */
static void purge_initramfs(int old_root)
{
	struct stat st;

	if (fstat(old_root, &st) == 0)
		purge_folder(old_root, st.st_dev, 0);
	else
		close(old_root);
}

static void move_mount_in(const char *path)
{
	char target[64];

	snprintf(target, sizeof(target), "%s%s", NEW_ROOT, path);
	mkdir(target, 0755); /* fails on a read-only root that has it already: fine */
	if (mount(path, target, NULL, MS_MOVE, NULL) < 0)
		say("move mount", path, errno);
}

/* Runs the agent anew from the root: its own copy, else the one we run from, kept open. */
static void exec_again(int self)
{
	char *const argv[] = {(char[]){"spore-agent"}, NULL};
	char *const env[] = {(char[]){"SPORE_AGENT_ROOTED=1"}, NULL};

	execve(SELF_PATH, argv, env);
	fexecve(self, argv, env);
	say("run", SELF_PATH, errno);
}

static void switch_root(void)
{
	int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int old_root = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	move_mount_in("/dev");
	move_mount_in("/sys");
	move_mount_in("/proc");
	if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0) {
		say("switch to", NEW_ROOT, errno);
		init_power(AGENT_POWER_OFF, 0);
	}
	if (old_root >= 0)
		purge_initramfs(old_root);
	exec_again(self);
	init_power(AGENT_POWER_OFF, 0);
}

static void loopback_up(void)
{
	struct ifreq ifr = {.ifr_name = "lo"};
	cleanup_close int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &ifr) < 0)
		return;
	ifr.ifr_flags |= IFF_UP;
	ioctl(fd, SIOCSIFFLAGS, &ifr);
}

static void set_hostname(void)
{
	char name[65] = "spore";
	cleanup_close int fd = open("/etc/hostname", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, name, sizeof(name) - 1);

	if (n > 0)
		name[n] = '\0';
	name[strcspn(name, " \t\n")] = '\0';
	if (name[0])
		sethostname(name, strlen(name));
}

static bool is_mounted(const char *path)
{
	struct stat here, above;
	char up[64];

	snprintf(up, sizeof(up), "%s/..", path);
	return stat(path, &here) == 0 && stat(up, &above) == 0 && here.st_dev != above.st_dev;
}

static void mount_rest(void)
{
	static const struct {
		const char *target, *type, *data;
		unsigned long flags;
	} table[] = {
		{"/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666", MS_NOSUID | MS_NOEXEC},
		{"/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV},
		{"/run", "tmpfs", "mode=0755,size=20%", MS_NOSUID | MS_NODEV},
		{"/sys/fs/cgroup", "cgroup2", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
	};

	for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
		if (!is_mounted(table[i].target))
			mount_at(table[i].type, table[i].target, table[i].type, table[i].flags,
				 table[i].data);
	}
	mkdir("/run/lock", 0755);
	chmod("/run/lock", 01777);
	/* /tmp stays on disk, where large files belong; without one it is memory. */
	if (access("/tmp", W_OK) < 0)
		mount_at("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777");
	if (symlink("/proc/self/fd", "/dev/fd") == 0) {
		symlink("/proc/self/fd/0", "/dev/stdin");
		symlink("/proc/self/fd/1", "/dev/stdout");
		symlink("/proc/self/fd/2", "/dev/stderr");
	}
}

/* Is / the kernel's first file system, unpacked from an archive? */
static bool is_initramfs(void)
{
	struct statfs fs;

	return statfs("/", &fs) == 0 &&
	       (fs.f_type == RAMFS_MAGIC_ID || fs.f_type == TMPFS_MAGIC_ID);
}

void init_early(void)
{
	struct boot boot = {0};

	/* In a root that an earlier init (or our own first life) set up, proc is there already. */
	if (!is_mounted("/proc"))
		mount_kernel();
	open_console();
	read_cmdline(&boot);
	if (boot.root && !getenv("SPORE_AGENT_ROOTED") && is_initramfs()) {
		if (!wait_for(boot.root)) {
			say("no root disk: waited 5 s for", boot.root, 0);
			init_power(AGENT_POWER_OFF, 0);
		}
		int err = mount_root(&boot);
		if (err < 0) {
			say("cannot mount root disk", boot.root, -err);
			init_power(AGENT_POWER_OFF, 0);
		}
		switch_root();
	}
	setsid();
	mount_rest();
	set_hostname();
	loopback_up();
	if (boot.net)
		network_up(boot.net);
}

/* --- down ------------------------------------------------------------------------------------- */

/* Waits until no child is left, at most so long. */
static void wait_children(uint32_t ms)
{
	uint64_t end = now_ms() + ms;
	const struct timespec nap = {.tv_nsec = 5000000};
	pid_t pid;

	do {
		pid = waitpid(-1, NULL, WNOHANG);
		if (pid == 0)
			nanosleep(&nap, NULL);
	} while (pid >= 0 && now_ms() < end);
}

void init_power(uint32_t mode, uint32_t grace_ms)
{
	if (grace_ms) {
		kill(-1, SIGTERM);
		kill(-1, SIGCONT);
		wait_children(grace_ms);
	}
	kill(-1, SIGKILL);
	wait_children(KILL_WAIT_MS);
	sync();
	umount2("/tmp", MNT_DETACH);
	if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL) < 0)
		sync();
	reboot(mode == AGENT_POWER_REBOOT ? RB_AUTOBOOT : RB_POWER_OFF);
	/* A machine without a power switch only halts: reset it instead. */
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}
