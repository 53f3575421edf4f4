/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream into files.  Memory goes to a scratch file without a name first, flat; when the stream has been good to
 * its end, the snapshot is written from that like any other.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "snapshot/cow.h"
#include "snapshot/image_export.h"
#include "snapshot/image_impl.h"
#include "snapshot/image_io.h"
#include "snapshot/image_lz4.h"
#include "snapshot/image_ws.h"
#include "wire/snap.h"
#include "wire/snap_export.h"

#define LAYER_NAME "%s.layer"

#define RAW_MAX (SNAP_EXPORT_PAGES * (PAGE + sizeof(uint32_t)))

struct in {
	const struct snap_import *cfg;
	struct snap_export_head head;
	uint32_t crc;
	uint64_t chunks;
	uint32_t stage_of_stream; /* the type that came last; they go up */
	uint8_t *section[SNAP_EXPORT_WS + 1];
	size_t section_len[SNAP_EXPORT_WS + 1];
	struct io_stage memory; /* scratch */
	struct snap_runs runs;
	uint64_t next_page;
	struct io_stage *layer; /* all so far; the last is being filled */
	uint32_t layer_count;
	uint64_t layer_len, next_byte;
	uint8_t *stored, *raw; /* RAW_MAX */
};

static int bad(struct errmsg *why, const char *what)
{
	err_set(why, 0, "import: %s", what);
	return -EBADMSG;
}

static int get_bytes(const struct in *in, void *to, size_t len, struct errmsg *why)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = read(in->cfg->fd, (char *)to + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(why, errno, "import");
		if (!n)
			return bad(why, "cut short");
		done += (size_t)n;
	}
	return 0;
}

static int get_head(struct in *in, struct errmsg *why)
{
	struct snap_export_head *h = &in->head;
	int err = get_bytes(in, h, sizeof(*h), why);

	if (err)
		return err;
	if (memcmp(h->magic, SNAP_EXPORT_MAGIC, sizeof(h->magic)) != 0)
		return bad(why, "not an exported snapshot");
	if (h->version != SNAP_EXPORT_VERSION)
		return bad(why, "of a version that is not known");
	in->crc = h->crc;
	h->crc = 0;
	if (crc32c(h, sizeof(*h)) != in->crc)
		return bad(why, "its head is damaged");
	if (h->arch != SNAP_IMAGE_X86_64)
		return bad(why, "made for another architecture");
	if (h->page_size != PAGE || !h->pages || h->pages > SNAP_PAGES_MAX || !h->cpus ||
	    h->cpus > SNAP_IMAGE_CPUS_MAX || h->rsvd)
		return bad(why, "of a machine that cannot be");
	return 0;
}

/* --- parts that come once ----------------------------------------------------------------------- */

static int keep_section(struct in *in, const struct snap_export_chunk *c, const uint8_t *bytes)
{
	uint8_t *copy = malloc(c->raw + 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, bytes, c->raw);
	in->section[c->type] = copy;
	in->section_len[c->type] = c->raw;
	return 0;
}

static uint32_t payload_max(uint32_t type)
{
	static const uint32_t most[] = {
		[SNAP_EXPORT_STATE] = SNAP_STATE_MAX,
		[SNAP_EXPORT_DISKS] = sizeof(struct snap_image_disks) +
				      SNAP_DISKS_MAX * sizeof(struct snap_image_disk) +
				      SNAP_LAYERS_MAX * SNAP_ID_LEN,
		[SNAP_EXPORT_META] = SNAP_META_MAX,
		[SNAP_EXPORT_WS] = SNAP_WS_MAX,
		[SNAP_EXPORT_PAGE] = RAW_MAX,
		[SNAP_EXPORT_BYTES] = SNAP_EXPORT_DATA,
		[SNAP_EXPORT_END] = 0,
	};

	return type < ARRAY_LEN(most) ? most[type] : 0;
}

/* --- memory ------------------------------------------------------------------------------------- */

static int take_pages(struct in *in, const uint8_t *bytes, uint32_t len, struct errmsg *why)
{
	uint32_t count = len / (PAGE + sizeof(uint32_t)), number;

	if (!count || len != count * (PAGE + sizeof(uint32_t)))
		return bad(why, "pages of a length that cannot be");
	for (uint32_t i = 0; i < count; i++) {
		memcpy(&number, bytes + i * sizeof(number), sizeof(number));
		if (number < in->next_page || number >= in->head.pages)
			return bad(why, "pages out of order");
		uint64_t off = (uint64_t)number * PAGE;
		int err = io_write(&in->memory, bytes + count * sizeof(number) + i * PAGE, PAGE,
				   off, why);
		const struct snap_run gap = {.page = in->next_page,
					     .count = number - in->next_page,
					     .kind = SNAP_RUN_ZERO},
				      run = {.page = number,
					     .count = 1,
					     .kind = SNAP_RUN_MAP,
					     .off = off};
		if (err)
			return err;
		if (snap_runs_add(&in->runs, &gap) || snap_runs_add(&in->runs, &run))
			return err_set(why, ENOMEM, "import");
		in->next_page = (uint64_t)number + 1;
	}
	return 0;
}

/* --- layers ------------------------------------------------------------------------------------- */

static int begin_layer(struct in *in, const struct snap_export_chunk *c, struct errmsg *why)
{
	char name[2 * SNAP_ID_LEN + 16];

	if (in->layer_count == SNAP_EXPORT_LAYERS_MAX || c->where > SNAP_EXPORT_LAYER_MAX ||
	    image_id_is_zero(c->id))
		return bad(why, "a layer that cannot be");
	in->layer_len = c->where;
	in->next_byte = 0;
	if (in->cfg->no_layers)
		return 0;
	snprintf(name, sizeof(name), LAYER_NAME, snap_id_text(c->id).text);
	for (uint32_t i = 0; i < in->layer_count; i++)
		if (!strcmp(in->layer[i].name, name))
			return bad(why, "a layer comes twice");
	struct io_stage *grown = realloc(in->layer, (in->layer_count + 1) * sizeof(*grown));
	if (!grown)
		return err_set(why, ENOMEM, "import");
	in->layer = grown;
	int err = io_stage_open(&in->layer[in->layer_count], in->cfg->dir_fd, name, why);
	if (err)
		return err;
	if (ftruncate(in->layer[in->layer_count++].fd, (off_t)c->where))
		return err_set(why, errno, "import: %s", name);
	return 0;
}

/* What is zero stays a hole. */
static int write_sparse(struct io_stage *stage, const uint8_t *bytes, uint32_t len, uint64_t off,
			struct errmsg *why)
{
	static const uint8_t zero[PAGE];
	int err = 0;

	for (uint32_t at = 0; !err && at < len; at += PAGE) {
		uint32_t part = len - at < PAGE ? len - at : PAGE;
		if (memcmp(bytes + at, zero, part) != 0)
			err = io_write(stage, bytes + at, part, off + at, why);
	}
	return err;
}

static int take_layer_bytes(struct in *in, uint64_t where, const uint8_t *bytes, uint32_t len,
			    struct errmsg *why)
{
	if (where < in->next_byte || where > in->layer_len || len > in->layer_len - where || !len)
		return bad(why, "bytes of a layer out of order");
	in->next_byte = where + len;
	if (in->cfg->no_layers)
		return 0;
	return write_sparse(&in->layer[in->layer_count - 1], bytes, len, where, why);
}

/* --- chunks ------------------------------------------------------------------------------------- */

/* Types go up; PAGE, LAYER and BYTES repeat, BYTES only behind a LAYER. */
static bool in_order(const struct in *in, uint32_t type)
{
	uint32_t last = in->stage_of_stream;

	if (type == SNAP_EXPORT_LAYER && last >= SNAP_EXPORT_LAYER)
		return last != SNAP_EXPORT_END;
	if (type == SNAP_EXPORT_BYTES)
		return last == SNAP_EXPORT_LAYER || last == SNAP_EXPORT_BYTES;
	if (type == SNAP_EXPORT_PAGE && last == type)
		return true;
	return type > last && (last || type == SNAP_EXPORT_STATE);
}

/* The payload, checked and unpacked, in *bytes (owned by `in`). */
static int get_payload(struct in *in, struct snap_export_chunk *c, const uint8_t **bytes,
		       struct errmsg *why)
{
	uint32_t crc = c->crc;
	int err = get_bytes(in, in->stored, c->len, why);

	if (err)
		return err;
	c->crc = 0;
	in->crc = crc32c_more(crc32c_more(in->crc, c, sizeof(*c)), in->stored, c->len);
	if (in->crc != crc)
		return bad(why, "damaged");
	*bytes = in->stored;
	if (c->len == c->raw)
		return 0;
	*bytes = in->raw;
	return lz4_unpack(in->stored, c->len, in->raw, c->raw) ? 0
							       : bad(why, "cannot be decompressed");
}

static int take_chunk(struct in *in, const struct snap_export_chunk *c, const uint8_t *bytes,
		      struct errmsg *why)
{
	bool named = c->type == SNAP_EXPORT_LAYER;

	if (named != !image_id_is_zero(c->id) || (c->where && c->type < SNAP_EXPORT_LAYER))
		return bad(why, "a chunk that cannot be");
	switch (c->type) {
	case SNAP_EXPORT_PAGE: return take_pages(in, bytes, c->raw, why);
	case SNAP_EXPORT_LAYER: return begin_layer(in, c, why);
	case SNAP_EXPORT_BYTES: return take_layer_bytes(in, c->where, bytes, c->raw, why);
	case SNAP_EXPORT_END: return c->where == in->chunks ? 0 : bad(why, "chunks are missing");
	default: return keep_section(in, c, bytes) ? err_set(why, ENOMEM, "import") : 0;
	}
}

static int get_chunk(struct in *in, uint32_t *type, struct errmsg *why)
{
	struct snap_export_chunk c;
	const uint8_t *bytes = NULL;
	int err = get_bytes(in, &c, sizeof(c), why);

	if (err)
		return err;
	if (c.type < SNAP_EXPORT_STATE || c.type > SNAP_EXPORT_END || !in_order(in, c.type))
		return bad(why, "chunks out of order");
	uint32_t most = payload_max(c.type);
	if (c.raw > most || c.len > c.raw || !c.len != !c.raw ||
	    (c.len < c.raw && c.type < SNAP_EXPORT_PAGE))
		return bad(why, "a chunk of a length that cannot be");
	if (c.len >
	    RAW_MAX) { /* a large section: as much room as it says, once it is known to be in bounds */
		free(in->stored);
		in->stored = malloc(c.len);
		if (!in->stored)
			return err_set(why, ENOMEM, "import");
	}
	err = get_payload(in, &c, &bytes, why);
	if (!err)
		err = take_chunk(in, &c, bytes, why);
	in->stage_of_stream = c.type;
	in->chunks++;
	*type = c.type;
	return err;
}

/* --- the whole ---------------------------------------------------------------------------------- */

static int finish_memory(struct in *in, struct errmsg *why)
{
	const struct snap_run rest = {.page = in->next_page,
				      .count = in->head.pages - in->next_page,
				      .kind = SNAP_RUN_ZERO};

	if (snap_runs_add(&in->runs, &rest))
		return err_set(why, ENOMEM, "import");
	if (ftruncate(in->memory.fd, (off_t)(in->head.pages * PAGE)))
		return err_set(why, errno, "import");
	return 0;
}

static int check_ws(const struct in *in, struct errmsg *why)
{
	struct snap_ws *ws;
	size_t len = in->section_len[SNAP_EXPORT_WS];

	if (!len)
		return 0;
	uint8_t *copy = malloc(len);
	if (!copy)
		return err_set(why, ENOMEM, "import");
	memcpy(copy, in->section[SNAP_EXPORT_WS], len);
	int err = snap_ws_open(&ws, copy, len, in->head.pages, NULL, why);
	if (!err)
		snap_ws_close(ws);
	return err;
}

/* What looks like a layer of ours must be one, sealed or not, with the identity that it came under. */
static int check_layer(const struct io_stage *stage, struct errmsg *why)
{
	char magic[sizeof(COW_MAGIC)] = "", name[2 * SNAP_ID_LEN + 16];
	struct cow_layer layer;

	if (pread(stage->fd, magic, sizeof(magic) - 1, 0) < 0)
		return err_set(why, errno, "import: %s", stage->name);
	if (strcmp(magic, COW_MAGIC) != 0)
		return 0; /* the image underneath */
	int err = cow_open(stage->fd, &layer, why);
	if (err)
		return err_wrap(why, err, "import: %s", stage->name);
	snprintf(name, sizeof(name), LAYER_NAME, snap_id_text(layer.layer_id).text);
	return strcmp(name, stage->name) ? bad(why, "a layer came under another one's name") : 0;
}

/* DISKS as parsed from the bytes that came, which `holder` borrows. */
static int parse_disks(struct in *in, struct snap_image *holder, struct snap_image_section *section,
		       struct errmsg *why)
{
	section->len = in->section_len[SNAP_EXPORT_DISKS];
	holder->section[SNAP_IMAGE_DISKS] = section;
	holder->disk_bytes = in->section[SNAP_EXPORT_DISKS];
	return disks_parse(holder, why);
}

static int write_image(struct in *in, struct snap_image *disks, struct snap_written *out,
		       struct errmsg *why)
{
	struct snap_plan plan = {.runs = in->runs, .fd = &in->memory.fd, .source_count = 1};
	struct snap_write cfg = {
		.dir_fd = in->cfg->dir_fd,
		.name = in->cfg->name,
		.kind = in->cfg->kind,
		.cpus = in->head.cpus,
		.pages = in->head.pages,
		.state = in->section[SNAP_EXPORT_STATE],
		.state_len = in->section_len[SNAP_EXPORT_STATE],
		.plan = &plan,
		.disks = disks->disks,
		.disk_count = disks->disk_count,
		.meta = (const char *)in->section[SNAP_EXPORT_META],
		.meta_len = in->section_len[SNAP_EXPORT_META],
		.ws = in->section[SNAP_EXPORT_WS],
		.ws_len = in->section_len[SNAP_EXPORT_WS],
	};

	return snap_image_write(&cfg, out, why);
}

/* Takes the names back: the layers that were published before the `count`-th failed. */
static void take_back(struct in *in, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		(void)unlinkat(in->cfg->dir_fd, in->layer[i].name, 0);
}

static int publish(struct in *in, struct snap_written *out, struct errmsg *why)
{
	struct snap_image_section section = {.type = SNAP_IMAGE_DISKS};
	struct snap_image disks = {.fd = -1};
	uint32_t done = 0;
	int err = parse_disks(in, &disks, &section, why);

	if (!err)
		err = check_ws(in, why);
	for (uint32_t i = 0; !err && i < in->layer_count; i++)
		err = check_layer(&in->layer[i], why);
	for (; !err && done < in->layer_count; done++) {
		err = io_sync(&in->layer[done], why);
		if (!err)
			err = io_stage_publish(&in->layer[done], IO_NEW, why);
		if (err)
			break;
	}
	if (!err)
		err = write_image(in, &disks, out, why);
	if (err)
		take_back(in, done);
	free(disks.disks);
	return err;
}

static void release(struct in *in)
{
	for (unsigned i = 0; i < ARRAY_LEN(in->section); i++)
		free(in->section[i]);
	for (uint32_t i = 0; i < in->layer_count; i++)
		io_stage_close(&in->layer[i]);
	free(in->layer);
	io_stage_close(&in->memory);
	snap_runs_free(&in->runs);
	free(in->stored);
	free(in->raw);
}

static int import(struct in *in, struct snap_written *out, struct errmsg *why)
{
	uint32_t type = 0;
	int err = get_head(in, why);

	if (!err)
		err = io_stage_open(&in->memory, in->cfg->dir_fd, in->cfg->name, why);
	while (!err && type != SNAP_EXPORT_END)
		err = get_chunk(in, &type, why);
	if (!err && !in->section[SNAP_EXPORT_STATE])
		err = bad(why, "without a state");
	if (!err)
		err = finish_memory(in, why);
	return err ? err : publish(in, out, why);
}

int snap_import(const struct snap_import *cfg, struct snap_written *out, struct errmsg *why)
{
	struct in in = {.cfg = cfg, .memory.fd = -1};

	in.stored = malloc(RAW_MAX);
	in.raw = malloc(RAW_MAX);
	int err = in.stored && in.raw ? import(&in, out, why) : err_set(why, ENOMEM, "import");
	release(&in);
	return err;
}
