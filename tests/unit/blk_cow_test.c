/* SPDX-License-Identifier: Apache-2.0 */
/* The copy-on-write overlay against a flat disk in memory, against damaged layers, and against kill -9. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "devices/blk_cow.h"
#include "devices/blk_file.h"

#define SECTOR   512u
#define SIZE     (1024u * 1024u + 3 * SECTOR) /* ends inside a block */
#define BASE     (700u * 1024u + SECTOR) /* the image is smaller, and ends inside a block too */
#define SECTORS  (SIZE / SECTOR)
#define OPS_MAX  24
#define SPAN_MAX 40u /* sectors of a request */

static const uint8_t base_id[COW_ID_LEN] = "the base image";

static uint64_t seed;
static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static void seed_from_env(void)
{
	const char *given = getenv("SEED");
	seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;
	print_message("SEED=%#llx\n", (unsigned long long)seed);
}

static int unlinked(void)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return fd >= 0 ? fd : memfd_create("layer", MFD_CLOEXEC);
}

static int reopen_read_only(int fd)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

struct rig {
	struct loop *loop;
	struct blk_backend *disk;
	int base_fd, layer_fd[3];
	unsigned layers;
	uint8_t *model;
};

static void must(int err, const struct errmsg *why)
{
	if (err)
		fail_msg("%s", why->text);
}

static void open_disk(struct rig *t)
{
	struct errmsg why = {""};
	struct blk_cow_cfg cfg = {.name = "disk", .loop = t->loop, .layer_count = t->layers};

	memcpy(cfg.base_id, base_id, COW_ID_LEN);
	for (unsigned i = 0; i < t->layers; i++)
		cfg.layer[i] = t->layer_fd[i];
	must(blk_file_create(&cfg.base, t->base_fd, BLK_FILE_READ_ONLY, "base", t->loop, &why),
	     &why);
	must(blk_cow_create(&t->disk, &cfg, &why), &why);
}

static void add_layer(struct rig *t, uint32_t block)
{
	struct cow_layer layer = {
		.size = SIZE, .below_size = t->layers ? SIZE : BASE, .block_size = block};
	struct errmsg why = {""};

	if (t->layers)
		memset(layer.below_id, (int)t->layers, COW_ID_LEN);
	else
		memcpy(layer.below_id, base_id, COW_ID_LEN);
	memset(layer.layer_id, (int)t->layers + 1, COW_ID_LEN);
	t->layer_fd[t->layers] = unlinked();
	must(cow_format(t->layer_fd[t->layers++], &layer, &why), &why);
}

/* The flag and the checksum of the map. */
static void seal_layer(struct rig *t, unsigned i)
{
	struct cow_layer layer;
	struct cow_header header;
	struct errmsg why = {""};

	must(cow_open(t->layer_fd[i], &layer, &why), &why);
	uint8_t *map = calloc(1, layer.map_len);
	must(cow_read_map(t->layer_fd[i], &layer, map, &why), &why);
	layer.sealed = true;
	layer.map_crc = crc32c(map, layer.map_len);
	cow_encode(&layer, &header);
	assert_int_equal(pwrite(t->layer_fd[i], &header, sizeof(header), 0), sizeof(header));
	free(map);
}

static void fill_base(struct rig *t)
{
	t->base_fd = unlinked();
	for (unsigned i = 0; i < BASE; i++)
		t->model[i] = (uint8_t)(i / 7 + i / SECTOR * 3 + 1);
	assert_int_equal(pwrite(t->base_fd, t->model, BASE, 0), BASE);
}

static struct rig *make(uint32_t block)
{
	struct rig *t = calloc(1, sizeof(*t));

	t->model = calloc(1, SIZE);
	assert_int_equal(loop_create(&t->loop, 64, NULL), 0);
	assert_int_equal(loop_step(t->loop, LOOP_POLL), 0);
	fill_base(t);
	add_layer(t, block);
	open_disk(t);
	return t;
}

static int setup(void **state)
{
	*state = make(4096);
	return 0;
}

static int teardown(void **state)
{
	struct rig *t = *state;

	blk_destroy(t->disk);
	loop_destroy(t->loop);
	close(t->base_fd);
	for (unsigned i = 0; i < t->layers; i++)
		close(t->layer_fd[i]);
	free(t->model);
	free(t);
	return 0;
}

/* --- requests ----------------------------------------------------------------------------------- */
struct request {
	struct blk_op op;
	struct iovec iov[4];
	uint8_t *buf;
	int err;
	bool done;
};

static void on_done(struct blk_op *op, int err)
{
	struct request *rq = container_of(op, struct request, op);
	assert_false(rq->done);
	rq->done = true;
	rq->err = err;
}

static void submit(struct rig *t, struct request *rq, enum blk_kind kind, uint64_t off,
		   uint64_t len)
{
	uint64_t cut = len > 1000 ? 700 : len; /* vectors whose pieces end anywhere */

	rq->done = false;
	rq->iov[0] = (struct iovec){rq->buf, cut};
	rq->iov[1] = (struct iovec){rq->buf ? rq->buf + cut : NULL, len - cut};
	rq->op = (struct blk_op){.done = on_done,
				 .kind = kind,
				 .off = off,
				 .len = len,
				 .iov = rq->iov,
				 .count = len > cut ? 2 : 1};
	blk_submit(t->disk, &rq->op);
}

static int await(struct rig *t, const struct request *rq)
{
	while (!rq->done)
		assert_int_equal(loop_step(t->loop, LOOP_WAIT), 0);
	return rq->err;
}

static int run(struct rig *t, enum blk_kind kind, uint64_t off, uint64_t len, uint8_t *buf)
{
	struct request rq = {.buf = buf};
	submit(t, &rq, kind, off, len);
	return await(t, &rq);
}

static void compare_all(struct rig *t)
{
	uint8_t *buf = malloc(SIZE);
	assert_int_equal(run(t, BLK_READ, 0, SIZE, buf), 0);
	for (unsigned i = 0; i < SIZE; i++)
		if (buf[i] != t->model[i])
			fail_msg("byte %u is %u, not %u", i, buf[i], t->model[i]);
	free(buf);
}

static uint64_t allocated(int fd)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* --- single cases ------------------------------------------------------------------------------- */
static void blk_cow_read__untouched__base_then_zeroes(void **state)
{
	compare_all(*state);
}

static void blk_cow_write__part_of_a_block__rest_comes_from_below(void **state)
{
	struct rig *t = *state;
	uint8_t buf[3 * SECTOR];

	memset(buf, 0xee, sizeof(buf));
	memcpy(t->model + 10 * SECTOR, buf, sizeof(buf));
	assert_int_equal(run(t, BLK_WRITE, 10 * SECTOR, sizeof(buf), buf), 0);
	compare_all(t);
	/* in the block where the image ends */
	memcpy(t->model + BASE + SECTOR, buf, SECTOR);
	assert_int_equal(run(t, BLK_WRITE, BASE + SECTOR, SECTOR, buf), 0);
	compare_all(t);
	/* in the last block of the disk */
	memcpy(t->model + SIZE - SECTOR, buf, SECTOR);
	assert_int_equal(run(t, BLK_WRITE, SIZE - SECTOR, SECTOR, buf), 0);
	compare_all(t);
}

static void blk_cow_write__base_unchanged(void **state)
{
	struct rig *t = *state;
	uint8_t *before = malloc(BASE), *after = malloc(BASE);

	assert_int_equal(pread(t->base_fd, before, BASE, 0), BASE);
	memset(t->model, 0x33, SIZE);
	assert_int_equal(run(t, BLK_WRITE, 0, SIZE, t->model), 0);
	compare_all(t);
	assert_int_equal(pread(t->base_fd, after, BASE, 0), BASE);
	assert_memory_equal(before, after, BASE);
	free(before);
	free(after);
}

static void blk_cow_discard__whole_blocks_zero_edges_kept(void **state)
{
	struct rig *t = *state;

	assert_int_equal(run(t, BLK_WRITE, 0, SIZE, t->model), 0);
	uint64_t before = allocated(t->layer_fd[0]);
	assert_int_equal(run(t, BLK_DISCARD, 4096 - SECTOR, 10 * 4096, NULL), 0);
	memset(t->model + 4096, 0, 9 * 4096);
	compare_all(t);
	assert_true(before - allocated(t->layer_fd[0]) >= 9 * 4096);
	/* never written here: shadows what lies below, and takes no space */
	struct rig *fresh = make(4096);
	before = allocated(fresh->layer_fd[0]);
	assert_int_equal(run(fresh, BLK_DISCARD, 0, SIZE, NULL), 0);
	memset(fresh->model, 0, SIZE);
	compare_all(fresh);
	assert_int_equal(allocated(fresh->layer_fd[0]), before);
	void *s = fresh;
	teardown(&s);
}

static void blk_cow_zero__edges_too(void **state)
{
	struct rig *t = *state;

	assert_int_equal(run(t, BLK_ZERO, 4096 - SECTOR, 2 * 4096, NULL), 0);
	memset(t->model + 4096 - SECTOR, 0, 2 * 4096);
	assert_int_equal(run(t, BLK_ZERO_UNMAP, 20 * 4096 + SECTOR, SECTOR, NULL), 0);
	memset(t->model + 20 * 4096 + SECTOR, 0, SECTOR);
	compare_all(t);
}

/* The layer's file may grow no further: the error arrives, and what was below is still what is read. */
static void blk_cow_write__fails__block_still_read_from_below(void **state)
{
	struct rig *t = *state;
	struct rlimit was, none = {.rlim_cur = 4096};
	uint8_t buf[8192];

	memset(buf, 0xcc, sizeof(buf));
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	none.rlim_max = was.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &none), 0);
	int whole = run(t, BLK_WRITE, 4096, 8192, buf);
	int part = run(t, BLK_WRITE, 40 * 4096 + SECTOR, SECTOR, buf);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_int_equal(whole, -EFBIG);
	assert_int_equal(part, -EFBIG);
	compare_all(t);
	assert_int_equal(run(t, BLK_FLUSH, 0, 0, NULL), 0);
	blk_destroy(t->disk);
	open_disk(t);
	compare_all(t);
	/* and the next write of the same blocks is served */
	memcpy(t->model + 4096, buf, 8192);
	assert_int_equal(run(t, BLK_WRITE, 4096, 8192, buf), 0);
	compare_all(t);
}

static void reopen(struct rig *t)
{
	blk_destroy(t->disk);
	open_disk(t);
}

static void blk_cow_reopen__after_flush_or_close__same(void **state)
{
	struct rig *t = *state;

	memset(t->model + 5 * SECTOR, 0x44, 100 * SECTOR);
	assert_int_equal(run(t, BLK_WRITE, 5 * SECTOR, 100 * SECTOR, t->model + 5 * SECTOR), 0);
	assert_int_equal(run(t, BLK_FLUSH, 0, 0, NULL), 0);
	reopen(t);
	compare_all(t);
	memset(t->model + 300 * SECTOR, 0x55, 8 * SECTOR);
	assert_int_equal(run(t, BLK_WRITE, 300 * SECTOR, 8 * SECTOR, t->model + 300 * SECTOR), 0);
	assert_int_equal(run(t, BLK_DISCARD, 4096, 8192, NULL), 0);
	memset(t->model + 4096, 0, 8192);
	reopen(t); /* no flush: the close writes the marks */
	compare_all(t);
}

/* --- refusals ----------------------------------------------------------------------------------- */
static int try_open(struct rig *t, struct errmsg *why)
{
	struct blk_cow_cfg cfg = {.name = "d", .loop = t->loop, .layer_count = t->layers};
	struct blk_backend *disk = NULL;

	memcpy(cfg.base_id, base_id, COW_ID_LEN);
	for (unsigned i = 0; i < t->layers; i++)
		cfg.layer[i] = t->layer_fd[i];
	must(blk_file_create(&cfg.base, t->base_fd, BLK_FILE_READ_ONLY, "base", t->loop, why), why);
	int err = blk_cow_create(&disk, &cfg, why);
	blk_destroy(err ? cfg.base : disk);
	return err;
}

/* Any one bit of the header, and of the map only what keeps no meaning. */
static void blk_cow_create__damaged_header__ebadmsg(void **state)
{
	struct rig *t = *state;
	struct errmsg why;
	uint8_t byte, was;

	blk_destroy(t->disk);
	for (unsigned off = 0; off < COW_HEADER_LEN; off += off < 128 ? 1 : 61) {
		assert_int_equal(pread(t->layer_fd[0], &was, 1, off), 1);
		byte = (uint8_t)(was ^ 1u << off % 8);
		assert_int_equal(pwrite(t->layer_fd[0], &byte, 1, off), 1);
		assert_int_equal(try_open(t, &why), -EBADMSG);
		assert_int_equal(pwrite(t->layer_fd[0], &was, 1, off), 1);
	}
	byte = 0x0c; /* block 1 in state 3 */
	assert_int_equal(pwrite(t->layer_fd[0], &byte, 1, COW_HEADER_LEN), 1);
	assert_int_equal(try_open(t, &why), -EBADMSG);
	assert_string_equal(why.text, "disk d: disk layer's map is damaged: Bad message");
	byte = 0;
	assert_int_equal(pwrite(t->layer_fd[0], &byte, 1, COW_HEADER_LEN), 1);
	open_disk(t);
}

static void put_header(struct rig *t, const struct cow_layer *layer)
{
	struct cow_header header;
	cow_encode(layer, &header);
	assert_int_equal(pwrite(t->layer_fd[0], &header, sizeof(header), 0), sizeof(header));
}

/* Headers with a right checksum that say what cannot be. */
static void blk_cow_create__lying_header__ebadmsg(void **state)
{
	struct rig *t = *state;
	struct cow_layer good, bad;
	struct errmsg why;

	blk_destroy(t->disk);
	assert_int_equal(cow_open(t->layer_fd[0], &good, &why), 0);
#define LIE(change)                                            \
	do {                                                   \
		bad = good;                                    \
		change;                                        \
		put_header(t, &bad);                           \
		assert_int_equal(try_open(t, &why), -EBADMSG); \
	} while (0)
	LIE(bad.block_size = 0);
	LIE(bad.block_size = 4097);
	LIE(bad.block_size = 2048);
	LIE(bad.block_size = 1u << 31);
	LIE(bad.block_size = 8192);
	LIE(bad.size = 0);
	LIE(bad.size = UINT64_MAX);
	LIE(bad.size = COW_SIZE_MAX + 512);
	LIE(bad.size += 1);
	LIE(bad.size += 65536 * 16);
	LIE(bad.below_size = SIZE + 512);
	LIE(bad.below_size = 512);
	LIE(bad.map_len = 0);
	LIE(bad.map_len = UINT64_MAX);
	LIE(bad.data_off = 4096);
	LIE(bad.map_crc = 1);
	LIE(bad.below_id[3] ^= 1);
	LIE(bad.sealed = true); /* the top must not be */
#undef LIE
	put_header(t, &good);
	assert_int_equal(ftruncate(t->layer_fd[0], (off_t)good.file_len - 1), 0);
	assert_int_equal(try_open(t, &why), -EBADMSG);
	assert_int_equal(ftruncate(t->layer_fd[0], 100), 0);
	assert_int_equal(try_open(t, &why), -EBADMSG);
	assert_string_equal(why.text, "disk d: disk layer is cut short: Bad message");
	assert_int_equal(cow_format(t->layer_fd[0], &good, &why), 0);
	open_disk(t);
}

static void blk_cow_create__layer_in_use__ebusy(void **state)
{
	struct rig *t = *state;
	struct errmsg why;
	int own = t->layer_fd[0];
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", own);
	t->layer_fd[0] = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(try_open(t, &why), -EBUSY);
	assert_string_equal(why.text, "disk d: image d is in use by another VM");
	close(t->layer_fd[0]);
	t->layer_fd[0] = own;
}

static void cow_format__bad_sizes__einval(void **state)
{
	(void)state;
	int fd = unlinked();
	struct errmsg why;
	struct cow_layer l = {.size = 4096, .block_size = 4096};

	l.size = 0;
	assert_int_equal(cow_format(fd, &l, &why), -EINVAL);
	l.size = COW_SIZE_MAX + 512;
	assert_int_equal(cow_format(fd, &l, &why), -EINVAL);
	l.size = 4096;
	l.block_size = 12288;
	assert_int_equal(cow_format(fd, &l, &why), -EINVAL);
	close(fd);
}

/* --- the model ---------------------------------------------------------------------------------- */
/* Requests of one round touch sectors of their own, but share blocks. */
struct round {
	struct request rq[OPS_MAX];
	uint64_t first[OPS_MAX], n[OPS_MAX];
	bool taken[SECTORS];
	uint32_t block;
};

static bool pick(struct round *r, unsigned i)
{
	uint64_t n = 1 + rnd() % SPAN_MAX, first = rnd() % (SECTORS - n + 1);

	if (rnd() % 4) /* most in one corner, so that they meet */
		first = (rnd() % 3) * (SECTORS - n) / 2 / 3 + rnd() % 64;
	if (first + n > SECTORS)
		return false;
	for (uint64_t s = first; s < first + n; s++)
		if (r->taken[s])
			return false;
	memset(r->taken + first, true, n);
	r->first[i] = first;
	r->n[i] = n;
	return true;
}

static void model_apply(struct rig *t, const struct round *r, unsigned i, enum blk_kind kind)
{
	uint64_t off = r->first[i] * SECTOR, end = off + r->n[i] * SECTOR;

	if (kind == BLK_WRITE)
		memcpy(t->model + off, r->rq[i].buf, end - off);
	if (kind == BLK_ZERO || kind == BLK_ZERO_UNMAP)
		memset(t->model + off, 0, end - off);
	if (kind != BLK_DISCARD)
		return;
	uint64_t from = (off + r->block - 1) / r->block * r->block;
	uint64_t to = end == SIZE ? end : end / r->block * r->block;
	if (from < to)
		memset(t->model + from, 0, to - from);
}

static void random_round(struct rig *t, struct round *r)
{
	static const enum blk_kind kinds[] = {BLK_READ,  BLK_READ, BLK_WRITE,      BLK_WRITE,
					      BLK_WRITE, BLK_ZERO, BLK_ZERO_UNMAP, BLK_DISCARD};
	unsigned n = 0;

	memset(r->taken, 0, sizeof(r->taken));
	for (unsigned tries = 0; tries < OPS_MAX; tries++) {
		if (!pick(r, n))
			continue;
		enum blk_kind kind = kinds[rnd() % ARRAY_LEN(kinds)];
		if (kind == BLK_WRITE)
			for (uint64_t b = 0; b < r->n[n] * SECTOR; b++)
				r->rq[n].buf[b] = (uint8_t)(rnd() >> 20);
		model_apply(t, r, n, kind);
		submit(t, &r->rq[n], kind, r->first[n] * SECTOR, r->n[n] * SECTOR);
		n++;
		if (rnd() % 8 == 0)
			assert_int_equal(loop_step(t->loop, LOOP_POLL), 0);
	}
	struct request flush = {.done = true};
	if (rnd() % 4 == 0)
		submit(t, &flush, BLK_FLUSH, 0, 0);
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(await(t, &r->rq[i]), 0);
		if (r->rq[i].op.kind == BLK_READ)
			assert_memory_equal(r->rq[i].buf, t->model + r->first[i] * SECTOR,
					    r->n[i] * SECTOR);
	}
	assert_int_equal(await(t, &flush), 0);
}

static void random_disk(uint32_t block)
{
	struct rig *t = make(block);
	struct round *r = calloc(1, sizeof(*r));
	void *state = t;

	r->block = block;
	for (unsigned i = 0; i < OPS_MAX; i++)
		r->rq[i].buf = malloc(SPAN_MAX * SECTOR);
	for (unsigned i = 0; i < 150; i++) {
		random_round(t, r);
		if (i % 25 == 24) {
			compare_all(t);
			reopen(t);
			compare_all(t);
		}
		if (i == 49 || i == 99) { /* seal what there is, go on in a layer above */
			blk_destroy(t->disk);
			seal_layer(t, t->layers - 1);
			int writable = t->layer_fd[t->layers - 1];
			t->layer_fd[t->layers - 1] = reopen_read_only(writable);
			close(writable);
			add_layer(t, block);
			open_disk(t);
			compare_all(t);
		}
	}
	for (unsigned i = 0; i < OPS_MAX; i++)
		free(r->rq[i].buf);
	free(r);
	teardown(&state);
}

static void blk_cow__random_requests__agree_with_a_flat_disk(void **state)
{
	(void)state;
	seed_from_env();
	random_disk(4096);
	random_disk(16384);
	random_disk(65536);
}

/* --- kill -9 ------------------------------------------------------------------------------------ */
/* What the child tells, in memory that outlives it: versions of each unit of 3 sectors (so that units lie
 * across blocks).  A unit holds its version in every sector. */
#define UNIT  (3 * SECTOR)
#define UNITS 300u
_Static_assert(UNITS *UNIT <= BASE, "units lie in the image");

struct ledger {
	uint32_t begun[UNITS];   /* a write of this version was submitted */
	uint32_t durable[UNITS]; /* the last version that a flush answered for */
	uint32_t flushes;
};

/* Writes in flight at one time: flushes meet them at every stage. */
#define FLIGHT 8u

struct flight {
	struct request rq;
	uint8_t buf[UNIT];
	unsigned unit;
	uint32_t version;
	bool used;
};

static void fill_unit(uint8_t *buf, uint32_t version)
{
	for (unsigned i = 0; i < UNIT / 4; i++)
		memcpy(buf + 4 * i, &version, 4);
}

/* Notes a write that is over, and starts the next in its place, on a unit that no other is writing. */
static void child_fly(struct rig *t, struct ledger *ledger, struct flight *all, struct flight *f,
		      uint32_t *done)
{
	if (f->used && !f->rq.done)
		return;
	if (f->used && f->rq.err)
		_exit(1);
	if (f->used)
		done[f->unit] = f->version;
	f->used = false;
	f->unit = (unsigned)(rnd() % UNITS);
	for (unsigned i = 0; i < FLIGHT; i++)
		if (all[i].used && all[i].unit == f->unit)
			return;
	f->version = ledger->begun[f->unit] + 1;
	fill_unit(f->buf, f->version);
	__atomic_store_n(&ledger->begun[f->unit], f->version, __ATOMIC_SEQ_CST);
	f->rq.buf = f->buf;
	f->used = true;
	submit(t, &f->rq, BLK_WRITE, (uint64_t)f->unit * UNIT, UNIT);
}

static void child(struct rig *t, struct ledger *ledger)
{
	static uint32_t done[UNITS], promised[UNITS];
	static struct flight flight[FLIGHT];
	struct request flush;

	memcpy(done, ledger->durable, sizeof(done));
	/* A loop of its own: a ring does not survive fork. */
	if (loop_create(&t->loop, 64, NULL) || loop_step(t->loop, LOOP_POLL))
		_exit(1);
	open_disk(t);
	for (;;) {
		for (unsigned n = (unsigned)(rnd() % 30); n; n--) {
			child_fly(t, ledger, flight, &flight[rnd() % FLIGHT], done);
			loop_step(t->loop, LOOP_POLL);
		}
		memcpy(promised, done, sizeof(done)); /* what had completed before the flush */
		submit(t, &flush, BLK_FLUSH, 0, 0);
		while (!flush.done) {
			child_fly(t, ledger, flight, &flight[rnd() % FLIGHT], done);
			loop_step(t->loop, LOOP_POLL);
		}
		if (flush.err)
			_exit(1);
		for (unsigned i = 0; i < UNITS; i++)
			__atomic_store_n(&ledger->durable[i], promised[i], __ATOMIC_SEQ_CST);
		ledger->flushes++;
	}
}

/* The image holds version 1 of every unit; the layer above it is empty. */
static void start_over(struct rig *t, struct ledger *ledger)
{
	struct cow_layer layer;
	struct errmsg why = {""};

	must(cow_open(t->layer_fd[0], &layer, &why), &why);
	must(cow_format(t->layer_fd[0], &layer, &why), &why);
	for (unsigned unit = 0; unit < UNITS; unit++)
		ledger->begun[unit] = ledger->durable[unit] = 1;
}

static void check_units(struct rig *t, struct ledger *ledger)
{
	uint8_t *disk = malloc(SIZE);

	assert_int_equal(run(t, BLK_READ, 0, SIZE, disk), 0);
	for (unsigned unit = 0; unit < UNITS; unit++)
		for (unsigned s = 0; s < 3; s++) {
			const uint8_t *at = disk + unit * UNIT + s * SECTOR;
			uint32_t first, word;
			memcpy(&first, at, 4);
			for (unsigned i = 0; i < SECTOR / 4; i++) {
				memcpy(&word, at + 4 * i, 4);
				assert_int_equal(word, first); /* no torn sector */
			}
			if (first < ledger->durable[unit] || first > ledger->begun[unit])
				fail_msg("unit %u sector %u: version %u, durable %u, begun %u",
					 unit, s, first, ledger->durable[unit],
					 ledger->begun[unit]);
		}
	assert_memory_equal(disk + UNITS * UNIT, t->model + UNITS * UNIT, SIZE - UNITS * UNIT);
	/* what is there now is what the next child starts from */
	for (unsigned unit = 0; unit < UNITS; unit++)
		for (unsigned s = 0; s < 3; s++) {
			uint32_t word;
			memcpy(&word, disk + unit * UNIT + s * SECTOR, 4);
			if (s == 0 || word < ledger->durable[unit])
				ledger->durable[unit] = word;
		}
	free(disk);
}

static void blk_cow__killed_at_random__nothing_flushed_is_lost(void **state)
{
	(void)state;
	seed_from_env();
	struct rig *t = make(4096);
	void *s = t;
	struct ledger *ledger = mmap(NULL, sizeof(*ledger), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const char *rounds = getenv("ROUNDS");
	unsigned n = rounds ? (unsigned)atoi(rounds) : 40;

	for (unsigned unit = 0; unit < UNITS; unit++)
		fill_unit(t->model + unit * UNIT, 1);
	assert_int_equal(pwrite(t->base_fd, t->model, UNITS * UNIT, 0), UNITS * UNIT);
	blk_destroy(t->disk);
	for (unsigned i = 0; i < n; i++) {
		if (i % 2 == 0)
			start_over(t, ledger);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			seed += i * 2654435761u;
			child(t, ledger);
		}
		usleep((useconds_t)(2000 + rnd() % 30000));
		assert_int_equal(kill(pid, SIGKILL), 0);
		int status;
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status));
		open_disk(t);
		check_units(t, ledger);
		blk_destroy(t->disk);
	}
	print_message("%u kills, %u flushes\n", n, ledger->flushes);
	assert_true(ledger->flushes > 0);
	open_disk(t);
	munmap(ledger, sizeof(*ledger));
	teardown(&s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(blk_cow_read__untouched__base_then_zeroes),
		T(blk_cow_write__part_of_a_block__rest_comes_from_below),
		T(blk_cow_write__base_unchanged),
		T(blk_cow_discard__whole_blocks_zero_edges_kept),
		T(blk_cow_zero__edges_too),
		T(blk_cow_write__fails__block_still_read_from_below),
		T(blk_cow_reopen__after_flush_or_close__same),
		T(blk_cow_create__damaged_header__ebadmsg),
		T(blk_cow_create__lying_header__ebadmsg),
		T(blk_cow_create__layer_in_use__ebusy),
		cmocka_unit_test(cow_format__bad_sizes__einval),
		cmocka_unit_test(blk_cow__random_requests__agree_with_a_flat_disk),
		cmocka_unit_test(blk_cow__killed_at_random__nothing_flushed_is_lost),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
