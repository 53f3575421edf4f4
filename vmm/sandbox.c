/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.c - the process-wide layers, in the one order that works
 *
 *   1. namespaces     a plain user first needs a user namespace to be allowed the others
 *   2. empty root     mounts end here: Landlock forbids them later
 *   3. capabilities   the bounding set while CAP_SETPCAP is there; then groups, user, and the rest
 *   4. limits         core, descriptors
 *   5. no_new_privs   which Landlock and seccomp ask for
 *   6. Landlock       no path may be opened any more
 *   7. not dumpable   last: it hides our own /proc/self/uid_map from us
 *
 * New namespaces hold nothing of ours: all descriptors were opened outside, and stay usable.
 */
#include "vmm/sandbox.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/compat_landlock.h"
#include "base/compat_mdwe.h"

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

/* Where the new root is mounted for a moment; it exists wherever the maps of a user namespace do. */
#define ROOT_MOUNT "/proc"

/* --- namespaces ----------------------------------------------------------------------------------- */

static int write_file(const char *path, const char *text)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -errno;
}

/* Inside we are who we were outside: one id each, and no others. */
static int map_ids(uid_t uid, gid_t gid)
{
	char line[64];

	snprintf(line, sizeof(line), "%u %u 1", uid, uid);
	int err = write_file("/proc/self/uid_map", line);
	if (!err)
		err = write_file("/proc/self/setgroups", "deny");
	snprintf(line, sizeof(line), "%u %u 1", gid, gid);
	return err ? err : write_file("/proc/self/gid_map", line);
}

static int enter_namespaces(struct sandbox_state *state, struct errmsg *why)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();

	if (unshare(NAMESPACES) == 0) {
		state->namespaces = true;
		return 0;
	}
	if (errno != EPERM || uid == 0)
		return 0; /* a container without CAP_SYS_ADMIN, a kernel without one of them: lost */
	if (unshare(CLONE_NEWUSER | NAMESPACES))
		return 0; /* a host that lets plain users have none: lost */
	int err = map_ids(uid, gid);
	if (err) /* half inside: ids would not be what files and sockets expect */
		return err_set(why, err, "sandbox: maps of the user namespace");
	state->userns = state->namespaces = true;
	return 0;
}

/* --- empty root ----------------------------------------------------------------------------------- */

/* mkdir -p below the new root, which is the working folder. */
static int make_folders(const char *path)
{
	char part[PATH_MAX];
	size_t len = strlen(path);

	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path + 1, i - 1);
		part[i - 1] = '\0';
		if (part[0] && mkdir(part, 0755) && errno != EEXIST)
			return -errno;
	}
	return 0;
}

/* The folder shows up under its old name, with the rights to look nothing up but sockets. */
static int bind_folder(const char *path)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY;
	const char *below = path[1] ? path + 1 : ".";

	int err = make_folders(path);
	if (err)
		return err;
	if (mount(path, below, NULL, MS_BIND, NULL) ||
	    mount(NULL, below, NULL, MS_REMOUNT | MS_BIND | flags, NULL))
		return -errno;
	return 0;
}

/* The folder of `path` as an absolute path; a relative one stands below the working folder `cwd`. */
static int folder_of(const char *path, const char *cwd, char out[static PATH_MAX])
{
	const char *slash = strrchr(path, '/');
	size_t keep = slash ? (size_t)(slash - path) : 0;
	int len;

	if (path[0] == '/')
		len = snprintf(out, PATH_MAX, "%.*s", (int)(keep ? keep : 1), path);
	else
		len = snprintf(out, PATH_MAX, "%s%s%.*s", cwd, keep ? "/" : "", (int)keep, path);
	return len < PATH_MAX ? 0 : -ENAMETOOLONG;
}

static int fill_root(const struct sandbox_cfg *cfg, const char *cwd)
{
	char folder[PATH_MAX];

	if (!cfg->uds_path)
		return 0;
	int err = folder_of(cfg->uds_path, cwd, folder);
	if (err)
		return err;
	if (!strncmp(folder, ROOT_MOUNT "/", sizeof(ROOT_MOUNT)) || !strcmp(folder, "/"))
		return -EINVAL; /* hidden by the new root, or everything: nothing we could bind */
	err = make_folders(cwd);
	return err ? err : bind_folder(folder);
}

/* From the new root, the working folder.  The old one comes to lie on top of it, and is taken off. */
static int leave_old_root(void)
{
	if (syscall(SYS_pivot_root, ".", ".") == 0)
		return umount2(".", MNT_DETACH) ? -errno : 0;
	/* The kernel's first root file system (an initramfs) cannot be moved. */
	return errno == EINVAL && chroot(".") == 0 ? 0 : -errno;
}

static int enter_root(const struct sandbox_cfg *cfg, struct errmsg *why)
{
	char cwd[PATH_MAX];

	if (!getcwd(cwd, sizeof(cwd)))
		return err_set(why, errno, "sandbox: working folder");
	if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL))
		return err_set(why, errno, "sandbox: make mounts private");
	if (mount("none", ROOT_MOUNT, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  "size=64k,mode=755"))
		return err_set(why, errno, "sandbox: mount an empty root");
	if (chdir(ROOT_MOUNT))
		return err_set(why, errno, "sandbox: enter the empty root");
	int err = fill_root(cfg, cwd);
	if (err)
		return err_set(why, err, "sandbox: folder of '%s'", cfg->uds_path);
	int left = leave_old_root();
	if (left)
		return err_set(why, left, "sandbox: change to the empty root");
	if (chdir(cfg->uds_path && cfg->uds_path[0] != '/' ? cwd : "/"))
		return err_set(why, errno, "sandbox: working folder in the empty root");
	/* Of the new root nothing can be changed any more. */
	if (mount(NULL, "/", NULL,
		  MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		return err_set(why, errno, "sandbox: make the root read-only");
	return 0;
}

/* --- user and capabilities ------------------------------------------------------------------------ */

static int become_user(const struct sandbox_cfg *cfg, struct sandbox_state *state,
		       struct errmsg *why)
{
	uid_t uid = cfg->uid ? cfg->uid : SANDBOX_UID;
	gid_t gid = cfg->gid ? cfg->gid : SANDBOX_UID;

	if (geteuid() != 0)
		return 0;
	if (setgroups(0, NULL) || setresgid(gid, gid, gid))
		return err_set(why, errno, "sandbox: become group %u", gid);
	if (setresuid(uid, uid, uid))
		return err_set(why, errno, "sandbox: become user %u", uid);
	state->user_changed = true;
	return 0;
}

static int drop_capabilities(struct errmsg *why)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		return err_set(why, errno, "sandbox: ambient capabilities");
	if (syscall(SYS_capset, &head, none))
		return err_set(why, errno, "sandbox: drop capabilities");
	return 0;
}

/* Without CAP_SETPCAP there is nothing to be had back either: no_new_privs stands before execve(). */
static void empty_bounding_set(void)
{
	for (unsigned long cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
		;
}

/* --- limits, Landlock ----------------------------------------------------------------------------- */

static int limit(__rlimit_resource_t what, rlim_t most, const char *name, struct errmsg *why)
{
	struct rlimit now;

	if (getrlimit(what, &now))
		return err_set(why, errno, "sandbox: limit %s", name);
	if (now.rlim_max > most)
		now.rlim_max = most;
	now.rlim_cur = now.rlim_max;
	return setrlimit(what, &now) ? err_set(why, errno, "sandbox: limit %s", name) : 0;
}

static int limits(struct errmsg *why)
{
	int err = limit(RLIMIT_CORE, 0, "core", why);
	return err ? err : limit(RLIMIT_NOFILE, SANDBOX_NOFILE, "nofile", why);
}

/* A ruleset without a rule: everything that it handles is denied. */
static int close_paths(struct sandbox_state *state, struct errmsg *why)
{
	int abi = compat_landlock_abi();

	if (abi == 0)
		return 0;
	struct compat_landlock_attr all = compat_landlock_all(abi);
	cleanup_close int fd = compat_landlock_create(&all, abi);
	if (fd < 0)
		return err_set(why, fd, "sandbox: Landlock ruleset");
	int err = compat_landlock_restrict(fd);
	if (err)
		return err_set(why, err, "sandbox: Landlock");
	state->landlock_abi = abi;
	return 0;
}

static int close_process(struct sandbox_state *state, struct errmsg *why)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return err_set(why, errno, "sandbox: no_new_privs");
	int err = close_paths(state, why);
	if (err)
		return err;
	state->no_exec_gain = compat_mdwe_refuse_exec_gain();
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return err_set(why, errno, "sandbox: not dumpable");
	return 0;
}

/* --- the whole ------------------------------------------------------------------------------------ */

/*
 * The wish to die with the parent, which the kernel forgets at every change of user, namespace or
 * capabilities (prctl(2), PR_SET_PDEATHSIG).  A parent that went in the meantime is noticed here.
 */
struct parent_wish {
	pid_t parent;
	int signal; /* 0: none */
};

static struct parent_wish parent_wish_read(void)
{
	struct parent_wish wish = {.parent = getppid()};

	if (prctl(PR_GET_PDEATHSIG, &wish.signal, 0, 0, 0))
		wish.signal = 0;
	return wish;
}

static int parent_wish_renew(const struct parent_wish *wish, struct errmsg *why)
{
	if (!wish->signal)
		return 0;
	if (prctl(PR_SET_PDEATHSIG, wish->signal, 0, 0, 0))
		return err_set(why, errno, "sandbox: signal at the parent's end");
	if (getppid() != wish->parent)
		return err_set(why, ESRCH, "sandbox: the parent has ended");
	return 0;
}

int sandbox_process(const struct sandbox_cfg *cfg, struct sandbox_state *out, struct errmsg *why)
{
	const struct parent_wish wish = parent_wish_read();
	struct sandbox_state state = {0};
	int err = 0;

	if (!cfg->no_namespaces)
		err = enter_namespaces(&state, why);
	if (!err && state.namespaces) {
		err = enter_root(cfg, why);
		state.empty_root = !err;
	}
	if (err)
		return err;
	empty_bounding_set();
	err = become_user(cfg, &state, why);
	if (!err)
		err = drop_capabilities(why);
	if (!err)
		err = parent_wish_renew(&wish, why);
	if (!err)
		err = limits(why);
	if (!err)
		err = close_process(&state, why);
	if (!err && out)
		*out = state;
	return err;
}

void sandbox_describe(const struct sandbox_state *state, char text[static SANDBOX_TEXT_MAX])
{
	char landlock[32] = "no Landlock";

	if (state->landlock_abi)
		snprintf(landlock, sizeof(landlock), "Landlock ABI %d", state->landlock_abi);
	snprintf(text, SANDBOX_TEXT_MAX,
		 "user=%s namespaces=%s root=%s %s mdwe=%s no_new_privs capabilities=none",
		 state->user_changed ? "changed" : "same",
		 state->userns       ? "user,mount,net,ipc,uts"
		 : state->namespaces ? "mount,net,ipc,uts"
				     : "none (not permitted)",
		 state->empty_root ? "empty" : "the host's", landlock,
		 state->no_exec_gain ? "yes" : "no");
}
