/* SPDX-License-Identifier: Apache-2.0 */
/*
 * First byte even: the rest is a layer's header and map, opened as a stranger's file, with and without its
 * checksum made right.  Odd: the rest are requests to an overlay, compared with a flat disk.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "devices/blk_cow.h"
#include "devices/blk_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SECTOR  512u
#define SECTORS 203u
#define BASE    101u /* sectors of the image below */
#define OPS     32u
#define RECORD  4u

static struct loop *the_loop(void)
{
	static struct loop *loop;
	if (!loop) {
		VERIFY(loop_create(&loop, 64, NULL) == 0);
		VERIFY(loop_step(loop, LOOP_POLL) == 0);
	}
	return loop;
}

static int file(uint64_t size)
{
	int fd = memfd_create("f", MFD_CLOEXEC);
	VERIFY(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	return fd;
}

static void stranger(const uint8_t *data, size_t size)
{
	struct blk_cow_cfg cfg = {.name = "d", .loop = the_loop(), .layer_count = 1};
	struct blk_backend *disk = NULL;
	struct cow_header header = {0};
	struct cow_layer layer;
	cleanup_close int fd = file(0);

	memcpy(&header, data, size < sizeof(header) ? size : sizeof(header));
	memcpy(header.magic, COW_MAGIC, sizeof(header.magic));
	VERIFY(pwrite(fd, data, size, 0) == (ssize_t)size);
	cow_decode(&header, &layer, NULL);
	cfg.layer[0] = fd;
	if (blk_cow_create(&disk, &cfg, NULL) == 0)
		blk_destroy(disk);
	/* The same with fields as given and the rest made right: what a liar with a checksum can say. */
	memset(&layer, 0, sizeof(layer));
	memcpy(&layer, data, size < sizeof(layer) ? size : sizeof(layer));
	layer.sealed = data[0] & 1;
	cow_encode(&layer, &header);
	VERIFY(pwrite(fd, &header, sizeof(header), 0) == sizeof(header));
	if (cow_layout(&layer) == 0 && layer.size < UINT64_C(1) << 24)
		VERIFY(ftruncate(fd, (off_t)layer.file_len) == 0);
	if (blk_cow_create(&disk, &cfg, NULL) == 0)
		blk_destroy(disk);
}

struct request {
	struct blk_op op;
	struct iovec iov;
	uint8_t buf[32 * SECTOR];
	bool done;
};

static void on_done(struct blk_op *op, int err)
{
	VERIFY(err == 0);
	container_of(op, struct request, op)->done = true;
}

static uint8_t model[SECTORS * SECTOR];

static void requests(struct blk_backend *disk, const uint8_t *data, size_t size)
{
	static struct request rq[OPS];
	unsigned n = 0;

	for (; n < OPS && (n + 1) * RECORD <= size; n++) {
		const uint8_t *p = data + n * RECORD;
		uint64_t first = p[1] % SECTORS, count = 1 + p[2] % 32;
		if (first + count > SECTORS)
			count = SECTORS - first;
		enum blk_kind kind = (enum blk_kind)(p[0] % 6);
		size_t len = kind == BLK_FLUSH ? 0 : count * SECTOR;
		memset(rq[n].buf, p[3], sizeof(rq[n].buf));
		rq[n].done = false;
		rq[n].iov = (struct iovec){rq[n].buf, len};
		rq[n].op = (struct blk_op){.done = on_done,
					   .kind = kind,
					   .off = first * SECTOR,
					   .len = len,
					   .iov = &rq[n].iov,
					   .count = 1};
		blk_submit(disk, &rq[n].op);
		/* Overlapping requests have no order: each is awaited, but for reads before it. */
		while (!rq[n].done)
			VERIFY(loop_step(the_loop(), LOOP_WAIT) == 0);
		uint8_t *at = model + first * SECTOR;
		if (kind == BLK_READ && memcmp(rq[n].buf, at, len) != 0)
			abort();
		if (kind == BLK_WRITE)
			memset(at, p[3], len);
		if (kind == BLK_ZERO || kind == BLK_ZERO_UNMAP)
			memset(at, 0, len);
		if (kind == BLK_DISCARD)
			for (uint64_t s = (first + 7) / 8 * 8; s < first + count; s++)
				if (s / 8 * 8 + 8 <= first + count || first + count == SECTORS)
					memset(model + s * SECTOR, 0, SECTOR);
	}
}

static void overlay(const uint8_t *data, size_t size)
{
	struct cow_layer layer = {
		.size = SECTORS * SECTOR, .below_size = BASE * SECTOR, .block_size = 4096};
	struct blk_cow_cfg cfg = {.name = "d", .loop = the_loop(), .layer_count = 1};
	cleanup_close int base = file(BASE * SECTOR), top = file(0);
	struct blk_backend *disk;

	memset(model, 0, sizeof(model));
	memset(model, 0x5a, BASE * SECTOR);
	VERIFY(pwrite(base, model, BASE * SECTOR, 0) == BASE * SECTOR);
	VERIFY(cow_format(top, &layer, NULL) == 0);
	cfg.layer[0] = top;
	for (unsigned i = 0; i < 2; i++) { /* the second time on what the first left */
		VERIFY(blk_file_create(&cfg.base, base, BLK_FILE_READ_ONLY, "b", the_loop(),
				       NULL) == 0);
		VERIFY(blk_cow_create(&disk, &cfg, NULL) == 0);
		requests(disk, data + i * (size / 2), size / 2);
		blk_destroy(disk);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	if (data[0] & 1)
		overlay(data + 1, size - 1);
	else
		stranger(data + 1, size - 1);
	return 0;
}
