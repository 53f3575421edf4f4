/* SPDX-License-Identifier: Apache-2.0 */
/* Finding sandboxes, and settling what a killed command left. */
#include "supervisor/store/box.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/dir.h"
#include "supervisor/image/tree.h"
#include "supervisor/lifecycle/home.h"
#include "supervisor/store/box_int.h"

/* --- settling ------------------------------------------------------------------------------------- */

static bool vmm_lives(const struct box *box)
{
	cleanup_close int pidfd = home_vmm(box->fd, NULL, NULL);

	return pidfd >= 0;
}

static bool fits(const struct box *box)
{
	return box->meta.state != BOX_CREATING &&
	       (box->meta.state == BOX_RUNNING) == vmm_lives(box);
}

static int bury(struct box *box)
{
	struct box_meta *m = &box->meta;
	bool over = m->deadline_s && time(NULL) >= m->deadline_s;

	snprintf(m->why, sizeof(m->why), "%s", over ? "its time was over" : "its VMM ended");
	m->deadline_s = 0;
	return box_enter(box, BOX_DEAD, NULL);
}

/* Locked: nobody works on it, and it does not fit. */
static int mend(struct box *box, const struct state *st)
{
	switch (box->meta.state) {
	case BOX_CREATING: return box_remove(box, st, NULL) ? -EBUSY : -ENOENT;
	case BOX_RUNNING: return bury(box);
	default: return home_kill(box->fd, NULL);
	}
}

/*
 * Return: 0 it is as its meta says, or somebody is at work; -ENOENT it was half-made and is gone, and
 * closed.  The lock is given back.
 */
static int settle(struct box *box, const struct state *st)
{
	struct box_meta now;

	if (fits(box))
		return 0;
	int lock = box_try_lock(box->fd, "settle");
	if (lock < 0)
		return 0;
	box->lock_fd = lock;
	int err = meta_read(&now, box->fd, box->meta.id, NULL);
	if (!err)
		box->meta = now;
	if (!err && !fits(box))
		err = mend(box, st);
	if (box->fd >= 0) {
		cleanup_close_fn(&box->lock_fd);
		box->lock_fd = -1;
	}
	return err == -ENOENT ? err : 0;
}

/*
 * A folder without meta.json: its maker is at work, and holds the state's lock or the folder's; or it is
 * gone, and the folder goes as well.
 */
static void remove_unborn(struct box *box, const struct state *st)
{
	cleanup_close int held = state_try_lock(st);

	if (held < 0) {
		box_close(box);
		return;
	}
	box->lock_fd = box_try_lock(box->fd, "settle");
	if (box->lock_fd >= 0 && faccessat(box->fd, "meta.json", F_OK, AT_SYMLINK_NOFOLLOW))
		box_remove(box, st, NULL);
	box_close(box);
}

/*
 * One sandbox by its id.
 * Return: 0 (perhaps damaged: the text in *why); -ENOENT; -errno.
 */
static int open_one(struct box *out, const struct state *st, const char *id, struct errmsg *why)
{
	struct box box = {.lock_fd = -1, .shelf = st->shelf};

	box.fd = openat(st->shelf_fd, id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (box.fd < 0)
		return errno == ENOENT ? -ENOENT
				       : err_set(why, errno, "%s %s", st->shelf->noun, id);
	int err = meta_read(&box.meta, box.fd, id, why);
	if (err) {
		snprintf(box.meta.id, sizeof(box.meta.id), "%s", id);
		box.damaged = true;
		box_say(&box, err, why);
	}
	if (err == -ENOENT)
		remove_unborn(&box, st);
	else if (!err)
		err = settle(&box, st);
	if (err == -ENOENT)
		return err;
	*out = box;
	return 0;
}

/* --- the list ------------------------------------------------------------------------------------- */

static int is_id(const struct dirent *entry)
{
	return strlen(entry->d_name) == STATE_ID_LEN && state_id_prefix(entry->d_name);
}

/* The ids that there are, by name.  Return: how many, or -errno. */
static int scan(const struct state *st, struct dirent ***names, struct errmsg *why)
{
	int count = scandirat(st->shelf_fd, ".", names, is_id, alphasort);

	return count < 0 ? err_set(why, errno, "%s/%s", st->path, st->shelf->folder) : count;
}

static void free_names(struct dirent **names, int count)
{
	for (int i = 0; i < count; i++)
		free(names[i]);
	free(names);
}

int box_list(const struct state *st, box_on on_box, void *arg, struct errmsg *why)
{
	struct dirent **names = NULL;
	struct box box;
	int err = 0, count = scan(st, &names, why);

	if (count < 0)
		return count;
	for (int i = 0; !err && i < count; i++) {
		if (open_one(&box, st, names[i]->d_name, why))
			continue;
		err = on_box(arg, &box);
		box_close(&box);
	}
	free_names(names, count);
	return err;
}

static int pass(void *arg, struct box *box)
{
	(void)arg, (void)box;
	return 0;
}

void box_sweep(const struct state *st)
{
	DIR *dir = dir_names(st->shelf_fd);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (!strncmp(entry->d_name, BOX_GONE_PREFIX, strlen(BOX_GONE_PREFIX)))
			tree_remove(st->shelf_fd, entry->d_name, NULL);
	if (dir)
		closedir(dir);
	box_list(st, pass, NULL, NULL);
}

/* --- by word -------------------------------------------------------------------------------------- */

static int not_found(const struct state *st, const char *word, struct errmsg *why)
{
	err_set(why, 0, "there is no %s '%s'; see '%s'", st->shelf->noun, word, st->shelf->list);
	return -ENOENT;
}

static int ambiguous(const char *word, const char *one, const char *two, struct errmsg *why)
{
	return err_set(why, 0, "'%s' could be %s or %s: give more of the id", word, one, two);
}

struct named {
	const char *name;
	char id[STATE_ID_MAX];
};

static int note_name(void *arg, struct box *box)
{
	struct named *want = arg;

	if (!box->damaged && !strcmp(box->meta.name, want->name))
		strcpy(want->id, box->meta.id);
	return want->id[0] != '\0';
}

static int find_name(const struct state *st, const char *word, char *id, struct errmsg *why)
{
	struct named want = {.name = word};

	if (state_name_check(word, NULL))
		return -ENOENT;
	int err = box_list(st, note_name, &want, why);
	strcpy(id, want.id);
	return err < 0 ? err : want.id[0] ? 0 : -ENOENT;
}

static int find_prefix(const struct state *st, const char *word, char *id, struct errmsg *why)
{
	struct dirent **names = NULL;
	int err = -ENOENT, count = state_id_prefix(word) ? scan(st, &names, why) : -ENOENT;

	if (count < 0)
		return count;
	for (int i = 0; i < count && err != -EINVAL; i++) {
		if (strncmp(names[i]->d_name, word, strlen(word)) != 0)
			continue;
		err = err ? 0 : ambiguous(word, id, names[i]->d_name, why);
		if (!err)
			memcpy(id, names[i]->d_name, STATE_ID_MAX);
	}
	free_names(names, count);
	return err;
}

int box_find(struct box *out, const struct state *st, const char *word, struct errmsg *why)
{
	char id[STATE_ID_MAX] = "";
	int err = -ENOENT;

	if (strlen(word) == STATE_ID_LEN && state_id_prefix(word))
		err = open_one(out, st, word, why);
	if (err != -ENOENT)
		return err;
	err = find_name(st, word, id, why);
	if (err == -ENOENT)
		err = find_prefix(st, word, id, why);
	if (!err)
		err = open_one(out, st, id, why);
	return err == -ENOENT ? not_found(st, word, why) : err;
}
