/* SPDX-License-Identifier: Apache-2.0 */
#include "base/conlog.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"

int conlog_format(int fd, uint32_t cap, struct errmsg *why)
{
	struct conlog_head head = {.version = htole32(CONLOG_VERSION), .cap = htole32(cap)};

	assert(cap >= CONLOG_CAP_MIN && cap <= CONLOG_CAP_MAX);
	memcpy(head.magic, CONLOG_MAGIC, sizeof(head.magic));
	ssize_t n = pwrite(fd, &head, sizeof(head), 0);
	return n == (ssize_t)sizeof(head) ? 0 : err_set(why, n < 0 ? errno : EIO, "console log");
}

int conlog_open(int fd, uint32_t *cap, uint64_t *total, struct errmsg *why)
{
	struct conlog_head head;
	ssize_t n = pread(fd, &head, sizeof(head), 0);

	if (n < 0)
		return err_set(why, errno, "console log");
	uint32_t kept = le32toh(head.cap);
	if (n != (ssize_t)sizeof(head) || memcmp(head.magic, CONLOG_MAGIC, sizeof(head.magic)) ||
	    le32toh(head.version) != CONLOG_VERSION || kept < CONLOG_CAP_MIN ||
	    kept > CONLOG_CAP_MAX)
		return err_set(why, EBADMSG, "console log");
	*cap = kept;
	*total = le64toh(head.total);
	return 0;
}

/* One piece, which may have been cut off a damaged file: then it reads as zeroes. */
static int read_piece(int fd, char *to, uint64_t len, uint64_t at)
{
	while (len) {
		ssize_t n = pread(fd, to, len, (off_t)(CONLOG_DATA_AT + at));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0) {
			memset(to, 0, len);
			return 0;
		}
		to += n > 0 ? n : 0;
		at += n > 0 ? (uint64_t)n : 0;
		len -= n > 0 ? (uint64_t)n : 0;
	}
	return 0;
}

int64_t conlog_read(int fd, void *buf, uint32_t len, uint64_t *end, struct errmsg *why)
{
	uint64_t total;
	uint32_t cap;
	int err = conlog_open(fd, &cap, &total, why);

	if (err)
		return err;
	uint64_t take = total < cap - CONLOG_WRITE_MAX ? total : cap - CONLOG_WRITE_MAX;
	if (take > len)
		take = len;
	uint64_t at = (total - take) % cap, first = cap - at < take ? cap - at : take;
	err = read_piece(fd, buf, first, at);
	if (!err)
		err = read_piece(fd, (char *)buf + first, take - first, 0);
	if (err)
		return err_set(why, err, "console log");
	*end = total;
	return (int64_t)take;
}
