/* SPDX-License-Identifier: Apache-2.0 */
/* Making, locking, changing and removing one sandbox.  Finding and settling is in box_find.c. */
#include "supervisor/store/box.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/image/tree.h"
#include "supervisor/lifecycle/home.h"
#include "supervisor/lifecycle/lock.h"
#include "supervisor/store/box_int.h"

#define BUSY_STEP_MS 20
#define ID_TRIES     16

/* --- the lock ------------------------------------------------------------------------------------- */

static void write_doing(int fd, const char *doing)
{
	char text[BOX_DOING_MAX + 16];
	int len =
		snprintf(text, sizeof(text), "%.*s %d\n", BOX_DOING_MAX - 1, doing, (int)getpid());

	/* For people who ask: the lock itself is what counts. */
	if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)len, 0) != len)
		return;
}

/* "pause 1234" -> "pause" and 1234; hostile as every file. */
static int read_doing(int fd, char doing[static BOX_DOING_MAX])
{
	char text[BOX_DOING_MAX + 16];
	int pid = 0;
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	if (sscanf(text, "%31[a-z] %d", doing, &pid) < 1)
		strcpy(doing, "change");
	return pid;
}

int box_try_lock(int fd, const char *doing)
{
	cleanup_close int lock =
		openat(fd, BOX_LOCK_FILE, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int err = lock < 0 ? -errno : lock_take(lock);

	if (err)
		return err;
	write_doing(lock, doing);
	return steal_fd(&lock);
}

bool box_busy(const struct box *box, char doing[static BOX_DOING_MAX])
{
	cleanup_close int fd = openat(box->fd, BOX_LOCK_FILE, O_RDWR | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || !lock_is_held(fd))
		return false;
	read_doing(fd, doing);
	return true;
}

static int busy(const struct box *box, struct errmsg *why)
{
	cleanup_close int fd = openat(box->fd, BOX_LOCK_FILE, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	char doing[BOX_DOING_MAX] = "change";
	int pid = fd >= 0 ? read_doing(fd, doing) : 0;

	err_set(why, 0, "%s %s is busy: another command (%s, process %d) works on it",
		box->shelf->noun, box->meta.id, doing, pid);
	return -EBUSY;
}

static int gone(const struct box *box, struct errmsg *why)
{
	err_set(why, 0, "%s %s was removed meanwhile", box->shelf->noun, box->meta.id);
	return -ENOENT;
}

int box_say(const struct box *box, int err, struct errmsg *why)
{
	char what[ERRMSG_MAX];

	if (!why)
		return err;
	snprintf(what, sizeof(what), "%s", why->text);
	if (err != -EBADMSG)
		return err_wrap(why, err, "%s %s", box->shelf->noun, box->meta.id);
	err_set(why, 0, "%s %s: %s; '%s %s' removes it", box->shelf->noun, box->meta.id, what,
		box->shelf->remove, box->meta.id);
	return err;
}

int box_lock(struct box *box, const char *doing, struct errmsg *why)
{
	struct box_meta now;
	int got = box_try_lock(box->fd, doing);

	assert(box->lock_fd < 0);
	for (int waited = 0; got == -EBUSY && waited < BOX_BUSY_MS; waited += BUSY_STEP_MS) {
		poll(NULL, 0, BUSY_STEP_MS);
		got = box_try_lock(box->fd, doing);
	}
	if (got == -EBUSY)
		return busy(box, why);
	if (got < 0)
		return got == -ENOENT
			       ? gone(box, why)
			       : err_set(why, got, "%s %s: lock", box->shelf->noun, box->meta.id);
	box->lock_fd = got;
	if (box->damaged)
		return 0;
	int err = meta_read(&now, box->fd, box->meta.id, why);
	if (err == -ENOENT)
		return gone(box, why);
	if (err)
		return box_say(box, err, why);
	box->meta = now;
	return 0;
}

/* --- making --------------------------------------------------------------------------------------- */

static int taken(void *arg, struct box *other)
{
	const struct box_meta *wish = arg;

	return !other->damaged && !strcmp(other->meta.name, wish->name) ? -EEXIST : 0;
}

static int check_name(const struct state *st, const struct box_meta *wish, struct errmsg *why)
{
	if (!*wish->name)
		return 0;
	int err = state_name_check(wish->name, why);
	if (err)
		return err;
	err = box_list(st, taken, (void *)(uintptr_t)wish, why);
	if (err == -EEXIST)
		err_set(why, 0, "there is a %s called '%s' already", st->shelf->noun, wish->name);
	return err;
}

/* An id that neither a sandbox nor a snapshot has, and its folder.  Return: the folder, or -errno. */
static int make_folder(const struct state *st, char *id, struct errmsg *why)
{
	for (int i = 0; i < ID_TRIES; i++) {
		int err = state_new_id(id, why);
		if (err)
			return err;
		if (!faccessat(st->other_fd, id, F_OK, AT_SYMLINK_NOFOLLOW))
			continue;
		if (!mkdirat(st->shelf_fd, id, 0700))
			return openat(st->shelf_fd, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (errno != EEXIST)
			break;
	}
	return err_set(why, errno, "make a folder in %s/%s", st->path, st->shelf->folder);
}

int box_create(struct box *out, const struct state *st, const struct box_meta *wish,
	       struct errmsg *why)
{
	struct box box = {.lock_fd = -1, .shelf = st->shelf, .meta = *wish};
	cleanup_close int held = state_lock(st, why);

	if (held < 0)
		return held;
	int err = check_name(st, wish, why);
	if (err)
		return err;
	box.fd = make_folder(st, box.meta.id, why);
	if (box.fd < 0)
		return box.fd;
	box.meta.created_s = time(NULL);
	box.lock_fd = box_try_lock(box.fd, "create");
	err = box.lock_fd < 0
		      ? err_set(why, box.lock_fd, "%s %s: lock", st->shelf->noun, box.meta.id)
		      : box_enter(&box, BOX_CREATING, why);
	if (err)
		box_remove(&box, st, NULL);
	else
		*out = box;
	return err;
}

int box_enter(struct box *box, enum box_state state, struct errmsg *why)
{
	struct box_meta meta = box->meta;

	assert(box->lock_fd >= 0);
	meta.state = state;
	meta.changed_s = time(NULL);
	int err = meta_write(&meta, box->fd, why);
	if (err)
		return err_wrap(why, err, "%s %s", box->shelf->noun, meta.id);
	box->meta = meta;
	return 0;
}

/* --- the end -------------------------------------------------------------------------------------- */

int box_remove(struct box *box, const struct state *st, struct errmsg *why)
{
	char away[sizeof(BOX_GONE_PREFIX) + STATE_ID_MAX];
	int err = home_kill(box->fd, why);

	snprintf(away, sizeof(away), BOX_GONE_PREFIX "%s", box->meta.id);
	/* One step takes it away; what follows only gives back the space. */
	if (!err && renameat(st->shelf_fd, box->meta.id, st->shelf_fd, away))
		err = err_set(why, errno, "%s %s", st->shelf->noun, box->meta.id);
	if (!err)
		err = tree_remove(st->shelf_fd, away, why);
	box_close(box);
	return err;
}

void box_close(struct box *box)
{
	cleanup_close_fn(&box->lock_fd);
	cleanup_close_fn(&box->fd);
	box->lock_fd = box->fd = -1;
}
