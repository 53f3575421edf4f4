/* SPDX-License-Identifier: Apache-2.0 */
/* The envelope: header and sections, all checked before anything is used. */
#include "snapshot/image_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/crc32c.h"
#include "snapshot/image_io.h"
#include "wire/snap.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the structs are the format: a big-endian port swaps here"
#endif

int image_bad(struct errmsg *why, const char *fmt, ...)
{
	char text[160];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err_set(why, 0, "snapshot: %s", text);
	return -EBADMSG;
}

struct snap_id_text snap_id_text(const uint8_t id[SNAP_ID_LEN])
{
	struct snap_id_text out;

	for (unsigned i = 0; i < SNAP_ID_LEN; i++)
		snprintf(out.text + 2 * i, 3, "%02x", id[i]);
	return out;
}

bool image_id_is_zero(const uint8_t id[SNAP_ID_LEN])
{
	static const uint8_t zero[SNAP_ID_LEN];

	return memcmp(id, zero, SNAP_ID_LEN) == 0;
}

uint64_t image_len(const struct snap_image *image, enum snap_image_type type)
{
	return image->section[type] ? image->section[type]->len : 0;
}

static bool all_zero(const void *bytes, size_t len)
{
	const uint8_t *p = bytes;

	for (size_t i = 0; i < len; i++)
		if (p[i])
			return false;
	return true;
}

static int check_identity(const struct snap_image_header *h, struct errmsg *why)
{
	bool alone = image_id_is_zero(h->parent_id);

	if (image_id_is_zero(h->id))
		return image_bad(why, "has no identity");
	if (alone != !h->depth || (alone && h->parent_root))
		return image_bad(why, "says two things about its parent");
	if (h->depth > SNAP_IMAGE_DEPTH_MAX)
		return image_bad(why, "has %u ancestors, more than %u", h->depth,
				 SNAP_IMAGE_DEPTH_MAX);
	return 0;
}

static int check_header(const struct snap_image_header *h, uint64_t file_len, struct errmsg *why)
{
	struct snap_image_header copy = *h;

	if (memcmp(h->magic, SNAP_IMAGE_MAGIC, sizeof(h->magic)) != 0)
		return image_bad(why, "not one");
	if (h->version != SNAP_IMAGE_VERSION)
		return image_bad(why, "version %u, only %u is known", h->version,
				 SNAP_IMAGE_VERSION);
	copy.crc = 0;
	if (crc32c(&copy, sizeof(copy)) != h->crc)
		return image_bad(why, "its header is damaged");
	if (h->arch != SNAP_IMAGE_X86_64)
		return image_bad(why, "made for another architecture (%u)", h->arch);
	if (h->page_size != PAGE || !h->pages || h->pages > SNAP_PAGES_MAX || !h->cpus ||
	    h->cpus > SNAP_IMAGE_CPUS_MAX)
		return image_bad(why, "of a machine that cannot be");
	if (h->rsvd0 || !all_zero(h->rsvd1, sizeof(h->rsvd1)))
		return image_bad(why, "its header has unknown parts");
	if (h->file_len != file_len)
		return image_bad(why, "%llu bytes long, not %llu", (unsigned long long)file_len,
				 (unsigned long long)h->file_len);
	return check_identity(h, why);
}

static int take_section(struct snap_image *image, const struct snap_image_section *s,
			uint64_t *from, struct errmsg *why)
{
	if (!s->type || s->type >= SNAP_IMAGE_TYPES)
		return image_bad(why, "has a section of unknown type %u", s->type);
	if (image->section[s->type])
		return image_bad(why, "section %u is there twice", s->type);
	if (s->off % SNAP_IMAGE_ALIGN || s->off < *from || s->off > image->head.file_len ||
	    s->len > image->head.file_len - s->off)
		return image_bad(why, "section %u lies outside or over another", s->type);
	*from = s->off + s->len;
	image->section[s->type] = s;
	return 0;
}

static int check_sections(struct snap_image *image, struct errmsg *why)
{
	const struct snap_image_section *s = image->head.section;
	uint64_t from = sizeof(image->head);
	unsigned count = SNAP_IMAGE_SECTIONS;
	int err = 0;

	while (count && all_zero(&s[count - 1], sizeof(*s)))
		count--;
	for (unsigned i = 0; !err && i < count; i++)
		err = take_section(image, &s[i], &from, why);
	if (err)
		return err;
	if (!image->section[SNAP_IMAGE_STATE] || !image->section[SNAP_IMAGE_MEM] ||
	    !image->section[SNAP_IMAGE_MEMIDX] || image->section[SNAP_IMAGE_MEM]->crc)
		return image_bad(why, "a section is missing");
	return from == image->head.file_len ? 0 : image_bad(why, "has something behind its end");
}

int image_section(const struct snap_image *image, enum snap_image_type type, uint64_t max,
		  uint8_t **bytes, struct errmsg *why)
{
	const struct snap_image_section *s = image->section[type];

	if (!s)
		return 0;
	if (s->len > max)
		return image_bad(why, "section %u of %llu bytes is too large", type,
				 (unsigned long long)s->len);
	cleanup_free uint8_t *buf = malloc(s->len + 1);
	if (!buf)
		return err_set(why, ENOMEM, "snapshot");
	int err = io_read(image->fd, buf, s->len, s->off, why);
	if (err)
		return err;
	if (crc32c(buf, s->len) != s->crc)
		return image_bad(why, "section %u is damaged", type);
	buf[s->len] = 0;
	*bytes = steal_ptr(&buf);
	return 0;
}

static uint64_t index_max(const struct snap_image *image)
{
	uint64_t pages = image->head.pages;

	return sizeof(struct snap_image_index) +
	       (pages / SNAP_IMAGE_GROUP_PAGES + 1) * sizeof(struct snap_image_group) +
	       (pages / SNAP_IMAGE_BLOCK_PAGES + 1) * sizeof(struct snap_image_block);
}

static int read_others(struct snap_image *image, struct errmsg *why)
{
	uint64_t chain_max = sizeof(struct snap_image_chain) +
			     SNAP_IMAGE_DEPTH_MAX * sizeof(struct snap_image_layer) +
			     SNAP_MAPS_MAX * sizeof(struct snap_image_run);
	uint64_t disks_max = sizeof(struct snap_image_disks) +
			     SNAP_DISKS_MAX * sizeof(struct snap_image_disk) +
			     SNAP_LAYERS_MAX * SNAP_ID_LEN;
	int err = image_section(image, SNAP_IMAGE_STATE, SNAP_STATE_MAX, &image->state, why);

	if (!err)
		err = image_section(image, SNAP_IMAGE_META, SNAP_META_MAX, &image->meta, why);
	if (!err)
		err = image_section(image, SNAP_IMAGE_DISKS, disks_max, &image->disk_bytes, why);
	if (!err)
		err = image_section(image, SNAP_IMAGE_CHAIN, chain_max, &image->chain, why);
	if (!err)
		err = image_section(image, SNAP_IMAGE_WS, SNAP_WS_MAX, &image->ws, why);
	return err ? err : disks_parse(image, why);
}

static int open_parts(struct snap_image *image, enum image_part part, struct errmsg *why)
{
	struct stat st;

	if (fstat(image->fd, &st))
		return err_set(why, errno, "snapshot");
	if (!S_ISREG(st.st_mode))
		return image_bad(why, "not a file");
	if (st.st_size < (off_t)sizeof(image->head))
		return image_bad(why, "cut short");
	int err = io_read(image->fd, &image->head, sizeof(image->head), 0, why);
	if (!err)
		err = check_header(&image->head, (uint64_t)st.st_size, why);
	if (!err)
		err = check_sections(image, why);
	if (!err)
		err = image_section(image, SNAP_IMAGE_MEMIDX, index_max(image), &image->index_bytes,
				    why);
	if (!err)
		err = index_parse(image, why);
	return err || part == IMAGE_MEMORY_ONLY ? err : read_others(image, why);
}

int image_open(struct snap_image **out, int fd, enum image_part part, struct errmsg *why)
{
	struct snap_image *image = calloc(1, sizeof(*image));

	if (!image)
		return err_set(why, ENOMEM, "snapshot");
	image->cached = NO_BLOCK;
	image->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	int err = image->fd < 0 ? err_set(why, errno, "snapshot") : open_parts(image, part, why);
	if (err) {
		snap_image_close(image);
		return err;
	}
	*out = image;
	return 0;
}

int snap_image_open(struct snap_image **out, int fd, struct errmsg *why)
{
	return image_open(out, fd, IMAGE_ALL, why);
}

void snap_image_close(struct snap_image *image)
{
	if (!image)
		return;
	cleanup_close_fn(&image->fd);
	free(image->index_bytes);
	free(image->block_off);
	free(image->state);
	free(image->meta);
	free(image->disk_bytes);
	free(image->chain);
	free(image->ws);
	free(image->disks);
	free(image->cache);
	free(image->stored);
	free(image);
}

void snap_image_info(const struct snap_image *image, struct snap_image_info *info)
{
	const struct snap_image_header *h = &image->head;

	*info = (struct snap_image_info){
		.self.root = h->crc,
		.parent.root = h->parent_root,
		.kind = image->index.kind,
		.cpus = h->cpus,
		.depth = h->depth,
		.pages = h->pages,
		.stored = image->index.stored,
		.zero = image->index.zero,
		.created = h->created,
		.file_len = h->file_len,
		.mem_len = image_len(image, SNAP_IMAGE_MEM),
		.index_len = image_len(image, SNAP_IMAGE_MEMIDX),
		.has_chain = image->section[SNAP_IMAGE_CHAIN],
		.has_ws = image->section[SNAP_IMAGE_WS],
	};
	memcpy(info->self.id, h->id, SNAP_ID_LEN);
	memcpy(info->parent.id, h->parent_id, SNAP_ID_LEN);
}

const void *snap_image_state(const struct snap_image *image, size_t *len)
{
	*len = image_len(image, SNAP_IMAGE_STATE);
	return image->state;
}

const char *snap_image_meta(const struct snap_image *image, size_t *len)
{
	*len = image_len(image, SNAP_IMAGE_META);
	return image->meta ? (const char *)image->meta : "";
}

uint32_t snap_image_disks(const struct snap_image *image, const struct snap_disk **disks)
{
	*disks = image->disks;
	return image->disk_count;
}
