/* SPDX-License-Identifier: Apache-2.0 */
/* An exported snapshot: any bytes, its running checksum made right.  What is accepted must then verify. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "snapshot/image_export.h"
#include "wire/snap_export.h"

#define PAGES_MAX 4096u /* a larger machine would only take longer */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int stream = -1, folder = -1;
static char path[] = "/dev/shm/import-fuzz-XXXXXX";

static void sign(uint8_t *bytes, size_t size)
{
	struct snap_export_head h;
	struct snap_export_chunk c;

	memcpy(&h, bytes, sizeof(h));
	h.pages %= PAGES_MAX;
	h.crc = 0;
	uint32_t crc = h.crc = crc32c(&h, sizeof(h));
	memcpy(bytes, &h, sizeof(h));
	for (size_t at = sizeof(h); size - at >= sizeof(c);) {
		memcpy(&c, bytes + at, sizeof(c));
		if (c.len > size - at - sizeof(c))
			return;
		c.crc = 0;
		crc = crc32c_more(crc32c_more(crc, &c, sizeof(c)), bytes + at + sizeof(c), c.len);
		c.crc = crc;
		memcpy(bytes + at, &c, sizeof(c));
		at += sizeof(c) + c.len;
	}
}

static void empty_folder(void)
{
	int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY);
	DIR *dir = fdopendir(fd);
	struct dirent *entry;

	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			VERIFY(!unlinkat(folder, entry->d_name, 0));
	if (dir)
		closedir(dir);
}

static int find(void *arg, const uint8_t id[SNAP_ID_LEN])
{
	(void)arg, (void)id;
	return -ENOENT;
}

static void go_away(void)
{
	empty_folder();
	rmdir(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snap_written out;
	struct errmsg why;
	cleanup_free uint8_t *bytes = malloc(size + 1);

	if (stream < 0) {
		stream = memfd_create("stream", MFD_CLOEXEC);
		VERIFY(mkdtemp(path));
		folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		atexit(go_away);
	}
	if (!bytes)
		return 0;
	memcpy(bytes, data, size);
	if (size >= sizeof(struct snap_export_head))
		sign(bytes, size);
	VERIFY(!ftruncate(stream, 0) && pwrite(stream, bytes, size, 0) == (ssize_t)size);
	VERIFY(lseek(stream, 0, SEEK_SET) == 0);
	struct snap_import cfg = {
		.fd = stream, .dir_fd = folder, .name = "in", .kind = SNAP_IMAGE_PACKED};
	if (snap_import(&cfg, &out, &why) == 0) {
		cleanup_close int fd = openat(folder, "in", O_RDONLY | O_CLOEXEC);
		VERIFY(fd >= 0 && !snap_chain_verify(fd, find, NULL, &why));
	}
	empty_folder();
	return 0;
}
