/* SPDX-License-Identifier: Apache-2.0 */
/*
 * blk_file.h - a raw image: a regular file or a block device
 */
#ifndef SPORE_DEVICES_BLK_FILE_H
#define SPORE_DEVICES_BLK_FILE_H

#include "devices/blk.h"

enum blk_file_mode {
	BLK_FILE_READ_ONLY,
	BLK_FILE_READ_WRITE,
	BLK_FILE_LOCKED_LATER, /* read-only; blk_file_lock() is the caller's to call */
};

/*
 * blk_file_lock() - say on the file that this VM reads or writes it, as an open-file-description lock
 * One writer or many readers, over all VMs of the host that ask; it ends with the last copy of `fd`.
 * Return: 0; -EBUSY in use (the text says by what); -errno.  @name: names the image in the text.
 */
int blk_file_lock(int fd, enum blk_file_mode mode, const char *name, struct errmsg *why);

/*
 * blk_file_create() - a backend over `fd`
 * @fd: open for reading, or for both; duplicated; locked as blk_file_lock() does
 * @name: names the image in messages
 * A size that is no multiple of 512 is rounded down; none at all is refused (-EINVAL).
 * Thread: ctl.  Return: 0, -errno.
 */
int blk_file_create(struct blk_backend **out, int fd, enum blk_file_mode mode, const char *name,
		    struct loop *loop, struct errmsg *why);

#endif
