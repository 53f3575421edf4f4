/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image.h - snapshots as files (wire/snap_image.h): writing, reading, chains
 *
 * A snapshot's file is complete or absent, also after kill -9 at any instruction, and never changed once it has its
 * name.  Everything in a file is hostile: it may come from another machine.  Files find their parents by identity,
 * through a function of the caller's; no path is written or followed.
 *
 * Memory is checked block by block when it is read by these functions.  A plan maps raw files as they are: whoever
 * wants them checked first calls snap_image_verify().
 *
 * Thread: any; one caller an object.  snap_image_write() runs a thread of its own while it works.
 */
#ifndef SPORE_SNAPSHOT_IMAGE_H
#define SPORE_SNAPSHOT_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "snapshot/plan.h"
#include "wire/snap_image.h"

/* Who an image is: a parent must match in both. */
struct snap_ref {
	uint8_t id[SNAP_ID_LEN];
	uint32_t root;
};

struct snap_id_text {
	char text[2 * SNAP_ID_LEN + 1];
};
struct snap_id_text snap_id_text(const uint8_t id[SNAP_ID_LEN]);

/* A disk of the machine at the instant of the snapshot. */
struct snap_disk {
	char drive[SNAP_DRIVE_LEN]; /* [A-Za-z0-9_]+ */
	uint8_t base_id[SNAP_ID_LEN];
	uint64_t generation;
	const uint8_t *layer; /* ids one after the other, from the bottom to the top */
	uint32_t layer_count;
};

/* --- reading ------------------------------------------------------------------------------------ */

struct snap_image;

/*
 * snap_image_open() - check a file: header, and every section but the pages themselves
 * @fd: borrowed; open for reading
 * Return: 0; -EBADMSG not a snapshot, damaged, cut short, of another version or architecture; -errno.
 */
int snap_image_open(struct snap_image **out, int fd, struct errmsg *why)
	__attribute__((warn_unused_result));
void snap_image_close(struct snap_image *image); /* NULL is fine */

struct snap_image_info {
	struct snap_ref self, parent; /* parent.id zero: none */
	enum snap_image_kind kind;
	uint32_t cpus, depth;
	uint64_t pages, stored,
		zero;     /* pages of the machine; stored here; zero here and not in the parent */
	uint64_t created; /* ns since 1970 */
	uint64_t file_len, mem_len, index_len; /* bytes */
	bool has_chain, has_ws;
};
void snap_image_info(const struct snap_image *image, struct snap_image_info *info);

/* The machine's state (wire/snap.h), aligned to 8, and the writer's words: owned by the image. */
const void *snap_image_state(const struct snap_image *image, size_t *len);
const char *snap_image_meta(const struct snap_image *image, size_t *len);
/* Owned by the image.  Return: how many. */
uint32_t snap_image_disks(const struct snap_image *image, const struct snap_disk **disks);

/*
 * snap_find_fn - the file with an identity
 * Return: a descriptor, which the caller closes; -ENOENT; -errno.
 */
typedef int snap_find_fn(void *arg, const uint8_t id[SNAP_ID_LEN]);

/* The images of one folder, whatever their names.  @arg: int *, the folder's descriptor.  Reads every header. */
snap_find_fn snap_find_in_folder;

struct snap_chain;

enum snap_chain_depth {
	SNAP_CHAIN_NEEDED, /* the ancestors that hold pages, as the head's index says */
	SNAP_CHAIN_ALL,    /* every ancestor; the head's index is computed anew */
};

/*
 * snap_chain_open() - an image and its ancestors
 * @fd: borrowed
 * Return: 0; -ENOENT a parent is missing; -ESTALE a parent has the right id and another content;
 * -ELOOP ancestors in a circle, or more than SNAP_IMAGE_DEPTH_MAX; -EBADMSG; -errno.
 */
int snap_chain_open(struct snap_chain **out, int fd, snap_find_fn *find, void *arg,
		    enum snap_chain_depth depth, struct errmsg *why)
	__attribute__((warn_unused_result));
void snap_chain_close(struct snap_chain *chain); /* NULL is fine */

const struct snap_image *snap_chain_head(const struct snap_chain *chain);
/* 0 is the head.  NULL behind the last. */
const struct snap_image *snap_chain_image(const struct snap_chain *chain, uint32_t index);
/* Bytes that the increments store, in percent of what the oldest does: for when to compact. */
uint64_t snap_chain_growth(const struct snap_chain *chain);

/*
 * snap_chain_plan() - where to map the machine's memory from
 * Return: 0, the plan has descriptors of its own; -EOPNOTSUPP a file is compressed; -E2BIG more than SNAP_MAPS_MAX
 * runs: in both cases snap_chain_flatten() to a flat one, and map that.
 */
int snap_chain_plan(struct snap_chain *chain, struct snap_plan *plan, struct errmsg *why)
	__attribute__((warn_unused_result));

/* snap_chain_read() - one page, checked.  @to: SNAP_PAGE_SIZE bytes.  0, -EBADMSG, -errno. */
int snap_chain_read(struct snap_chain *chain, uint64_t page, void *to, struct errmsg *why)
	__attribute__((warn_unused_result));

/*
 * snap_image_verify() - read everything of one file: each block of memory, and that nothing lies between sections
 * snap_chain_verify() - every file of a chain, and that the head's index says what they say
 * Return: 0; -EBADMSG with the first bad block; -errno.
 */
int snap_image_verify(struct snap_image *image, struct errmsg *why)
	__attribute__((warn_unused_result));
int snap_chain_verify(int fd, snap_find_fn *find, void *arg, struct errmsg *why)
	__attribute__((warn_unused_result));

/* --- writing ------------------------------------------------------------------------------------ */

enum snap_publish { SNAP_NEW, SNAP_REPLACE };

struct snap_write {
	int dir_fd;
	const char *name; /* of the file in it, without a slash */
	enum snap_publish publish;
	enum snap_image_kind kind;
	uint32_t cpus;
	uint64_t pages;
	const void *state;
	size_t state_len;
	/* Memory: a plan (checked here) ... */
	const struct snap_plan *plan;
	uint32_t
		diff_from; /* with a parent: what the sources before this one hold is the parent's */
	/* ... or all that a chain has: promoting and compacting. */
	struct snap_chain *from;
	struct snap_chain
		*parent; /* or NULL: a full image.  Its pages are read, for those that are equal */
	const struct snap_disk *disks;
	uint32_t disk_count;
	const char *meta;
	size_t meta_len;
	const void *ws; /* a working set (image_ws.h), or NULL */
	size_t ws_len;
};

struct snap_written {
	struct snap_ref self;
	uint64_t stored, zero, equal; /* pages stored, found to be zero, left out as the parent's */
	uint64_t mem_len, index_len, file_len;
	uint64_t write_ns, sync_ns; /* until all was written; for it to be durable */
};

/*
 * snap_image_write() - make a snapshot's file, durable when it returns
 * Return: 0; -EEXIST with SNAP_NEW; -EINVAL; -ENOSPC, -EIO, -errno: nothing is left behind.
 */
int snap_image_write(const struct snap_write *cfg, struct snap_written *out, struct errmsg *why)
	__attribute__((warn_unused_result));

/*
 * snap_chain_flatten() - one file from a chain: SNAP_IMAGE_FLAT promotes for mapping, SNAP_IMAGE_LZ4 compacts
 * State, disks, words and working set are the head's.  The file is a new image, with an id of its own and no parent.
 */
int snap_chain_flatten(struct snap_chain *chain, int dir_fd, const char *name,
		       enum snap_image_kind kind, enum snap_publish publish,
		       struct snap_written *out, struct errmsg *why)
	__attribute__((warn_unused_result));

/* Removes what writers that were killed have left in a folder.  Return: how many, or -errno. */
int snap_image_sweep(int dir_fd);

/*
 * snap_image_remove() - remove a file that no image of the folder needs
 * Return: 0; -EBUSY with the names of those that do; -ENOENT; -EBADMSG it is no snapshot; -errno.
 */
int snap_image_remove(int dir_fd, const char *name, struct errmsg *why)
	__attribute__((warn_unused_result));

#endif
