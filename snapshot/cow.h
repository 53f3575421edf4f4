/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cow.h - reading and making copy-on-write layers (wire/cow.h), apart from running a disk on them
 *
 * Everything in a layer's file is hostile: it may come from another machine.
 * Thread: any; one caller a file.
 */
#ifndef SPORE_SNAPSHOT_COW_H
#define SPORE_SNAPSHOT_COW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "wire/cow.h"

/* What a header says, checked, in host order. */
struct cow_layer {
	uint64_t size, below_size;
	uint32_t block_size;
	bool sealed;
	uint8_t below_id[COW_ID_LEN], layer_id[COW_ID_LEN];
	uint64_t blocks; /* of the disk, the last one perhaps in part */
	uint64_t map_len, data_off, file_len;
	uint32_t map_crc;
};

/* Fills what follows from size and block_size.  Return: 0, -EINVAL not a layer that can be. */
int cow_layout(struct cow_layer *layer);

/* Return: 0; -EBADMSG not a layer, damaged, or of a version that is not known. */
int cow_decode(const struct cow_header *header, struct cow_layer *layer, struct errmsg *why);
void cow_encode(const struct cow_layer *layer, struct cow_header *header);

/*
 * cow_format() - make an empty layer in `fd`, whatever was there
 * @layer: size, below_size, block_size, below_id, layer_id; the rest is filled
 * Everything by fd: an unlinked file (O_TMPFILE) will do.  Durable with the first flush.
 * Return: 0, -EINVAL, -errno.
 */
int cow_format(int fd, struct cow_layer *layer, struct errmsg *why);

/*
 * cow_format_on() - the same with a fresh identity, for a disk of `size` bytes on what `below_id` names
 * @block_size: as of the layers below
 * Return: 0, -EIO no random numbers, -EINVAL, -errno.
 */
int cow_format_on(int fd, uint64_t size, uint32_t block_size, const uint8_t below_id[COW_ID_LEN],
		  struct errmsg *why);

/* Reads and checks header and length of file.  Return: 0, -EBADMSG, -errno. */
int cow_open(int fd, struct cow_layer *layer, struct errmsg *why);

/* Reads the map into `map` (layer->map_len bytes, zero before) and checks it.  Return: 0, -EBADMSG, -errno. */
int cow_read_map(int fd, const struct cow_layer *layer, uint8_t *map, struct errmsg *why);

/* Makes the data of a layer durable.  Return: 0, -errno. */
int cow_data_sync(int fd, struct errmsg *why);

/*
 * cow_seal() - close a layer for good: its map as it stands in the file, checked, then the header that says so
 * Nobody writes to the file meanwhile.  Durable when it returns 0; killed at any moment, the layer is sealed or
 * as it was: what changes of the header lies in its first 512 bytes, which reach the disk whole.
 * Return: 0, also when it is sealed already; -EBADMSG; -errno.
 */
int cow_seal(int fd, struct errmsg *why) __attribute__((warn_unused_result));

/*
 * cow_compact() - make one sealed layer that reads the same as several
 * @out_fd: an empty file that nobody else has open; a name of its own only when this has returned 0
 * @layer_fd: @count sealed layers, bottom to top, each made on the one before; only read
 * It lies on what the lowest lies on, and has the identity of the topmost: layers above stay as they are.
 * Killed at any moment, out_fd is no sealed layer or the whole one.  Memory: 64 bytes a MiB and layer, where
 * something is.  Return: 0; -EBADMSG a layer is damaged, not sealed, or in the wrong place; -errno.
 */
int cow_compact(int out_fd, const int layer_fd[], unsigned count, struct errmsg *why)
	__attribute__((warn_unused_result));

static inline enum cow_state cow_map_get(const uint8_t *map, uint64_t block)
{
	return (enum cow_state)(map[block / 4] >> (block % 4 * 2) & 3);
}

static inline void cow_map_set(uint8_t *map, uint64_t block, enum cow_state state)
{
	unsigned shift = (unsigned)(block % 4 * 2);
	unsigned byte = map[block / 4] & ~(3u << shift);
	map[block / 4] = (uint8_t)(byte | (unsigned)state << shift);
}

#endif
