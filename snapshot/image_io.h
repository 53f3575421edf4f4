/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_io.h - reading, and making files that are complete or absent
 *
 * A stage is a file without a name (O_TMPFILE), or, where the file system has none, one that ends in ".part", which
 * its writer holds a lock on.  It gets its name last.  What a killed writer leaves is removed by io_sweep().
 * Each system call of a writer is a place of base/fault.h.
 *
 * Thread: any; one caller an object.
 */
#ifndef SPORE_SNAPSHOT_IMAGE_IO_H
#define SPORE_SNAPSHOT_IMAGE_IO_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define IO_NAME_MAX 240 /* bytes, with the NUL; a suffix must fit behind it */
#define IO_PART     ".part"

/* All of it.  0; -EBADMSG the file ends before; -errno. */
int io_read(int fd, void *to, size_t len, uint64_t off, struct errmsg *why)
	__attribute__((warn_unused_result));

struct io_stage {
	int dir_fd; /* borrowed */
	int fd;     /* owned; -1: none */
	char name[IO_NAME_MAX];
	char part[IO_NAME_MAX + 32]; /* its present name; "": none */
};

/* @name: no slash, not "." or "..", not ending in ".part".  0, -EINVAL, -errno. */
int io_stage_open(struct io_stage *stage, int dir_fd, const char *name, struct errmsg *why)
	__attribute__((warn_unused_result));
/* All of it.  0 or -errno. */
int io_write(struct io_stage *stage, const void *bytes, size_t len, uint64_t off,
	     struct errmsg *why) __attribute__((warn_unused_result));
/* Begins to write [off, off + len) back to the disk without waiting. */
void io_start_sync(const struct io_stage *stage, uint64_t off, uint64_t len);
int io_sync(struct io_stage *stage, struct errmsg *why) __attribute__((warn_unused_result));

enum io_publish { IO_NEW, IO_REPLACE };
/* The file gets its name, durable.  0; -EEXIST with IO_NEW; -errno.  On failure the stage is still there. */
int io_stage_publish(struct io_stage *stage, enum io_publish how, struct errmsg *why)
	__attribute__((warn_unused_result));
/* Removes what is left of a stage; after a publish only closes it. */
void io_stage_close(struct io_stage *stage);

/* Removes files that end in ".part" and that nobody holds.  Return: how many, or -errno. */
int io_sweep(int dir_fd);

#endif
