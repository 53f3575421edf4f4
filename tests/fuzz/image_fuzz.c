/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot's file: any bytes, every checksum made right, so that the checks behind them run. */
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "snapshot/image.h"
#include "snapshot/image_ws.h"

#define PAGES_READ 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int file = -1;

/* The working set's own checksum covers all but its data. */
static void sign_ws(uint8_t *ws, size_t len)
{
	struct snap_ws_head h;

	if (len < sizeof(h))
		return;
	memcpy(&h, ws, sizeof(h));
	size_t front = sizeof(h) + (size_t)h.run_count * 8 + (size_t)h.block_count * 8;
	h.crc = 0;
	memcpy(ws, &h, sizeof(h));
	h.crc = crc32c(ws, front < len ? front : len);
	memcpy(ws, &h, sizeof(h));
}

static void sign(uint8_t *bytes, size_t size)
{
	struct snap_image_header h;

	memcpy(&h, bytes, sizeof(h));
	h.file_len = size;
	for (unsigned i = 0; i < SNAP_IMAGE_SECTIONS; i++) {
		struct snap_image_section *s = &h.section[i];
		if (s->off > size || s->len > size - s->off || s->type == SNAP_IMAGE_MEM)
			continue;
		if (s->type == SNAP_IMAGE_WS)
			sign_ws(bytes + s->off, s->len);
		if (s->type)
			s->crc = crc32c(bytes + s->off, s->len);
	}
	h.crc = 0;
	h.crc = crc32c(&h, sizeof(h));
	memcpy(bytes, &h, sizeof(h));
}

/* A parent that does not end: the file itself. */
static int find(void *arg, const uint8_t id[SNAP_ID_LEN])
{
	(void)arg;
	return id[0] & 1 ? dup(file) : -ENOENT;
}

static int count_pages(void *arg, uint64_t page, uint32_t count, bool written, const void *bytes)
{
	struct snap_image_info *info = arg;

	(void)written, (void)bytes;
	VERIFY(page < info->pages && count <= info->pages - page);
	return 0;
}

static void use_image(struct snap_image *image)
{
	struct snap_image_info info;
	const struct snap_disk *disk;
	struct snap_ws *ws;
	size_t len;
	struct errmsg why;
	volatile uint8_t sum = 0;

	snap_image_info(image, &info);
	const uint8_t *state = snap_image_state(image, &len);
	for (size_t i = 0; i < len; i++)
		sum = (uint8_t)(sum + state[i]);
	uint32_t disks = snap_image_disks(image, &disk);
	for (uint32_t i = 0; i < disks; i++)
		for (uint32_t k = 0; k < disk[i].layer_count * SNAP_ID_LEN; k++)
			sum = (uint8_t)(sum + disk[i].layer[k]);
	if (!snap_ws_open_section(&ws, image, &why)) {
		int err = snap_ws_each(ws, count_pages, &info, &why);
		VERIFY(err == 0 || err == -EBADMSG);
		snap_ws_close(ws);
	}
	int err = snap_image_verify(image, &why);
	VERIFY(err == 0 || err == -EBADMSG);
}

static void use_chain(enum snap_chain_depth depth)
{
	static uint8_t page[SNAP_PAGE_SIZE];
	struct snap_image_info info;
	struct snap_chain *chain;
	struct snap_plan plan;
	struct errmsg why;

	if (snap_chain_open(&chain, file, find, NULL, depth, &why))
		return;
	snap_image_info(snap_chain_head(chain), &info);
	for (uint64_t p = 0; p < PAGES_READ && p < info.pages; p++) {
		int err = snap_chain_read(chain, p, page, &why);
		VERIFY(err == 0 || err == -EBADMSG);
	}
	VERIFY(snap_chain_read(chain, info.pages, page, &why) == -ERANGE);
	if (!snap_chain_plan(chain, &plan, &why)) {
		VERIFY(!snap_plan_check(&plan, info.pages, SNAP_MAPS_MAX, &why));
		snap_plan_free(&plan);
	}
	snap_chain_close(chain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snap_image *image;
	struct errmsg why;
	cleanup_free uint8_t *bytes = malloc(size + 1);

	if (file < 0)
		file = memfd_create("image", MFD_CLOEXEC);
	if (!bytes || file < 0)
		return 0;
	memcpy(bytes, data, size);
	if (size >= sizeof(struct snap_image_header))
		sign(bytes, size);
	VERIFY(!ftruncate(file, 0) && pwrite(file, bytes, size, 0) == (ssize_t)size);
	if (snap_image_open(&image, file, &why))
		return 0;
	use_image(image);
	snap_image_close(image);
	use_chain(SNAP_CHAIN_NEEDED);
	use_chain(SNAP_CHAIN_ALL);
	return 0;
}
