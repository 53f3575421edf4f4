/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/image_export.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "snapshot/image_impl.h"
#include "snapshot/image_io.h"
#include "snapshot/image_lz4.h"
#include "wire/snap_export.h"

#define RAW_MAX (SNAP_EXPORT_PAGES * (PAGE + sizeof(uint32_t)))

static_assert(RAW_MAX >= SNAP_EXPORT_DATA, "one buffer for both");

struct out {
	int fd;
	uint32_t crc;
	uint64_t chunks;
	uint8_t *packed; /* RAW_MAX */
};

static int put_bytes(const struct out *o, const void *bytes, size_t len, struct errmsg *why)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = write(o->fd, (const char *)bytes + done, len - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(why, errno, "export");
		done += (size_t)n;
	}
	return 0;
}

static int put_chunk(struct out *o, struct snap_export_chunk *c, const void *payload,
		     struct errmsg *why)
{
	c->crc = 0;
	o->crc = crc32c_more(crc32c_more(o->crc, c, sizeof(*c)), payload, c->len);
	c->crc = o->crc;
	o->chunks++;
	int err = put_bytes(o, c, sizeof(*c), why);
	return err ? err : put_bytes(o, payload, c->len, why);
}

/* As it is. */
static int put_plain(struct out *o, enum snap_export_type type, const void *bytes, uint64_t len,
		     struct errmsg *why)
{
	struct snap_export_chunk c = {.type = type, .len = (uint32_t)len, .raw = (uint32_t)len};

	return len ? put_chunk(o, &c, bytes, why) : 0;
}

static int put_packed(struct out *o, enum snap_export_type type, uint64_t where, const void *bytes,
		      uint32_t raw, struct errmsg *why)
{
	struct snap_export_chunk c = {.type = type, .len = raw, .raw = raw, .where = where};

	c.len = lz4_pack(bytes, raw, o->packed);
	return put_chunk(o, &c, c.len < raw ? o->packed : bytes, why);
}

static int put_head(struct out *o, const struct snap_image *image, struct errmsg *why)
{
	struct snap_export_head h = {.version = SNAP_EXPORT_VERSION,
				     .arch = SNAP_IMAGE_X86_64,
				     .page_size = PAGE,
				     .cpus = image->head.cpus,
				     .pages = image->head.pages};

	memcpy(h.magic, SNAP_EXPORT_MAGIC, sizeof(h.magic));
	h.crc = crc32c(&h, sizeof(h));
	o->crc = h.crc;
	int err = put_bytes(o, &h, sizeof(h), why);
	if (!err)
		err = put_plain(o, SNAP_EXPORT_STATE, image->state,
				image_len(image, SNAP_IMAGE_STATE), why);
	if (!err)
		err = put_plain(o, SNAP_EXPORT_DISKS, image->disk_bytes,
				image_len(image, SNAP_IMAGE_DISKS), why);
	if (!err)
		err = put_plain(o, SNAP_EXPORT_META, image->meta, image_len(image, SNAP_IMAGE_META),
				why);
	if (!err)
		err = put_plain(o, SNAP_EXPORT_WS, image->ws, image_len(image, SNAP_IMAGE_WS), why);
	return err;
}

/* --- pages -------------------------------------------------------------------------------------- */

struct page_batch {
	uint32_t number[SNAP_EXPORT_PAGES];
	uint8_t page[SNAP_EXPORT_PAGES][PAGE];
	uint32_t count;
	uint8_t joined[RAW_MAX];
};

static int flush_pages(struct out *o, struct page_batch *b, struct errmsg *why)
{
	size_t numbers = b->count * sizeof(b->number[0]), pages = b->count * PAGE;

	if (!b->count)
		return 0;
	memcpy(b->joined, b->number, numbers);
	memcpy(b->joined + numbers, b->page, pages);
	b->count = 0;
	return put_packed(o, SNAP_EXPORT_PAGE, 0, b->joined, (uint32_t)(numbers + pages), why);
}

static int put_run(struct out *o, struct page_batch *b, struct snap_chain *chain,
		   const struct snap_run *run, struct errmsg *why)
{
	struct snap_image *image = chain->image[run->source];
	int err = 0;

	for (uint64_t i = 0; !err && i < run->count; i++) {
		/* holes that a flat image's runs bridge */
		if (image->index.kind == SNAP_IMAGE_FLAT && !index_stores(image, run->page + i))
			continue;
		err = image_read_slot(image, run->off / PAGE + i, IMAGE_CHECKED, b->page[b->count],
				      why);
		b->number[b->count++] = (uint32_t)(run->page + i);
		if (!err && b->count == SNAP_EXPORT_PAGES)
			err = flush_pages(o, b, why);
	}
	return err;
}

static int put_pages(struct out *o, struct snap_chain *chain, struct errmsg *why)
{
	struct page_batch *b = malloc(sizeof(*b));
	int err = b ? 0 : err_set(why, ENOMEM, "export");

	if (b)
		b->count = 0;
	for (size_t i = 0; !err && i < chain->runs.count; i++)
		if (chain->runs.run[i].kind == SNAP_RUN_MAP)
			err = put_run(o, b, chain, &chain->runs.run[i], why);
	if (!err)
		err = flush_pages(o, b, why);
	free(b);
	return err;
}

/* --- layers ------------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *bytes, size_t len)
{
	return !bytes[0] && !memcmp(bytes, bytes + 1, len - 1);
}

static int put_layer_bytes(struct out *o, int fd, uint64_t len, uint8_t *buf, struct errmsg *why)
{
	int err = 0;

	for (uint64_t off = 0; !err && off < len;) {
		off_t data = lseek(fd, (off_t)off, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			break;
		if (data >= 0)
			off = (uint64_t)data / SNAP_EXPORT_DATA * SNAP_EXPORT_DATA;
		uint32_t part =
			len - off < SNAP_EXPORT_DATA ? (uint32_t)(len - off) : SNAP_EXPORT_DATA;
		err = io_read(fd, buf, part, off, why);
		if (!err && !is_zero(buf, part))
			err = put_packed(o, SNAP_EXPORT_BYTES, off, buf, part, why);
		off += part;
	}
	return err;
}

static int put_layer(struct out *o, const struct snap_layer_file *layer, struct errmsg *why)
{
	struct snap_export_chunk c = {.type = SNAP_EXPORT_LAYER};
	struct stat st;

	if (fstat(layer->fd, &st))
		return err_set(why, errno, "export: layer");
	if (!S_ISREG(st.st_mode))
		return err_set(why, 0, "export: a layer is no file");
	c.where = (uint64_t)st.st_size;
	memcpy(c.id, layer->id, SNAP_ID_LEN);
	int err = put_chunk(o, &c, "", why);
	if (err)
		return err;
	uint8_t *buf = malloc(SNAP_EXPORT_DATA);
	if (!buf)
		return err_set(why, ENOMEM, "export");
	err = put_layer_bytes(o, layer->fd, c.where, buf, why);
	free(buf);
	return err;
}

int snap_export(struct snap_chain *chain, const struct snap_layer_file *layer, uint32_t count,
		int fd, struct errmsg *why)
{
	struct out o = {.fd = fd};
	struct snap_export_chunk end = {.type = SNAP_EXPORT_END};

	if (count > SNAP_EXPORT_LAYERS_MAX)
		return err_set(why, E2BIG, "export: layers");
	o.packed = malloc(RAW_MAX);
	int err = o.packed ? put_head(&o, chain->image[0], why) : err_set(why, ENOMEM, "export");
	if (!err)
		err = put_pages(&o, chain, why);
	for (uint32_t i = 0; !err && i < count; i++)
		err = put_layer(&o, &layer[i], why);
	end.where = o.chunks;
	if (!err)
		err = put_chunk(&o, &end, "", why);
	free(o.packed);
	return err;
}
