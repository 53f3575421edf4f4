/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h - error text that travels upwards beside a -errno
 *
 * Functions that set things up return 0 or -errno and explain themselves in a caller's `struct errmsg`.
 * The innermost function names what failed and on which object; callers wrap what they were doing
 * around it, so that the text reads from the outside in: "drive rootfs: open base.ext4: No such file".
 * Fixed size, no allocation: an error path cannot fail.
 */
#ifndef SPORE_BASE_ERR_H
#define SPORE_BASE_ERR_H

#define ERRMSG_MAX 512 /* bytes, with the terminating NUL; longer text is cut */

struct errmsg {
	char text[ERRMSG_MAX];
};

/*
 * err_set() - say what failed
 * @why: may be NULL: the caller does not want the text
 * @err: errno value, positive or negative; its text is appended after ": ".  0 appends nothing.
 * Return: -|err|, or -EINVAL when err is 0: `return err_set(why, errno, "open %s", path);`
 */
int err_set(struct errmsg *why, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * err_wrap() - put context in front of the text that is there
 * @err: passed through: `return err_wrap(why, err, "drive %s", id);`
 */
int err_wrap(struct errmsg *why, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

#endif
