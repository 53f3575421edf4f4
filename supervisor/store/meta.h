/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta.h - what is known of a sandbox: ID/meta.json
 *
 * Written to another name, made durable, renamed: it is complete or it is the one before.  What is read
 * is checked whole before any of it is believed: another program, or a hand, may have changed it.
 *
 * Thread: any; the writer holds the sandbox's lock (box.h).
 */
#ifndef SPORE_SUPERVISOR_STORE_META_H
#define SPORE_SUPERVISOR_STORE_META_H

#include <stdint.h>

#include "base/err.h"
#include "supervisor/store/state.h"

#define META_VERSION   1
#define META_BYTES_MAX 65536 /* of the file */
#define META_PATH_MAX  4096
#define META_WHY_MAX   128

/*
 * A sandbox's state.  Whoever holds its lock owns every transition:
 *
 *   creating -> running <-> paused       running -> dead
 *
 * What does not fit together when nobody holds the lock was left by a command that was killed: box.h.
 */
enum box_state { BOX_CREATING, BOX_RUNNING, BOX_PAUSED, BOX_DEAD, BOX_STATES };

/* When its time is over. */
enum box_timeout { BOX_TIMEOUT_KILL, BOX_TIMEOUT_PAUSE, BOX_TIMEOUTS };

struct box_meta {
	char id[STATE_ID_MAX];
	char name[STATE_NAME_MAX]; /* "": none */
	enum box_state state;
	int64_t created_s, changed_s; /* since 1970; changed: when it got its state */
	char image[META_PATH_MAX], kernel[META_PATH_MAX], initrd[META_PATH_MAX]; /* absolute */
	uint32_t cpus;
	uint64_t memory_mib;
	uint64_t timeout_ms; /* 0: none */
	enum box_timeout on_timeout;
	int64_t deadline_s;        /* since 1970; 0: none; while running */
	char why[META_WHY_MAX];    /* how it ended; "" while it has not */
	char origin[STATE_ID_MAX]; /* the sandbox or snapshot that it was made of; "": booted */
};

/* "creating", "running", ... */
const char *meta_state_name(enum box_state state);
/* "kill", "pause"; the other way -EINVAL. */
const char *meta_timeout_name(enum box_timeout what);
int meta_timeout_parse(const char *text, enum box_timeout *out);

/* @name: NULL or "": none.  Return: 0; -EINVAL it cannot be one. */
int meta_set_name(struct box_meta *meta, const char *name, struct errmsg *why);
/*
 * meta_descend() - what a sandbox or snapshot that is made of another one wishes to be (box_create())
 * The same machine, another name, and nothing of what has happened to the other.  Return: as meta_set_name().
 */
int meta_descend(struct box_meta *out, const struct box_meta *from, const char *name,
		 struct errmsg *why);

/*
 * meta_read() - a sandbox's meta.json
 * @dir_fd: the sandbox's folder
 * @id:     what it must say its id is
 * Return: 0; -ENOENT there is none; -EBADMSG it is not what it should be; -errno.
 */
int meta_read(struct box_meta *out, int dir_fd, const char *id, struct errmsg *why);
/* Durable when it returns 0. */
int meta_write(const struct box_meta *meta, int dir_fd, struct errmsg *why);

#endif
