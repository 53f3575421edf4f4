/* SPDX-License-Identifier: Apache-2.0 */
/*
 * box.h - one sandbox as a folder: found, locked, changed, removed; and one snapshot
 *
 * A snapshot is a folder of the same kind on another shelf (state.h): a sandbox that sleeps for ever, `paused`, and
 * from which others are made.
 *
 *   sandboxes/ID/
 *     meta.json    meta.h
 *     lock         held by the one command that changes the sandbox's state; says what it does
 *     vmm ...      lifecycle/home.h
 *
 * Whoever changes the state holds the lock from the first step to the last, so a sandbox whose parts do
 * not fit together while nobody holds it was left by a command that was killed.  The next command that
 * comes across it settles it: half-made goes, running without a VMM is dead, and a VMM of a sandbox that
 * does not run is ended.
 *
 * Thread: one object, one thread; no globals.
 */
#ifndef SPORE_SUPERVISOR_STORE_BOX_H
#define SPORE_SUPERVISOR_STORE_BOX_H

#include <stdbool.h>

#include "supervisor/store/meta.h"
#include "supervisor/store/state.h"

#define BOX_DOING_MAX 32
#define BOX_BUSY_MS   1000 /* how long box_lock() waits for another command */

struct box {
	int fd;      /* of the folder; -1: closed */
	int lock_fd; /* -1: not locked by us */
	const struct shelf *shelf;
	struct box_meta meta;
	bool damaged; /* its meta.json cannot be read: only its id is known */
};

/*
 * box_create() - a new sandbox: folder, id, lock, and meta.json in the state `creating`
 * @wish: all but id, state and times
 * Return: 0; -EEXIST the name is taken; -EINVAL; -errno.  On failure nothing is left.
 */
int box_create(struct box *out, const struct state *st, const struct box_meta *wish,
	       struct errmsg *why);

/*
 * box_find() - a sandbox by id, by name, or by the unique beginning of its id, in this order
 * Settled, not locked.  A damaged one is found too, with the reason in *why.
 * Return: 0; -ENOENT; -EINVAL more than one; -EBADMSG; -errno.
 */
int box_find(struct box *out, const struct state *st, const char *word, struct errmsg *why);

/*
 * box_lock() - become the one who changes it; its meta is read again
 * @doing: one word, for those who find it locked: "pause"
 * Return: 0; -EBUSY with who has it; -ENOENT it was removed meanwhile; -errno.
 */
int box_lock(struct box *box, const char *doing, struct errmsg *why);
/* What somebody else does with it right now.  False: nobody does anything. */
bool box_busy(const struct box *box, char doing[static BOX_DOING_MAX]);

/* Writes box->meta, which has a new state.  Locked. */
int box_enter(struct box *box, enum box_state state, struct errmsg *why);
/* Removes it, its VMM too if one lives.  Locked, or damaged.  The object is closed in every case. */
int box_remove(struct box *box, const struct state *st, struct errmsg *why);

/* Unlocks and closes.  A closed one is fine. */
void box_close(struct box *box);

/* By id.  Settled; one that is busy is given as its meta.json says.  Return: 0, -errno, or what on_box gave. */
typedef int (*box_on)(void *arg, struct box *box);
int box_list(const struct state *st, box_on on_box, void *arg, struct errmsg *why);

/* Settles all, and takes away what was half removed. */
void box_sweep(const struct state *st);

#endif
