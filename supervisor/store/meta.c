/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/store/meta.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define META_FILE "meta.json"
#define META_PART "meta.json.part"
#define CPUS_MAX  32
#define MIB_MAX   (INT64_C(1) << 20) /* 1 TiB */

static const char *const states[BOX_STATES] = {"creating", "running", "paused", "dead"};
static const char *const timeouts[BOX_TIMEOUTS] = {"kill", "pause"};

const char *meta_state_name(enum box_state state)
{
	return states[state];
}

const char *meta_timeout_name(enum box_timeout what)
{
	return timeouts[what];
}

/* The index of `text`, or -EINVAL. */
static int index_of(const char *text, const char *const *names, int count)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(text, names[i]))
			return i;
	return -EINVAL;
}

int meta_timeout_parse(const char *text, enum box_timeout *out)
{
	int i = index_of(text, timeouts, BOX_TIMEOUTS);

	if (i < 0)
		return i;
	*out = (enum box_timeout)i;
	return 0;
}

int meta_set_name(struct box_meta *meta, const char *name, struct errmsg *why)
{
	bool none = !name || !*name;
	int err = none ? 0 : state_name_check(name, why);

	if (!err)
		strcpy(meta->name, none ? "" : name);
	return err;
}

int meta_descend(struct box_meta *out, const struct box_meta *from, const char *name,
		 struct errmsg *why)
{
	*out = *from;
	strcpy(out->origin, from->id);
	out->why[0] = '\0';
	out->deadline_s = 0;
	return meta_set_name(out, name, why);
}

/* --- reading -------------------------------------------------------------------------------------- */

/* The file in memory, or NULL with *err. */
static char *read_text(int dir_fd, size_t *len, int *err)
{
	cleanup_close int fd =
		openat(dir_fd, META_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	cleanup_free char *text = malloc(META_BYTES_MAX + 1);
	struct stat st;

	*len = 0;
	*err = fd < 0 || fstat(fd, &st) ? -errno : text ? 0 : -ENOMEM;
	if (!*err && (!S_ISREG(st.st_mode) || st.st_size > META_BYTES_MAX))
		*err = -EBADMSG;
	while (!*err && *len <= META_BYTES_MAX) {
		ssize_t n = read(fd, text + *len, META_BYTES_MAX + 1 - *len);
		if (n == 0)
			return steal_ptr(&text);
		*err = n < 0 && errno != EINTR ? -errno : 0;
		*len += n > 0 ? (size_t)n : 0;
	}
	*err = *err ? *err : -EBADMSG;
	return NULL;
}

static bool take_text(char *out, size_t cap, const json_t *root, const char *key)
{
	const char *text = json_string_value(json_object_get(root, key));

	if (!text || strlen(text) >= cap)
		return false;
	strcpy(out, text);
	return true;
}

/* A key that older files do not have. */
static bool take_id(char *out, const json_t *root, const char *key)
{
	*out = '\0';
	return !json_object_get(root, key) ||
	       (take_text(out, STATE_ID_MAX, root, key) && (!*out || state_id_prefix(out)));
}

static bool take_path(char *out, const json_t *root, const char *key)
{
	return take_text(out, META_PATH_MAX, root, key) && (!*out || *out == '/');
}

static bool take_number(int64_t *out, const json_t *root, const char *key, int64_t min, int64_t max)
{
	const json_t *value = json_object_get(root, key);

	*out = json_integer_value(value);
	return json_is_integer(value) && *out >= min && *out <= max;
}

static bool take_word(int *out, const json_t *root, const char *key, const char *const *names,
		      int count)
{
	const char *text = json_string_value(json_object_get(root, key));

	*out = text ? index_of(text, names, count) : -EINVAL;
	return *out >= 0;
}

/* Every key is there, of its type and within its bounds. */
static bool take_all(struct box_meta *to, const json_t *root)
{
	int64_t cpus, mib, timeout;
	int state, on_timeout;

	if (!take_text(to->id, sizeof(to->id), root, "id") ||
	    !take_text(to->name, sizeof(to->name), root, "name") ||
	    !take_text(to->why, sizeof(to->why), root, "why") ||
	    !take_id(to->origin, root, "origin") || !take_path(to->image, root, "image") ||
	    !take_path(to->kernel, root, "kernel") || !take_path(to->initrd, root, "initrd") ||
	    !take_word(&state, root, "state", states, BOX_STATES) ||
	    !take_word(&on_timeout, root, "on_timeout", timeouts, BOX_TIMEOUTS) ||
	    !take_number(&cpus, root, "cpus", 1, CPUS_MAX) ||
	    !take_number(&mib, root, "memory_mib", 1, MIB_MAX) ||
	    !take_number(&timeout, root, "timeout_ms", 0, UINT32_MAX - 1) ||
	    !take_number(&to->deadline_s, root, "deadline", 0, INT64_MAX) ||
	    !take_number(&to->created_s, root, "created", 0, INT64_MAX) ||
	    !take_number(&to->changed_s, root, "changed", 0, INT64_MAX))
		return false;
	to->state = (enum box_state)state;
	to->on_timeout = (enum box_timeout)on_timeout;
	to->cpus = (uint32_t)cpus;
	to->memory_mib = (uint64_t)mib;
	to->timeout_ms = (uint64_t)timeout;
	return !*to->name || !state_name_check(to->name, NULL);
}

static int damaged(struct errmsg *why)
{
	err_set(why, 0, "its " META_FILE " is damaged");
	return -EBADMSG;
}

int meta_read(struct box_meta *out, int dir_fd, const char *id, struct errmsg *why)
{
	struct box_meta meta = {.id = ""};
	int64_t version = 0;
	size_t len;
	int err;
	cleanup_free char *text = read_text(dir_fd, &len, &err);

	if (!text)
		return err == -EBADMSG || err == -ELOOP ? damaged(why)
							: err_set(why, err, META_FILE);
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	bool numbered = take_number(&version, root, "version", 1, INT64_MAX);
	bool good = numbered && version == META_VERSION && take_all(&meta, root);
	json_decref(root);
	if (numbered && version > META_VERSION)
		return err_set(why, 0, "it was made by a newer Spore"), -EBADMSG;
	if (!good || strcmp(meta.id, id) != 0)
		return damaged(why);
	*out = meta;
	return 0;
}

/* --- writing -------------------------------------------------------------------------------------- */

static char *to_text(const struct box_meta *m)
{
	json_t *root = json_pack(
		"{si ss ss ss ss ss ss ss si sI sI ss sI sI sI ss}", "version", META_VERSION, "id",
		m->id, "name", m->name, "state", states[m->state], "why", m->why, "image", m->image,
		"kernel", m->kernel, "initrd", m->initrd, "cpus", (int)m->cpus, "memory_mib",
		(json_int_t)m->memory_mib, "timeout_ms", (json_int_t)m->timeout_ms, "on_timeout",
		timeouts[m->on_timeout], "deadline", (json_int_t)m->deadline_s, "created",
		(json_int_t)m->created_s, "changed", (json_int_t)m->changed_s, "origin", m->origin);
	char *text = root ? json_dumps(root, JSON_INDENT(2)) : NULL;

	json_decref(root);
	return text;
}

static int write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(fd, text, len);
		if (n < 0 && errno != EINTR)
			return -errno;
		text += n > 0 ? n : 0;
		len -= n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int meta_write(const struct box_meta *meta, int dir_fd, struct errmsg *why)
{
	cleanup_free char *text = to_text(meta);

	if (!text)
		return err_set(why, EINVAL, "a path is not UTF-8");
	cleanup_close int fd = openat(dir_fd, META_PART,
				      O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int err = fd < 0 ? -errno : write_all(fd, text, strlen(text));
	if (!err && (fsync(fd) || renameat(dir_fd, META_PART, dir_fd, META_FILE) || fsync(dir_fd)))
		err = -errno;
	return err ? err_set(why, err, META_FILE) : 0;
}
