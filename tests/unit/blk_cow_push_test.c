/* SPDX-License-Identifier: Apache-2.0 */
/* Layers pushed on a disk that is in use, against a flat copy of it for every layer that was ever the top. */
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "devices/blk_cow.h"
#include "devices/blk_file.h"

#define BLOCK  4096u
#define BLOCKS 64u
#define SIZE   (BLOCKS * BLOCK + 1536u) /* ends inside a block */
#define DEPTH  100u

struct rig {
	struct loop *loop;
	struct blk_backend *disk;
	int fd[DEPTH + 1];
	unsigned layers;
	uint8_t model[SIZE];
	uint64_t seed;
};

static uint64_t rnd(struct rig *t)
{
	t->seed ^= t->seed << 13;
	t->seed ^= t->seed >> 7;
	t->seed ^= t->seed << 17;
	return t->seed;
}

static int read_only(int fd)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int own = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(own >= 0);
	return own;
}

static void id_of(uint8_t id[COW_ID_LEN], unsigned layer)
{
	memset(id, 0, COW_ID_LEN);
	if (layer)
		memset(id, (int)layer, COW_ID_LEN);
}

static int format(unsigned below, unsigned own, uint64_t size)
{
	struct cow_layer layer = {
		.size = size, .below_size = below ? SIZE : 0, .block_size = BLOCK};
	struct errmsg why = {""};
	int fd = memfd_create("layer", MFD_CLOEXEC);

	assert_true(fd >= 0);
	id_of(layer.below_id, below);
	id_of(layer.layer_id, own);
	if (cow_format(fd, &layer, &why))
		fail_msg("%s", why.text);
	return fd;
}

/* A disk on the first `layers` files; the last of them is `top`. */
static struct blk_backend *open_stack(struct rig *t, unsigned layers, int top)
{
	struct blk_cow_cfg cfg = {.name = "disk", .loop = t->loop, .layer_count = layers};
	struct blk_backend *disk = NULL;
	struct errmsg why = {""};

	for (unsigned i = 0; i + 1 < layers; i++)
		cfg.layer[i] = read_only(t->fd[i]);
	cfg.layer[layers - 1] = top;
	int err = blk_cow_create(&disk, &cfg, &why);
	for (unsigned i = 0; i + 1 < layers; i++)
		close(cfg.layer[i]);
	if (err)
		fail_msg("%s", why.text);
	return disk;
}

static int setup(void **state)
{
	struct rig *t = calloc(1, sizeof(*t));
	const char *given = getenv("SEED");

	t->seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;
	print_message("SEED=%#llx\n", (unsigned long long)t->seed);
	assert_int_equal(loop_create(&t->loop, 64, NULL), 0);
	assert_int_equal(loop_step(t->loop, LOOP_POLL), 0);
	t->fd[t->layers++] = format(0, 1, SIZE);
	t->disk = open_stack(t, 1, t->fd[0]);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct rig *t = *state;

	blk_destroy(t->disk);
	loop_destroy(t->loop);
	for (unsigned i = 0; i < t->layers; i++)
		close(t->fd[i]);
	free(t);
	return 0;
}

/* --- requests, one at a time -------------------------------------------------------------------- */
struct request {
	struct blk_op op;
	struct iovec iov;
	int err;
	bool done;
};

static void on_done(struct blk_op *op, int err)
{
	struct request *rq = container_of(op, struct request, op);
	rq->err = err;
	rq->done = true;
}

static void request(struct rig *t, struct blk_backend *disk, enum blk_kind kind, uint64_t off,
		    void *buf, uint64_t len)
{
	struct request rq = {.iov = {buf, (size_t)len}};

	rq.op = (struct blk_op){
		.done = on_done, .kind = kind, .off = off, .len = len, .iov = &rq.iov, .count = 1};
	blk_submit(disk, &rq.op);
	while (!rq.done)
		assert_int_equal(loop_step(t->loop, LOOP_WAIT), 0);
	assert_int_equal(rq.err, 0);
}

static void expect(struct rig *t, struct blk_backend *disk, const uint8_t *model)
{
	uint8_t *got = malloc(SIZE);

	request(t, disk, BLK_READ, 0, got, SIZE);
	assert_memory_equal(got, model, SIZE);
	free(got);
}

static void some_writes(struct rig *t, unsigned count)
{
	uint8_t buf[3 * BLOCK];

	while (count--) {
		uint64_t off = rnd(t) % (SIZE / 512) * 512, len = (1 + rnd(t) % 20) * 512;
		if (len > SIZE - off)
			len = SIZE - off;
		if (rnd(t) % 4) {
			memset(buf, (int)rnd(t), sizeof(buf));
			request(t, t->disk, BLK_WRITE, off, buf, len);
			memcpy(t->model + off, buf, len);
		} else {
			request(t, t->disk, BLK_ZERO_UNMAP, off, NULL, len);
			memset(t->model + off, 0, len);
		}
		if (rnd(t) % 8 == 0)
			request(t, t->disk, BLK_FLUSH, 0, NULL, 0);
	}
}

static void push(struct rig *t)
{
	struct blk_cow_next *next = NULL;
	struct errmsg why = {""};
	int below = rnd(t) % 2 ? read_only(t->fd[t->layers - 1]) : -1;

	t->fd[t->layers] = format(t->layers, t->layers + 1, SIZE);
	if (blk_cow_next_create(&next, t->disk, t->fd[t->layers], below, &why))
		fail_msg("%s", why.text);
	if (below >= 0)
		close(below);
	assert_int_equal(blk_cow_push(t->disk, next), 0);
	t->layers++;
}

static void seal(struct rig *t)
{
	struct errmsg why = {""};
	if (blk_cow_seal_finish(t->disk, &why))
		fail_msg("%s", why.text);
}

/* --- tests -------------------------------------------------------------------------------------- */
static void blk_cow_push__any_writes_around_it__every_layer_reads_as_it_was(void **state)
{
	struct rig *t = *state;
	uint8_t *was = malloc((size_t)DEPTH * SIZE);
	unsigned rounds = 12;

	for (unsigned i = 0; i < rounds; i++) {
		some_writes(t, 20);
		memcpy(was + (size_t)i * SIZE, t->model, SIZE);
		push(t);
		some_writes(t, 10); /* before the one below is sealed */
		expect(t, t->disk, t->model);
		seal(t);
		expect(t, t->disk, t->model);
	}
	/* Another VM on each of the sealed ones, with a layer of its own. */
	for (unsigned i = 0; i < rounds; i++) {
		int own = format(i + 1, 200, SIZE);
		struct blk_backend *child = NULL;
		struct rig view = *t;
		view.fd[i + 1] = own;
		child = open_stack(&view, i + 2, own);
		expect(t, child, was + (size_t)i * SIZE);
		blk_destroy(child);
		close(own);
	}
	/* And again from the files alone. */
	request(t, t->disk, BLK_FLUSH, 0, NULL, 0);
	blk_destroy(t->disk);
	t->disk = open_stack(t, t->layers, t->fd[t->layers - 1]);
	expect(t, t->disk, t->model);
	free(was);
}

static void blk_cow_push__hundred_layers__read_and_reopen(void **state)
{
	struct rig *t = *state;

	while (t->layers <= DEPTH) {
		some_writes(t, 2);
		push(t);
		seal(t);
	}
	expect(t, t->disk, t->model);
	blk_destroy(t->disk);
	t->disk = open_stack(t, t->layers, t->fd[t->layers - 1]);
	expect(t, t->disk, t->model);
	uint8_t id[DEPTH + 1][COW_ID_LEN], want[COW_ID_LEN];
	assert_int_equal(blk_cow_layer_ids(t->disk, id, DEPTH + 1), DEPTH + 1);
	for (unsigned i = 0; i <= DEPTH; i++) {
		id_of(want, i + 1);
		assert_memory_equal(id[i], want, COW_ID_LEN);
	}
}

static void blk_cow_push__sealed_layer__nobody_writes_to_it_again(void **state)
{
	struct rig *t = *state;
	struct errmsg why;
	struct blk_backend *file = NULL;

	some_writes(t, 10);
	push(t);
	/* Before: it is locked for its VM, and not sealed. */
	int other = read_only(t->fd[0]);
	assert_int_equal(blk_file_create(&file, other, BLK_FILE_READ_ONLY, "x", t->loop, &why),
			 -EBUSY);
	seal(t);
	assert_int_equal(blk_file_create(&file, other, BLK_FILE_READ_ONLY, "x", t->loop, &why), 0);
	blk_destroy(file);
	uint8_t *before = malloc(2 * SIZE), *after = malloc(2 * SIZE);
	ssize_t len = pread(t->fd[0], before, 2 * SIZE, 0);
	some_writes(t, 100);
	request(t, t->disk, BLK_FLUSH, 0, NULL, 0);
	assert_int_equal(pread(t->fd[0], after, 2 * SIZE, 0), len);
	assert_memory_equal(before, after, (size_t)len);
	struct cow_layer layer;
	assert_int_equal(cow_open(t->fd[0], &layer, &why), 0);
	assert_true(layer.sealed);
	free(before);
	free(after);
	close(other);
}

static void blk_cow_push__below_not_sealed_yet__busy(void **state)
{
	struct rig *t = *state;
	struct blk_cow_next *next = NULL;
	struct errmsg why;

	push(t);
	int fd = format(2, 3, SIZE);
	assert_int_equal(blk_cow_next_create(&next, t->disk, fd, -1, &why), 0);
	assert_int_equal(blk_cow_push(t->disk, next), -EBUSY);
	seal(t);
	assert_int_equal(blk_cow_push(t->disk, next), 0);
	t->fd[t->layers++] = fd;
	seal(t);
	seal(t); /* nothing to do */
}

static void next_refused(struct rig *t, int fd, int below, int err, const char *text)
{
	struct blk_cow_next *next = NULL;
	struct errmsg why;

	assert_int_equal(blk_cow_next_create(&next, t->disk, fd, below, &why), err);
	assert_null(next);
	assert_string_equal(why.text, text);
	close(fd);
}

static void blk_cow_next__wrong_layer__refused(void **state)
{
	struct rig *t = *state;
	struct errmsg why;

	next_refused(t, format(7, 8, SIZE), -1, -EBADMSG,
		     "disk disk: the new layer was made on another layer: Bad message");
	next_refused(t, format(1, 2, SIZE + 512), -1, -EBADMSG,
		     "disk disk: the new layer is sealed, or of another size: Bad message");
	int sealed = format(1, 2, SIZE);
	assert_int_equal(cow_seal(sealed, &why), 0);
	next_refused(t, sealed, -1, -EBADMSG,
		     "disk disk: the new layer is sealed, or of another size: Bad message");
	int used = format(1, 2, SIZE);
	assert_int_equal(pwrite(used, "\x01", 1, COW_HEADER_LEN), 1);
	next_refused(t, used, -1, -EBADMSG, "disk disk: the new layer is not empty: Bad message");
	next_refused(t, format(1, 2, SIZE), t->fd[0], -EINVAL,
		     "disk disk: not the layer below, open for reading only: Invalid argument");
	next_refused(t, memfd_create("x", MFD_CLOEXEC), -1, -EBADMSG,
		     "disk disk: disk layer is cut short: Bad message");
}

/* Any stretch of sealed layers in one: the disk reads the same, from below it and from above. */
static void cow_compact__any_stretch__reads_the_same(void **state)
{
	struct rig *t = *state;
	struct errmsg why = {""};
	struct rig view;

	for (unsigned i = 0; i < 8; i++) {
		some_writes(t, 12);
		push(t);
		seal(t);
	}
	some_writes(t, 6);
	request(t, t->disk, BLK_FLUSH, 0, NULL, 0);
	blk_destroy(t->disk);
	for (unsigned first = 0; first < 8; first++)
		for (unsigned end = first + 1; end <= 8; end++) {
			int one = memfd_create("one", MFD_CLOEXEC);
			if (cow_compact(one, t->fd + first, end - first, &why))
				fail_msg("%s", why.text);
			view = *t;
			view.layers = t->layers - (end - first) + 1;
			view.fd[first] = one;
			memmove(&view.fd[first + 1], &t->fd[end],
				(t->layers - end) * sizeof(view.fd[0]));
			t->disk = open_stack(&view, view.layers, view.fd[view.layers - 1]);
			expect(t, t->disk, t->model);
			blk_destroy(t->disk);
			close(one);
		}
	t->disk = open_stack(t, t->layers, t->fd[t->layers - 1]);
}

static void cow_compact__not_a_stack__refused(void **state)
{
	struct rig *t = *state;
	struct errmsg why;
	int out = memfd_create("one", MFD_CLOEXEC);

	some_writes(t, 4);
	push(t);
	assert_int_equal(cow_compact(out, t->fd, 1, &why), -EBADMSG);
	assert_string_equal(why.text, "compact: layer 0 is not sealed: Bad message");
	seal(t);
	push(t);
	seal(t);
	const int swapped[] = {t->fd[1], t->fd[0]};
	assert_int_equal(cow_compact(out, swapped, 2, &why), -EBADMSG);
	assert_string_equal(why.text, "compact: layer 1 was made on another layer: Bad message");
	assert_int_equal(cow_compact(out, t->fd, 0, &why), -EINVAL);
	assert_int_equal(cow_compact(out, t->fd, 2, &why), 0);
	close(out);
}

/* Killed in the middle, again and again: what lies there is no sealed layer, or the whole one. */
static void cow_compact__killed_anywhere__whole_or_refused(void **state)
{
	struct rig *t = *state;
	struct errmsg why = {""};
	unsigned whole = 0, cut = 0;

	for (unsigned i = 0; i < 4; i++) {
		some_writes(t, 20);
		push(t);
		seal(t);
	}
	for (unsigned i = 0; i < 60; i++) {
		int one = memfd_create("one", MFD_CLOEXEC);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			_exit(cow_compact(one, t->fd, 4, &why) ? 1 : 0);
		usleep((useconds_t)(rnd(t) % 1500));
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		struct cow_layer layer;
		if (cow_open(one, &layer, &why) || !layer.sealed) {
			cut++;
		} else {
			struct rig view = *t;
			uint8_t *was = malloc(SIZE);
			request(t, t->disk, BLK_READ, 0, was, SIZE); /* the top is empty */
			view.fd[0] = one;
			view.fd[1] = format(4, 200, SIZE);
			struct blk_backend *disk = open_stack(&view, 2, view.fd[1]);
			expect(t, disk, was);
			blk_destroy(disk);
			close(view.fd[1]);
			free(was);
			whole++;
		}
		close(one);
	}
	print_message("%u whole, %u cut\n", whole, cut);
}

/* The VM ended between push and seal: a later hand seals what is in the file. */
static void cow_seal__after_the_vm_is_gone__stack_opens(void **state)
{
	struct rig *t = *state;
	struct errmsg why = {""};

	some_writes(t, 20);
	push(t);
	some_writes(t, 20);
	blk_destroy(t->disk);
	assert_int_equal(blk_file_lock(t->fd[0], BLK_FILE_READ_ONLY, "x", NULL),
			 0); /* our copy of it */
	if (cow_seal(t->fd[0], &why))
		fail_msg("%s", why.text);
	assert_int_equal(cow_seal(t->fd[0], &why), 0);
	t->disk = open_stack(t, t->layers, t->fd[t->layers - 1]);
	expect(t, t->disk, t->model);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(blk_cow_push__any_writes_around_it__every_layer_reads_as_it_was),
		T(blk_cow_push__hundred_layers__read_and_reopen),
		T(blk_cow_push__sealed_layer__nobody_writes_to_it_again),
		T(blk_cow_push__below_not_sealed_yet__busy),
		T(blk_cow_next__wrong_layer__refused),
		T(cow_compact__any_stretch__reads_the_same),
		T(cow_compact__not_a_stack__refused),
		T(cow_compact__killed_anywhere__whole_or_refused),
		T(cow_seal__after_the_vm_is_gone__stack_opens),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
