/* SPDX-License-Identifier: Apache-2.0 */
/*
 * state.h - where sandboxes and snapshots live
 *
 *   ${XDG_STATE_HOME:-~/.local/state}/spore/   (SPORE_STATE or --state-dir: another one)
 *     .lock                   held for the moments in which a sandbox gets its folder and name
 *     sandboxes/ID/           one sandbox: box.h
 *     snapshots/ID/           one snapshot
 *
 * There is no daemon and no database: the folders are the truth, and each command settles what an
 * earlier one left when it was killed.  Folders are 0700 and files 0600: a sandbox's memory and disk hold
 * every secret that its guest held.
 *
 * Thread: any; no globals.  Other processes work on the same state at the same time.
 */
#ifndef SPORE_SUPERVISOR_STORE_STATE_H
#define SPORE_SUPERVISOR_STORE_STATE_H

#include "base/err.h"

#define STATE_PATH_MAX 4096
#define STATE_ID_LEN   10                 /* of 32 letters and digits: 50 random bits */
#define STATE_ID_MAX   (STATE_ID_LEN + 1) /* with the NUL */
#define STATE_NAME_MAX 64                 /* with the NUL */

/* What a folder of folders holds: for messages, and for what to do about it. */
struct shelf {
	const char *folder;        /* "sandboxes" */
	const char *noun;          /* "sandbox" */
	const char *list, *remove; /* commands: "spore ls", "spore rm --force" */
};

struct state {
	int fd;                 /* a folder */
	int shelf_fd, other_fd; /* the two below it: the one that box.h works on, and the other */
	const struct shelf *shelf; /* which one that is */
	char path[STATE_PATH_MAX];
};

/*
 * state_open() - the folders, made when they are not there
 * @chosen: of --state-dir, or NULL
 * Return: 0; -ENOENT neither HOME nor anything else says where; -errno.
 */
int state_open(struct state *out, const char *chosen, struct errmsg *why);
void state_close(struct state *state);

/* The same state with the other shelf: snapshots where it was sandboxes.  Borrows its folders: not to be closed. */
struct state state_other(const struct state *state);

/* Waits for the state's own lock.  Return: a descriptor, to be closed soon; -errno. */
int state_lock(const struct state *state, struct errmsg *why);
/* The same without waiting: -EWOULDBLOCK. */
int state_try_lock(const struct state *state);

/* A fresh id: letters and digits without 0, 1, l and o, which are taken for each other. */
int state_new_id(char id[static STATE_ID_MAX], struct errmsg *why);
/* 1 when the text could be an id or the beginning of one. */
int state_id_prefix(const char *text);
/* 0 when `name` is [a-z0-9][a-z0-9._-]*, shorter than STATE_NAME_MAX; else -EINVAL. */
int state_name_check(const char *name, struct errmsg *why);

#endif
