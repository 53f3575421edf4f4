/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/store/state.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/image/store.h"
#include "supervisor/image/tree.h"

static const char id_letters[] = "23456789abcdefghijkmnpqrstuvwxyz";
static_assert(sizeof(id_letters) - 1 == 32, "five bits a letter");
static_assert(STATE_NAME_MAX == STORE_NAME_MAX, "one rule for names");

static const struct shelf sandboxes = {"sandboxes", "sandbox", "spore ls", "spore rm --force"};
static const struct shelf snapshots = {"snapshots", "snapshot", "spore snapshot ls",
				       "spore snapshot rm"};

static int choose_path(char *out, const char *chosen, struct errmsg *why)
{
	const char *env = getenv("SPORE_STATE"), *xdg = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	int len;

	if (chosen || (env && *env))
		len = snprintf(out, STATE_PATH_MAX, "%s", chosen ? chosen : env);
	else if (xdg && xdg[0] == '/')
		len = snprintf(out, STATE_PATH_MAX, "%s/spore", xdg);
	else if (home && home[0] == '/')
		len = snprintf(out, STATE_PATH_MAX, "%s/.local/state/spore", home);
	else
		return err_set(why, 0, "no folder for sandboxes: HOME is not set"), -ENOENT;
	return len < STATE_PATH_MAX ? 0 : err_set(why, ENAMETOOLONG, "folder of sandboxes");
}

static int open_folder(int at, const char *name, const char *path, struct errmsg *why)
{
	if (mkdirat(at, name, 0700) && errno != EEXIST)
		return err_set(why, errno, "make folder %s/%s", path, name);
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_set(why, errno, "open folder %s/%s", path, name) : fd;
}

int state_open(struct state *out, const char *chosen, struct errmsg *why)
{
	struct state st = {.fd = -1, .shelf_fd = -1, .other_fd = -1, .shelf = &sandboxes};
	int err = choose_path(st.path, chosen, why);

	if (!err)
		err = tree_make(st.path, why);
	if (err)
		return err;
	st.fd = open(st.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (st.fd < 0)
		return err_set(why, errno, "open folder %s", st.path);
	st.shelf_fd = open_folder(st.fd, sandboxes.folder, st.path, why);
	st.other_fd =
		st.shelf_fd < 0 ? st.shelf_fd : open_folder(st.fd, snapshots.folder, st.path, why);
	if (st.other_fd < 0) {
		err = st.other_fd;
		state_close(&st);
		return err;
	}
	*out = st;
	return 0;
}

void state_close(struct state *state)
{
	cleanup_close_fn(&state->other_fd);
	cleanup_close_fn(&state->shelf_fd);
	cleanup_close_fn(&state->fd);
	state->other_fd = state->shelf_fd = state->fd = -1;
}

struct state state_other(const struct state *state)
{
	struct state other = *state;

	other.shelf_fd = state->other_fd;
	other.other_fd = state->shelf_fd;
	other.shelf = state->shelf == &sandboxes ? &snapshots : &sandboxes;
	return other;
}

static int lock_file(const struct state *state, int how)
{
	cleanup_close int fd = openat(state->fd, ".lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int got;

	if (fd < 0)
		return -errno;
	do
		got = flock(fd, how);
	while (got && errno == EINTR);
	return got ? -errno : steal_fd(&fd);
}

int state_lock(const struct state *state, struct errmsg *why)
{
	int fd = lock_file(state, LOCK_EX);

	return fd < 0 ? err_set(why, fd, "%s/.lock", state->path) : fd;
}

int state_try_lock(const struct state *state)
{
	return lock_file(state, LOCK_EX | LOCK_NB);
}

int state_new_id(char id[static STATE_ID_MAX], struct errmsg *why)
{
	uint8_t random[STATE_ID_LEN];

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return err_set(why, errno, "getrandom");
	for (size_t i = 0; i < STATE_ID_LEN; i++)
		id[i] = id_letters[random[i] % (sizeof(id_letters) - 1)];
	id[STATE_ID_LEN] = '\0';
	return 0;
}

int state_id_prefix(const char *text)
{
	size_t len = strlen(text);

	return len > 0 && len <= STATE_ID_LEN && strspn(text, id_letters) == len;
}

int state_name_check(const char *name, struct errmsg *why)
{
	if (store_name_good(name))
		return 0;
	return err_set(why, 0,
		       "'%s' is no name for a sandbox: small letters, digits, '.', '_' and '-', "
		       "at most %d",
		       name, STATE_NAME_MAX - 1);
}
