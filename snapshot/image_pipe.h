/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_pipe.h - pages into MEM: packed into batches, compressed and summed up in a thread beside, written in order
 *
 * The caller's thread fills batches and writes those that are done; so every system call on the file is its own.
 * Thread: one caller; the pipe's own thread touches a batch only between "filled" and "done".
 */
#ifndef SPORE_SNAPSHOT_IMAGE_PIPE_H
#define SPORE_SNAPSHOT_IMAGE_PIPE_H

#include "snapshot/image_impl.h"
#include "snapshot/image_io.h"

struct pipe;

/* @mem_off: of MEM in the stage.  @pages: of the machine.  0 or -errno. */
int pipe_create(struct pipe **out, struct io_stage *stage, uint64_t mem_off, uint64_t pages,
		enum snap_image_kind kind, struct errmsg *why);
void pipe_destroy(struct pipe *pipe); /* NULL is fine; ends the thread */

/* Room for the page in `slot`, to be filled before the next call; slots go up.  NULL: *err is set. */
uint8_t *pipe_put(struct pipe *pipe, uint64_t slot, int *err, struct errmsg *why);

/* Waits until all is written.  Blocks are the pipe's until it is destroyed. */
int pipe_finish(struct pipe *pipe, const struct snap_image_block **block, uint64_t *block_count,
		uint64_t *mem_len, struct errmsg *why);

#endif
