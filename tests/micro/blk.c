/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What virtio-blk costs over bare io_uring: 4 KiB random requests, queue depth 32, page cache warm.
 *
 * One thread plays the driver (which republishes each chain as it comes back, and kicks when the event
 * index asks for it) and the io thread.  The bare run keeps the same number of the same requests in
 * flight on a ring with the same flags.  Runs are interleaved; the median of each is printed.
 *
 *     blk [FOLDER [SECONDS-A-RUN]]
 */
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "devices/blk_cow.h"
#include "devices/blk_file.h"
#include "devices/vblk.h"
#include "tests/unit/vdriver.h"

#define DEPTH 32u
#define BLOCK 4096u
#define DISK  (UINT64_C(256) << 20)
#define RUNS  5u

enum kind { READ, WRITE };

/* Of one request, microseconds: by the clock, and of CPU time, which a busy machine disturbs less. */
struct cost {
	double wall, cpu;
};

static uint64_t seed = 88172645463325252u;

static double clock_s(clockid_t id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static uint64_t random_block(void)
{
	return vd_rand(&seed) % (DISK / BLOCK);
}

/* --- bare --------------------------------------------------------------------------------------- */
static void bare_submit(struct io_uring *ring, int fd, enum kind kind, struct iovec *iov)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

	VERIFY(sqe);
	if (kind == READ)
		io_uring_prep_readv(sqe, fd, iov, 1, random_block() * BLOCK);
	else
		io_uring_prep_writev(sqe, fd, iov, 1, random_block() * BLOCK);
	io_uring_sqe_set_data(sqe, iov);
}

static struct cost bare(int fd, enum kind kind, double seconds)
{
	static uint8_t buf[DEPTH][BLOCK];
	struct iovec iov[DEPTH];
	struct io_uring ring;
	uint64_t n = 0;

	VERIFY(io_uring_queue_init(64, &ring,
				   IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) == 0);
	for (unsigned i = 0; i < DEPTH; i++) {
		iov[i] = (struct iovec){buf[i], BLOCK};
		bare_submit(&ring, fd, kind, &iov[i]);
	}
	double begin = clock_s(CLOCK_MONOTONIC), cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID);
	while (n % 1024 >= DEPTH || clock_s(CLOCK_MONOTONIC) - begin < seconds) {
		struct io_uring_cqe *cqe;
		VERIFY(io_uring_submit_and_wait(&ring, 1) >= 0);
		while (io_uring_peek_batch_cqe(&ring, &cqe, 1)) {
			VERIFY(cqe->res == BLOCK);
			struct iovec *done = io_uring_cqe_get_data(cqe);
			io_uring_cqe_seen(&ring, cqe);
			bare_submit(&ring, fd, kind, done);
			n++;
		}
	}
	struct cost cost = {(clock_s(CLOCK_MONOTONIC) - begin) / (double)n * 1e6,
			    (clock_s(CLOCK_PROCESS_CPUTIME_ID) - cpu) / (double)n * 1e6};
	io_uring_queue_exit(&ring);
	return cost;
}

/* --- virtio ------------------------------------------------------------------------------------- */
static void place(struct vd_rig *r, unsigned i, enum kind kind)
{
	uint64_t at = r->vd.data + i * 0x4000ull;
	uint64_t *hdr = vd_ptr(&r->vd, at, 16);

	hdr[0] = kind == READ ? 0 : 1;
	hdr[1] = random_block() * (BLOCK / 512);
}

static void kick_if_asked(struct vd_rig *r, uint16_t before)
{
	const struct vd_queue *q = &r->vd.q[0];
	uint16_t event = *vd_u16(&r->vd, q->used + 4 + 8u * q->size);

	if ((uint16_t)(q->avail_idx - event - 1) < (uint16_t)(q->avail_idx - before))
		vd_kick(r->mmio, 0);
}

/* Takes what came back and makes it available again.  Return: how many. */
static unsigned recycle(struct vd_rig *r, enum kind kind)
{
	struct vd_queue *q = &r->vd.q[0];
	uint16_t before = q->avail_idx;
	unsigned n = 0;

	for (; *vd_u16(&r->vd, q->used + 2) != q->last_used; n++, q->last_used++) {
		uint32_t *elem = vd_ptr(&r->vd, q->used + 4 + 8u * (q->last_used % q->size), 8);
		VERIFY(*(uint8_t *)vd_ptr(&r->vd, r->vd.data + elem[0] / 3 * 0x4000ull + 16, 1) ==
		       0);
		place(r, elem[0] / 3, kind);
		vd_publish(&r->vd, q, (uint16_t)elem[0]);
	}
	*vd_u16(&r->vd, q->avail + 4 + 2u * q->size) = q->last_used; /* used_event */
	if (n)
		kick_if_asked(r, before);
	return n;
}

static struct cost virtio(struct vd_rig *r, enum kind kind, double seconds)
{
	uint64_t n = 0;

	vd_start(&r->vd, r->mmio, r->dev->offered, 1, 256);
	for (unsigned i = 0; i < DEPTH; i++) {
		uint64_t at = r->vd.data + i * 0x4000ull;
		const struct vd_seg seg[] = {
			{at, 16, false}, {at + 0x1000, BLOCK, kind == READ}, {at + 16, 1, true}};
		place(r, i, kind);
		vd_add_direct(&r->vd, 0, seg, 3);
	}
	vd_kick(r->mmio, 0);
	double begin = clock_s(CLOCK_MONOTONIC), cpu = clock_s(CLOCK_PROCESS_CPUTIME_ID);
	while (n % 1024 >= DEPTH || clock_s(CLOCK_MONOTONIC) - begin < seconds) {
		VERIFY(loop_step(r->loop, LOOP_WAIT) == 0);
		n += recycle(r, kind);
	}
	struct cost cost = {(clock_s(CLOCK_MONOTONIC) - begin) / (double)n * 1e6,
			    (clock_s(CLOCK_PROCESS_CPUTIME_ID) - cpu) / (double)n * 1e6};
	vd_w32(r->mmio, 0x70, 0);
	return cost;
}

static int temp_file(const char *folder, uint64_t size)
{
	static uint8_t buf[1u << 20];
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	VERIFY(fd >= 0);
	memset(buf, 0x5a, sizeof(buf));
	for (uint64_t off = 0; off < size; off += sizeof(buf))
		VERIFY(pwrite(fd, buf, sizeof(buf), (off_t)off) == sizeof(buf));
	return fd;
}

static void plug(struct vd_rig *r, struct blk_backend *backend)
{
	struct vblk_cfg cfg = {.id = "disk", .backend = backend, .writeback = true};
	struct dev *dev;

	VERIFY(vblk_create(&dev, &cfg, NULL) == 0);
	vd_rig_plug(r, dev);
}

static struct blk_backend *overlay(struct loop *loop, int base, int top)
{
	struct cow_layer layer = {.size = DISK, .below_size = DISK, .block_size = 4096};
	struct blk_cow_cfg cfg = {.name = "disk", .loop = loop, .layer = {top}, .layer_count = 1};
	struct blk_backend *disk;

	VERIFY(cow_format(top, &layer, NULL) == 0);
	VERIFY(blk_file_create(&cfg.base, base, BLK_FILE_READ_ONLY, "base", loop, NULL) == 0);
	VERIFY(blk_cow_create(&disk, &cfg, NULL) == 0);
	return disk;
}

static int by_cpu(const void *a, const void *b)
{
	double x = ((const struct cost *)a)->cpu, y = ((const struct cost *)b)->cpu;
	return x < y ? -1 : x > y;
}

static int by_wall(const void *a, const void *b)
{
	double x = ((const struct cost *)a)->wall, y = ((const struct cost *)b)->wall;
	return x < y ? -1 : x > y;
}

static struct cost median(struct cost *of)
{
	struct cost mid;

	qsort(of, RUNS, sizeof(*of), by_cpu);
	mid.cpu = of[RUNS / 2].cpu;
	qsort(of, RUNS, sizeof(*of), by_wall);
	mid.wall = of[RUNS / 2].wall;
	return mid;
}

static void report(const char *what, struct cost of, struct cost bare_cost)
{
	printf("  %-22s %7.1f kIOPS (%.2f)   %.2f us CPU a request (%.2f)\n", what, 1000 / of.wall,
	       bare_cost.wall / of.wall, of.cpu, of.cpu / bare_cost.cpu);
}

int main(int argc, char **argv)
{
	const char *folder = argc > 1 ? argv[1] : "/tmp";
	double seconds = argc > 2 ? atof(argv[2]) : 1.0;
	struct cost cost[3][RUNS];
	int fd = temp_file(folder, DISK), base = temp_file(folder, DISK),
	    top = temp_file(folder, 0);
	struct vd_rig file = {0}, cow = {0};
	struct blk_backend *backend;

	vd_rig_init(&file, UINT64_C(4) << 20);
	VERIFY(blk_file_create(&backend, fd, BLK_FILE_READ_WRITE, "disk", file.loop, NULL) == 0);
	plug(&file, backend);
	vd_rig_init(&cow, UINT64_C(4) << 20);
	plug(&cow, overlay(cow.loop, base, top));
	for (enum kind kind = READ; kind <= WRITE; kind++) {
		for (unsigned i = 0; i < RUNS; i++) {
			cost[0][i] = bare(fd, kind, seconds);
			cost[1][i] = virtio(&file, kind, seconds);
			cost[2][i] = virtio(&cow, kind, seconds);
		}
		struct cost floor = median(cost[0]);
		printf("4 KiB random %s, depth %u\n", kind == READ ? "read" : "write", DEPTH);
		report("bare io_uring", floor, floor);
		report("virtio-blk, raw file", median(cost[1]), floor);
		report("virtio-blk, overlay", median(cost[2]), floor);
	}
	vd_rig_deinit(&file);
	vd_rig_deinit(&cow);
	return 0;
}
