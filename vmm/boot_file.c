/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_file.c - reading kernel and initrd files, which may change under our hands
 *
 * One size is taken at the beginning and all later arithmetic uses it.  A file that has become shorter
 * since then shows up as a short read, and is refused.
 */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ckd.h"
#include "vmm/boot_image.h"

#define READ_CHUNK_MAX \
	(UINT64_C(1) << 30) /* bytes; the kernel reads at most 2 GiB - 4 KiB a call */

int boot_file_init(struct boot_file *file, int fd, const char *what, struct errmsg *why)
{
	struct stat st;

	if (fd < 0)
		return err_set(why, 0, "no %s given", what);
	if (fstat(fd, &st) != 0)
		return err_set(why, errno, "look at the %s file", what);
	if (!S_ISREG(st.st_mode))
		return err_set(why, 0, "%s is not a regular file", what);
	if (st.st_size <= 0)
		return err_set(why, 0, "%s file is empty", what);
	*file = (struct boot_file){.fd = fd, .size = (uint64_t)st.st_size, .what = what};
	return 0;
}

int boot_file_read(const struct boot_file *file, uint64_t off, void *buf, size_t len,
		   struct errmsg *why)
{
	uint8_t *to = buf;

	assert(ckd_in_range(off, len, file->size));
	while (len) {
		size_t want = len < READ_CHUNK_MAX ? len : READ_CHUNK_MAX;
		ssize_t got = pread(file->fd, to, want, (off_t)off);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_set(why, errno, "read the %s file at byte %" PRIu64, file->what,
				       off);
		if (got == 0) {
			err_set(why, 0,
				"%s file ended at byte %" PRIu64
				" while it was read: it had %" PRIu64,
				file->what, off, file->size);
			return -EBADMSG;
		}
		to += got;
		off += (uint64_t)got;
		len -= (size_t)got;
	}
	return 0;
}

/*
 * From the page cache into the memfd's pages, by the kernel.  Reading into the mapping instead would take a
 * fault and clear the page for each 4 KiB before it is overwritten.
 * Return: bytes moved, less than `len` where this does not go or the file ended: the caller reads the rest.
 */
static uint64_t boot_file_send(const struct boot_file *file, uint64_t off, int to, uint64_t to_off,
			       uint64_t len)
{
	off_t from = (off_t)off;
	uint64_t done = 0;

	if (lseek(to, (off_t)to_off, SEEK_SET) < 0)
		return 0;
	while (done < len) {
		uint64_t want = len - done < READ_CHUNK_MAX ? len - done : READ_CHUNK_MAX;
		ssize_t got = sendfile(to, file->fd, &from, (size_t)want);
		if (got <= 0)
			break;
		done += (uint64_t)got;
	}
	return done;
}

int boot_file_load(const struct boot_file *file, uint64_t off, const struct gmem *gm, gpa_t at,
		   uint64_t len, struct errmsg *why)
{
	struct iovec iov;
	uint64_t to_off, done = 0;
	int to;

	if (!len)
		return 0;
	if (gm_iov(gm, at, len, &iov) != 0)
		return boot_no_room(gm, file->what, at.v, len, why);
	if (gm_file(gm, at, len, &to, &to_off) == 0)
		done = boot_file_send(file, off, to, to_off, len);
	int err = boot_file_read(file, off + done, (uint8_t *)iov.iov_base + done, len - done, why);
	gm_mark(gm, at, len);
	return err;
}

int boot_no_room(const struct gmem *gm, const char *what, uint64_t start, uint64_t size,
		 struct errmsg *why)
{
	err_set(why, 0,
		"%s 0x%" PRIx64 "-0x%" PRIx64 " does not fit guest memory of %" PRIu64 " MiB", what,
		start, start + size, gm_size(gm) >> 20);
	return -ENOMEM;
}
