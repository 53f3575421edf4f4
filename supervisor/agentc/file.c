/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - file operations at the agent; see agentc.h */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "supervisor/agentc/call.h"

#define QUEUE_FULL (4 * AGENT_FRAME_MAX) /* an upload waits for the socket above this */

struct request {
	struct agent_file fixed;
	char tail[2 * AGENT_PATH_MAX + AGENT_NAME_MAX];
	size_t len;
};

static int add(struct request *r, const char *text, size_t cap)
{
	size_t len = strlen(text ? text : "") + 1;

	if (len > cap)
		return -ENAMETOOLONG;
	memcpy(r->tail + r->len, text ? text : "", len);
	r->len += len;
	return 0;
}

static int open_file(struct call *call, struct agentc *at, uint16_t type,
		     const struct agentc_file *f, struct errmsg *why)
{
	struct request r = {.fixed = {.flags = f->flags,
				      .mode = f->mode,
				      .offset = f->offset,
				      .len = f->len,
				      .mtime_ns = f->mtime_ns,
				      .depth = f->depth}};

	at->stage = 0;
	if (add(&r, f->user, AGENT_NAME_MAX) < 0 || add(&r, f->path, AGENT_PATH_MAX) < 0 ||
	    add(&r, f->arg, AGENT_PATH_MAX) < 0)
		return err_set(why, ENAMETOOLONG, "path");
	return call_open(call, at, type, &r.fixed, r.tail, r.len, why);
}

static void take_string(const struct call *call, unsigned i, char *out, size_t cap)
{
	const char *text = call_string(call, i);
	size_t len = strnlen(text, cap - 1);

	memcpy(out, text, len);
	out[len] = '\0';
}

static void take_entry(const struct call *call, struct agentc_entry *entry)
{
	if (!entry)
		return;
	memcpy(&entry->raw, call->payload, sizeof(entry->raw));
	take_string(call, 0, entry->path, sizeof(entry->path));
	take_string(call, 1, entry->owner, sizeof(entry->owner));
	take_string(call, 2, entry->group, sizeof(entry->group));
	take_string(call, 3, entry->target, sizeof(entry->target));
}

static int out_of_place(const struct call *call)
{
	return err_set(call->why, EPROTO, "the agent sent %s out of place",
		       agent_msg_name(call->frame.type));
}

/* Answers OK.  Return: its value, or -errno. */
static int64_t simple(struct agentc *at, uint16_t type, const struct agentc_file *f,
		      struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	int err = open_file(&call, at, type, f, why);

	if (err == 0)
		err = call_expect(&call, AGENT_OK);
	if (err < 0)
		return err;
	return (int64_t)(call_value(&call) & INT64_MAX);
}

static int simple_int(struct agentc *at, uint16_t type, const struct agentc_file *f,
		      struct errmsg *why)
{
	int64_t got = simple(at, type, f, why);
	return got < 0 ? (int)got : 0;
}

/* Answers one ENTRY. */
static int one_entry(struct agentc *at, uint16_t type, const struct agentc_file *f,
		     struct agentc_entry *entry, struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	int err = open_file(&call, at, type, f, why);

	if (err == 0)
		err = call_expect(&call, AGENT_ENTRY);
	if (err == 0)
		take_entry(&call, entry);
	return err;
}

/* DATA frames into the sink until END.  Return: bytes. */
static int64_t receive(struct call *call, agentc_sink sink, void *arg)
{
	int64_t done = 0;

	for (;;) {
		int err = call_next(call);
		if (err < 0)
			return err;
		if (call->frame.type == AGENT_END)
			return call_value(call) == (uint64_t)done ? done : out_of_place(call);
		if (call->frame.type != AGENT_DATA)
			return out_of_place(call);
		err = sink ? sink(arg, call->payload, call->frame.len) : 0;
		if (err < 0)
			return err_set(call->why, err, "take the bytes");
		done += call->frame.len;
	}
}

int64_t agentc_read(struct agentc *at, const struct agentc_file *f, struct agentc_entry *entry,
		    agentc_sink sink, void *arg, struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	int err = open_file(&call, at, AGENT_FILE_READ, f, why);

	if (err == 0)
		err = call_expect(&call, AGENT_ENTRY);
	if (err < 0)
		return err;
	take_entry(&call, entry);
	return receive(&call, sink, arg);
}

/* --- up --------------------------------------------------------------------------------------- */

/* Sends what is queued down to QUEUE_FULL; an answer of the agent that is already there ends the
 * upload: it can only be an error. */
static int make_way(struct call *call)
{
	for (;;) {
		int err = link_pump(&call->link, call->why);
		if (err < 0 || link_queued(&call->link) < QUEUE_FULL)
			return err;
		err = link_wait(&call->link, link_end_ms(call->at->timeout_ms), call->why);
		if (err < 0)
			return err;
	}
}

/* Has the agent answered before the end?  Return: 0 no; -errno it refused, or is gone. */
static int refused(struct call *call)
{
	int got = link_frame(&call->link, &call->frame, &call->payload, call->why);
	return got == 1 ? link_error(call->at, &call->frame, call->payload, call->why) : got;
}

static int64_t upload(struct call *call, agentc_source source, void *arg)
{
	cleanup_free uint8_t *buf = malloc(AGENT_FRAME_MAX);
	int64_t done = 0;

	if (!buf)
		return err_set(call->why, ENOMEM, "upload");
	for (;;) {
		int err = make_way(call);
		if (err == 0)
			err = refused(call);
		if (err < 0)
			return err;
		ssize_t n = source(arg, buf, AGENT_FRAME_MAX);
		if (n < 0)
			return err_set(call->why, (int)n, "give the bytes");
		if (n == 0)
			break;
		err = link_put(&call->link, AGENT_DATA, 0, NULL, buf, (size_t)n);
		if (err < 0)
			return err_set(call->why, err, "upload");
		done += n;
	}
	int err = link_put(&call->link, AGENT_EOF, 0, NULL, NULL, 0);
	return err < 0 ? err_set(call->why, err, "upload") : done;
}

int64_t agentc_write(struct agentc *at, const struct agentc_file *f, struct agentc_entry *entry,
		     agentc_source source, void *arg, struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	int err = open_file(&call, at, AGENT_FILE_WRITE, f, why);
	int64_t done = err < 0 ? err : upload(&call, source, arg);

	if (done < 0)
		return done;
	err = call_expect(&call, AGENT_ENTRY);
	if (err < 0)
		return err;
	take_entry(&call, entry);
	err = call_expect(&call, AGENT_END);
	if (err < 0)
		return err;
	return call_value(&call) == (uint64_t)done ? done : out_of_place(&call);
}

struct span {
	const uint8_t *at;
	size_t left;
};

static ssize_t from_span(void *arg, void *buf, size_t cap)
{
	struct span *span = arg;
	size_t n = span->left < cap ? span->left : cap;

	if (n)
		memcpy(buf, span->at, n);
	span->at += n;
	span->left -= n;
	return (ssize_t)n;
}

int64_t agentc_write_buf(struct agentc *at, const struct agentc_file *f, const void *buf,
			 size_t len, struct errmsg *why)
{
	struct span span = {buf, len};
	return agentc_write(at, f, NULL, from_span, &span, why);
}

/* --- folders, names --------------------------------------------------------------------------- */

int agentc_stat(struct agentc *at, const struct agentc_file *f, struct agentc_entry *entry,
		struct errmsg *why)
{
	return one_entry(at, AGENT_STAT, f, entry, why);
}

int64_t agentc_list(struct agentc *at, const struct agentc_file *f, agentc_on_entry on_entry,
		    void *arg, struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	cleanup_free struct agentc_entry *entry = malloc(sizeof(*entry));
	int64_t count = 0;

	if (!entry)
		return err_set(why, ENOMEM, "list");
	int err = open_file(&call, at, AGENT_LIST_DIR, f, why);
	while (err == 0) {
		err = call_next(&call);
		if (err < 0)
			break;
		if (call.frame.type == AGENT_END)
			return call_value(&call) == (uint64_t)count ? count : out_of_place(&call);
		if (call.frame.type != AGENT_ENTRY)
			return out_of_place(&call);
		take_entry(&call, entry);
		err = on_entry(arg, entry);
		count++;
	}
	return err;
}

int64_t agentc_mkdir(struct agentc *at, const struct agentc_file *f, struct errmsg *why)
{
	return simple(at, AGENT_MKDIR, f, why);
}

int agentc_move(struct agentc *at, const struct agentc_file *f, struct agentc_entry *entry,
		struct errmsg *why)
{
	return one_entry(at, AGENT_MOVE, f, entry, why);
}

int64_t agentc_remove(struct agentc *at, const struct agentc_file *f, struct errmsg *why)
{
	return simple(at, AGENT_REMOVE, f, why);
}

int agentc_chmod(struct agentc *at, const struct agentc_file *f, struct errmsg *why)
{
	return simple_int(at, AGENT_CHMOD, f, why);
}

int agentc_chown(struct agentc *at, const struct agentc_file *f, struct errmsg *why)
{
	return simple_int(at, AGENT_CHOWN, f, why);
}

int agentc_symlink(struct agentc *at, const struct agentc_file *f, struct errmsg *why)
{
	return simple_int(at, AGENT_SYMLINK, f, why);
}

/* --- short bytes ------------------------------------------------------------------------------ */

struct room {
	uint8_t *at;
	size_t left;
};

static int into_room(void *arg, const void *buf, size_t len)
{
	struct room *room = arg;

	if (len > room->left)
		return -ERANGE;
	memcpy(room->at, buf, len);
	room->at += len;
	room->left -= len;
	return 0;
}

static ssize_t short_bytes(struct agentc *at, uint16_t type, const struct agentc_file *f, void *buf,
			   size_t cap, struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	struct room room = {buf, cap};
	int err = open_file(&call, at, type, f, why);

	return err < 0 ? err : (ssize_t)receive(&call, into_room, &room);
}

ssize_t agentc_readlink(struct agentc *at, const struct agentc_file *f, char *buf, size_t cap,
			struct errmsg *why)
{
	return short_bytes(at, AGENT_READLINK, f, buf, cap, why);
}

ssize_t agentc_xattr_get(struct agentc *at, const struct agentc_file *f, void *buf, size_t cap,
			 struct errmsg *why)
{
	return short_bytes(at, AGENT_XATTR_GET, f, buf, cap, why);
}

ssize_t agentc_xattr_list(struct agentc *at, const struct agentc_file *f, char *buf, size_t cap,
			  struct errmsg *why)
{
	return short_bytes(at, AGENT_XATTR_LIST, f, buf, cap, why);
}

int agentc_xattr_set(struct agentc *at, const struct agentc_file *f, const void *buf, size_t len,
		     struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	struct span span = {buf, len};
	int err = open_file(&call, at, AGENT_XATTR_SET, f, why);
	int64_t done = err < 0 ? err : upload(&call, from_span, &span);

	return done < 0 ? (int)done : call_expect(&call, AGENT_OK);
}

int agentc_xattr_remove(struct agentc *at, const struct agentc_file *f, struct errmsg *why)
{
	return simple_int(at, AGENT_XATTR_REMOVE, f, why);
}

/* --- watch ------------------------------------------------------------------------------------ */

struct agentc_watch {
	struct call call;
	struct agentc at;
};

void agentc_watch_close(struct agentc_watch *w)
{
	if (!w)
		return;
	call_close(&w->call);
	free(w);
}

static void close_watch(struct agentc_watch **w)
{
	agentc_watch_close(*w);
}

int agentc_watch_start(struct agentc_watch **out, struct agentc *at, const struct agentc_file *f,
		       struct errmsg *why)
{
	__attribute__((cleanup(close_watch))) struct agentc_watch *w = calloc(1, sizeof(*w));

	if (!w)
		return err_set(why, ENOMEM, "watch");
	w->call.link.fd = -1;
	int err = open_file(&w->call, at, AGENT_WATCH, f, why);
	if (err == 0)
		err = call_expect(&w->call, AGENT_OK);
	if (err < 0)
		return err;
	w->at = *at;
	*out = steal_ptr(&w);
	return 0;
}

int agentc_watch_fd(const struct agentc_watch *w)
{
	return w->call.link.fd;
}

int agentc_watch_next(struct agentc_watch *w, struct agent_event *ev, const char **name,
		      int timeout_ms, struct errmsg *why)
{
	w->call.at = &w->at;
	w->call.why = why;
	int err = link_await(&w->call.link, &w->call.frame, &w->call.payload,
			     link_end_ms(timeout_ms), why);
	if (err < 0)
		return err == -ETIMEDOUT ? 0 : err;
	if (w->call.frame.type == AGENT_ERROR)
		return link_error(&w->at, &w->call.frame, w->call.payload, why);
	if (w->call.frame.type != AGENT_EVENT)
		return out_of_place(&w->call);
	memcpy(ev, w->call.payload, sizeof(*ev));
	*name = call_string(&w->call, 0);
	return 1;
}
