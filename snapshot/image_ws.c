/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/image_ws.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "snapshot/image_impl.h"
#include "snapshot/image_io.h"
#include "snapshot/image_lz4.h"

#define COUNT_MASK (SNAP_WS_WRITTEN - 1)
#define BATCH      SNAP_IMAGE_BLOCK_PAGES

static_assert(sizeof(struct snap_ws_head) + SNAP_WS_PAGES_MAX * (uint64_t)(PAGE + 16) < SNAP_WS_MAX,
	      "the largest set fits");

/* --- making ------------------------------------------------------------------------------------- */

struct making {
	struct snap_ws_head head;
	struct snap_ws_run *run;
	struct snap_image_block *block;
	uint8_t *data;
	uint64_t data_len;
};

static int by_number(const void *a, const void *b)
{
	snap_ws_page x = *(const snap_ws_page *)a & COUNT_MASK,
		     y = *(const snap_ws_page *)b & COUNT_MASK;
	return (x > y) - (x < y);
}

static int check_pages(const snap_ws_page *page, uint32_t count, uint64_t pages, struct errmsg *why)
{
	cleanup_free snap_ws_page *sorted = malloc((count + 1) * sizeof(*sorted));

	if (!sorted)
		return err_set(why, ENOMEM, "working set");
	memcpy(sorted, page, count * sizeof(*sorted));
	qsort(sorted, count, sizeof(*sorted), by_number);
	for (uint32_t i = 0; i < count; i++) {
		if ((sorted[i] & COUNT_MASK) >= pages)
			return err_set(why, 0, "working set: page %u is outside of the machine",
				       sorted[i] & COUNT_MASK);
		if (i && !by_number(&sorted[i - 1], &sorted[i]))
			return err_set(why, 0, "working set: page %u is there twice",
				       sorted[i] & COUNT_MASK);
	}
	return 0;
}

static void make_runs(struct making *m, const snap_ws_page *page, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t number = page[i] & COUNT_MASK, flag = page[i] & SNAP_WS_WRITTEN;
		struct snap_ws_run *last = m->run + m->head.run_count - 1;
		if (m->head.run_count && (last->count & SNAP_WS_WRITTEN) == flag &&
		    last->page + (last->count & COUNT_MASK) == number)
			last->count++;
		else
			m->run[m->head.run_count++] =
				(struct snap_ws_run){.page = number, .count = 1 | flag};
	}
}

static int make_block(struct making *m, struct snap_chain *chain, const snap_ws_page *page,
		      uint32_t count, uint8_t *buf, struct errmsg *why)
{
	uint32_t raw = count * PAGE;
	int err = 0;

	for (uint32_t i = 0; !err && i < count; i++)
		err = snap_chain_read(chain, page[i] & COUNT_MASK, buf + i * PAGE, why);
	if (err)
		return err;
	uint8_t *to = m->data + m->data_len;
	uint32_t len = lz4_pack(buf, raw, to);
	if (len == raw)
		memcpy(to, buf, raw);
	m->block[m->head.block_count++] =
		(struct snap_image_block){.len = len, .crc = crc32c(to, len)};
	m->data_len += len;
	return 0;
}

static int make_data(struct making *m, struct snap_chain *chain, const snap_ws_page *page,
		     uint32_t count, struct errmsg *why)
{
	uint8_t *buf = malloc(BLOCK);
	int err = buf ? 0 : err_set(why, ENOMEM, "working set");

	for (uint32_t at = 0; !err && at < count; at += BATCH)
		err = make_block(m, chain, page + at, count - at < BATCH ? count - at : BATCH, buf,
				 why);
	free(buf);
	return err;
}

static int join(struct making *m, uint8_t **bytes, size_t *len, struct errmsg *why)
{
	size_t runs = m->head.run_count * sizeof(*m->run);
	size_t blocks = m->head.block_count * sizeof(*m->block);
	size_t front = sizeof(m->head) + runs + blocks;

	m->head.len = front + m->data_len;
	uint8_t *to = malloc(m->head.len);
	if (!to)
		return err_set(why, ENOMEM, "working set");
	memcpy(to, &m->head, sizeof(m->head));
	memcpy(to + sizeof(m->head), m->run, runs);
	memcpy(to + sizeof(m->head) + runs, m->block, blocks);
	memcpy(to + front, m->data, m->data_len);
	m->head.crc = crc32c(to, front);
	memcpy(to, &m->head, sizeof(m->head));
	*bytes = to;
	*len = m->head.len;
	return 0;
}

int snap_ws_make(struct snap_chain *chain, const snap_ws_page *page, uint32_t count,
		 const struct snap_ref *ref, uint8_t **bytes, size_t *len, struct errmsg *why)
{
	struct making m = {.head = {.version = SNAP_WS_VERSION,
				    .page_count = count,
				    .pages = chain->image[0]->head.pages}};

	if (!count || count > SNAP_WS_PAGES_MAX)
		return err_set(why, 0, "working set of %u pages", count);
	memcpy(m.head.magic, SNAP_WS_MAGIC, sizeof(m.head.magic));
	if (ref) {
		memcpy(m.head.image_id, ref->id, SNAP_ID_LEN);
		m.head.image_root = ref->root;
	}
	int err = check_pages(page, count, m.head.pages, why);
	if (err)
		return err;
	m.run = malloc(count * sizeof(*m.run));
	m.block = malloc((count / BATCH + 1) * sizeof(*m.block));
	m.data = malloc((uint64_t)count * PAGE);
	if (m.run && m.block && m.data) {
		make_runs(&m, page, count);
		err = make_data(&m, chain, page, count, why);
		if (!err)
			err = join(&m, bytes, len, why);
	} else {
		err = err_set(why, ENOMEM, "working set");
	}
	free(m.run);
	free(m.block);
	free(m.data);
	return err;
}

int snap_ws_write(int dir_fd, const char *name, const uint8_t *bytes, size_t len,
		  struct errmsg *why)
{
	struct io_stage stage;
	int err = io_stage_open(&stage, dir_fd, name, why);

	if (!err)
		err = io_write(&stage, bytes, len, 0, why);
	if (!err)
		err = io_sync(&stage, why);
	if (!err)
		err = io_stage_publish(&stage, IO_REPLACE, why);
	io_stage_close(&stage);
	return err;
}

/* --- taking apart ------------------------------------------------------------------------------- */

struct snap_ws {
	uint8_t *bytes;
	struct snap_ws_head head;
	const struct snap_ws_run *run;
	const struct snap_image_block *block;
	const uint8_t *data;
	uint8_t *buf; /* one block */
};

static int bad(struct errmsg *why, const char *what)
{
	err_set(why, 0, "working set: %s", what);
	return -EBADMSG;
}

static uint32_t block_pages(const struct snap_ws *ws, uint32_t b)
{
	uint32_t left = ws->head.page_count - b * BATCH;
	return left < BATCH ? left : BATCH;
}

/* @have: bytes in memory, of `len`: at least the lists */
static int check_head(struct snap_ws *ws, size_t have, size_t len, uint64_t pages,
		      struct errmsg *why)
{
	struct snap_ws_head *h = &ws->head;

	if (have < sizeof(*h))
		return bad(why, "cut short");
	memcpy(h, ws->bytes, sizeof(*h));
	if (memcmp(h->magic, SNAP_WS_MAGIC, sizeof(h->magic)) != 0)
		return bad(why, "not one");
	if (h->version != SNAP_WS_VERSION)
		return bad(why, "of a version that is not known");
	if (h->len != len || h->pages != pages || !h->page_count ||
	    h->page_count > SNAP_WS_PAGES_MAX || h->run_count > h->page_count ||
	    h->block_count != (h->page_count + BATCH - 1) / BATCH)
		return bad(why, "its sizes cannot be");
	size_t front =
		sizeof(*h) + h->run_count * sizeof(*ws->run) + h->block_count * sizeof(*ws->block);
	if (front > have)
		return bad(why, "cut short");
	struct snap_ws_head zero = *h;
	zero.crc = 0;
	uint32_t crc = crc32c_more(crc32c(&zero, sizeof(zero)), ws->bytes + sizeof(zero),
				   front - sizeof(zero));
	if (crc != h->crc)
		return bad(why, "damaged");
	ws->run = (const void *)(ws->bytes + sizeof(*h));
	ws->block = (const void *)(ws->run + h->run_count);
	ws->data = ws->bytes + front;
	return 0;
}

static int check_lists(const struct snap_ws *ws, struct errmsg *why)
{
	uint64_t pages = 0, len = (uint64_t)(ws->data - ws->bytes);

	for (uint32_t i = 0; i < ws->head.run_count; i++) {
		uint32_t count = ws->run[i].count & COUNT_MASK;
		if (!count || ws->run[i].page > ws->head.pages ||
		    count > ws->head.pages - ws->run[i].page)
			return bad(why, "a run lies outside of the machine");
		pages += count;
	}
	for (uint32_t b = 0; b < ws->head.block_count; b++) {
		if (!ws->block[b].len || ws->block[b].len > block_pages(ws, b) * PAGE)
			return bad(why, "a block has a length that cannot be");
		len += ws->block[b].len;
	}
	return pages == ws->head.page_count && len == ws->head.len ? 0
								   : bad(why, "its sums differ");
}

static int check_ref(const struct snap_ws *ws, const struct snap_ref *ref, struct errmsg *why)
{
	static const struct snap_ref none;
	const struct snap_ref *want = ref ? ref : &none;

	if (memcmp(ws->head.image_id, want->id, SNAP_ID_LEN) == 0 &&
	    ws->head.image_root == want->root)
		return 0;
	err_set(why, 0, "working set: of another snapshot");
	return -ESTALE;
}

/* `bytes` may end with the lists: then there is no snap_ws_each(). */
static int ws_open(struct snap_ws **out, uint8_t *bytes, size_t have, size_t len, uint64_t pages,
		   const struct snap_ref *ref, struct errmsg *why)
{
	struct snap_ws *ws = calloc(1, sizeof(*ws));

	if (!ws) {
		free(bytes);
		return err_set(why, ENOMEM, "working set");
	}
	ws->bytes = bytes;
	ws->buf = malloc(BLOCK);
	int err = ws->buf ? check_head(ws, have, len, pages, why)
			  : err_set(why, ENOMEM, "working set");
	if (!err)
		err = check_lists(ws, why);
	if (!err)
		err = check_ref(ws, ref, why);
	if (err) {
		snap_ws_close(ws);
		return err;
	}
	*out = ws;
	return 0;
}

int snap_ws_open(struct snap_ws **out, uint8_t *bytes, size_t len, uint64_t pages,
		 const struct snap_ref *ref, struct errmsg *why)
{
	return ws_open(out, bytes, len, len, pages, ref, why);
}

static int file_len(int fd, size_t *len, struct errmsg *why)
{
	struct stat st;

	if (fstat(fd, &st))
		return err_set(why, errno, "working set");
	if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size > SNAP_WS_MAX)
		return bad(why, "its size cannot be");
	*len = (size_t)st.st_size;
	return 0;
}

/* The first `count` bytes of a file of `len`. */
static int open_some(struct snap_ws **out, int fd, size_t count, size_t len,
		     const struct snap_image *image, struct errmsg *why)
{
	struct snap_ref ref = {.root = image->head.crc};
	uint8_t *bytes = malloc(count);

	if (!bytes)
		return err_set(why, ENOMEM, "working set");
	memcpy(ref.id, image->head.id, SNAP_ID_LEN);
	int err = io_read(fd, bytes, count, 0, why);
	if (err) {
		free(bytes);
		return err;
	}
	return ws_open(out, bytes, count, len, image->head.pages, &ref, why);
}

int snap_ws_open_file(struct snap_ws **out, int fd, const struct snap_image *image,
		      struct errmsg *why)
{
	size_t len = 0;

	int err = file_len(fd, &len, why);
	return err ? err : open_some(out, fd, len, len, image, why);
}

int snap_ws_open_section(struct snap_ws **out, const struct snap_image *image, struct errmsg *why)
{
	uint64_t len = image_len(image, SNAP_IMAGE_WS);

	if (!image->ws)
		return err_set(why, 0, "snapshot without a working set"), -ENOENT;
	uint8_t *bytes = malloc(len);
	if (!bytes)
		return err_set(why, ENOMEM, "working set");
	memcpy(bytes, image->ws, len);
	return snap_ws_open(out, bytes, len, image->head.pages, NULL, why);
}

void snap_ws_close(struct snap_ws *ws)
{
	if (!ws)
		return;
	free(ws->bytes);
	free(ws->buf);
	free(ws);
}

uint32_t snap_ws_page_count(const struct snap_ws *ws)
{
	return ws->head.page_count;
}

/* The pages of a block, or NULL. */
static const uint8_t *open_block(struct snap_ws *ws, uint32_t b, const uint8_t *stored,
				 struct errmsg *why)
{
	uint32_t len = ws->block[b].len, raw = block_pages(ws, b) * PAGE;

	if (crc32c(stored, len) == ws->block[b].crc) {
		if (len == raw)
			return stored;
		if (lz4_unpack(stored, len, ws->buf, raw))
			return ws->buf;
	}
	bad(why, "a block is damaged");
	return NULL;
}

int snap_ws_each(struct snap_ws *ws, snap_ws_fn *on, void *arg, struct errmsg *why)
{
	const struct snap_ws_run *run = ws->run;
	const uint8_t *stored = ws->data;
	uint32_t done = 0; /* of the run */

	for (uint32_t b = 0; b < ws->head.block_count; b++) {
		const uint8_t *bytes = open_block(ws, b, stored, why);
		if (!bytes)
			return -EBADMSG;
		stored += ws->block[b].len;
		for (uint32_t left = block_pages(ws, b), count; left; left -= count) {
			count = (run->count & COUNT_MASK) - done;
			if (count > left)
				count = left;
			int err = on(arg, (uint64_t)run->page + done, count,
				     run->count & SNAP_WS_WRITTEN, bytes);
			if (err)
				return err;
			bytes += (size_t)count * PAGE;
			done += count;
			if (done == (run->count & COUNT_MASK)) {
				run++;
				done = 0;
			}
		}
	}
	return 0;
}

static int copy_pages(void *arg, uint64_t page, uint32_t count, bool written, const void *bytes)
{
	(void)written;
	memcpy((uint8_t *)arg + page * PAGE, bytes, (size_t)count * PAGE);
	return 0;
}

int snap_ws_fetch(struct snap_ws *ws, uint8_t *base, struct errmsg *why)
{
	return snap_ws_each(ws, copy_pages, base, why);
}

/* --- warming ------------------------------------------------------------------------------------ */

static void warm_run(const struct snap_plan *plan, uint64_t page, uint64_t end)
{
	for (const struct snap_run *run; page < end && (run = snap_runs_find(&plan->runs, page));) {
		uint64_t stop = run->page + run->count < end ? run->page + run->count : end;
		if (run->kind == SNAP_RUN_MAP)
			readahead(plan->fd[run->source],
				  (off64_t)(run->off + (page - run->page) * PAGE),
				  (stop - page) * PAGE);
		page = stop;
	}
}

void snap_ws_warm(const struct snap_ws *ws, const struct snap_plan *plan)
{
	for (uint32_t i = 0; i < ws->head.run_count; i++) {
		uint64_t page = ws->run[i].page;
		warm_run(plan, page, page + (ws->run[i].count & ~SNAP_WS_WRITTEN));
	}
}

int snap_ws_warm_file(int fd, const struct snap_image *image, const struct snap_plan *plan,
		      struct errmsg *why)
{
	struct snap_ws_head head;
	struct snap_ws *ws;
	size_t len = 0;

	int err = file_len(fd, &len, why);
	if (!err && len < sizeof(head))
		err = bad(why, "cut short");
	if (!err)
		err = io_read(fd, (uint8_t *)&head, sizeof(head), 0, why);
	if (err)
		return err;
	uint64_t front = sizeof(head) + (uint64_t)head.run_count * sizeof(*ws->run) +
			 (uint64_t)head.block_count * sizeof(*ws->block);
	if (front > len)
		return bad(why, "cut short");
	err = open_some(&ws, fd, front, len, image, why);
	if (err)
		return err;
	snap_ws_warm(ws, plan);
	snap_ws_close(ws);
	return 0;
}
