/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/cow.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/crc32c.h"

struct mapping {
	uint8_t *bytes;
	size_t len;
};

static uint64_t round_up(uint64_t val, uint64_t to)
{
	return (val + to - 1) / to * to;
}

int cow_layout(struct cow_layer *layer)
{
	uint32_t block = layer->block_size;

	if (block < COW_BLOCK_MIN || block > COW_BLOCK_MAX || (block & (block - 1)))
		return -EINVAL;
	if (!layer->size || layer->size > COW_SIZE_MAX || layer->size % 512)
		return -EINVAL;
	if (layer->below_size > layer->size)
		return -EINVAL;
	layer->blocks = round_up(layer->size, block) / block;
	layer->map_len = round_up((layer->blocks + 3) / 4, COW_MAP_PAGE);
	layer->data_off = round_up(COW_HEADER_LEN + layer->map_len, COW_DATA_ALIGN);
	layer->file_len = layer->data_off + layer->blocks * block;
	return 0;
}

static int cow_check_envelope(const struct cow_header *h, struct errmsg *why)
{
	struct cow_header copy = *h;

	if (memcmp(h->magic, COW_MAGIC, sizeof(h->magic)) != 0)
		return err_set(why, EBADMSG, "not a disk layer");
	if (le32toh(h->version) != COW_VERSION)
		return err_set(why, EBADMSG, "disk layer of version %u, only %u is known",
			       le32toh(h->version), COW_VERSION);
	copy.crc = 0;
	if (crc32c(&copy, sizeof(copy)) != le32toh(h->crc))
		return err_set(why, EBADMSG, "disk layer's header is damaged");
	if ((le32toh(h->flags) & ~COW_SEALED) || h->rsvd0 ||
	    !bytes_zero(h->rsvd1, sizeof(h->rsvd1)))
		return err_set(why, EBADMSG, "disk layer's header has unknown parts");
	return 0;
}

int cow_decode(const struct cow_header *h, struct cow_layer *layer, struct errmsg *why)
{
	int err = cow_check_envelope(h, why);
	if (err)
		return err;
	struct cow_layer l = {.size = le64toh(h->size),
			      .below_size = le64toh(h->below_size),
			      .block_size = le32toh(h->block_size),
			      .sealed = le32toh(h->flags) & COW_SEALED,
			      .map_crc = le32toh(h->map_crc)};

	if (cow_layout(&l) || (!l.sealed && l.map_crc))
		return err_set(why, EBADMSG, "disk layer's sizes cannot be");
	if (le64toh(h->map_off) != COW_HEADER_LEN || le64toh(h->map_len) != l.map_len ||
	    le64toh(h->data_off) != l.data_off)
		return err_set(why, EBADMSG, "disk layer's parts are not where they should be");
	memcpy(l.below_id, h->below_id, COW_ID_LEN);
	memcpy(l.layer_id, h->layer_id, COW_ID_LEN);
	*layer = l;
	return 0;
}

void cow_encode(const struct cow_layer *layer, struct cow_header *h)
{
	*h = (struct cow_header){.version = htole32(COW_VERSION),
				 .flags = htole32(layer->sealed ? COW_SEALED : 0),
				 .block_size = htole32(layer->block_size),
				 .size = htole64(layer->size),
				 .below_size = htole64(layer->below_size),
				 .map_off = htole64(COW_HEADER_LEN),
				 .map_len = htole64(layer->map_len),
				 .data_off = htole64(layer->data_off),
				 .map_crc = htole32(layer->map_crc)};
	memcpy(h->magic, COW_MAGIC, sizeof(h->magic));
	memcpy(h->below_id, layer->below_id, COW_ID_LEN);
	memcpy(h->layer_id, layer->layer_id, COW_ID_LEN);
	h->crc = htole32(crc32c(h, sizeof(*h)));
}

int cow_format(int fd, struct cow_layer *layer, struct errmsg *why)
{
	struct cow_header header;
	struct cow_layer l = *layer;

	l.sealed = false;
	l.map_crc = 0;
	if (cow_layout(&l))
		return err_set(why, EINVAL, "disk layer of %llu bytes", (unsigned long long)l.size);
	cow_encode(&l, &header);
	/* Emptied first: what is not written reads as zero, which is COW_BELOW all over. */
	if (ftruncate(fd, 0) || ftruncate(fd, (off_t)l.file_len))
		return err_set(why, errno, "disk layer: set length");
	ssize_t n = pwrite(fd, &header, sizeof(header), 0);
	if (n != sizeof(header))
		return err_set(why, n < 0 ? errno : ENOSPC, "disk layer: write header");
	*layer = l;
	return 0;
}

int cow_format_on(int fd, uint64_t size, uint32_t block_size, const uint8_t below_id[COW_ID_LEN],
		  struct errmsg *why)
{
	struct cow_layer layer = {.size = size, .below_size = size, .block_size = block_size};

	memcpy(layer.below_id, below_id, COW_ID_LEN);
	if (getrandom(layer.layer_id, COW_ID_LEN, 0) != COW_ID_LEN)
		return err_set(why, EIO, "random numbers for a layer");
	return cow_format(fd, &layer, why);
}

int cow_open(int fd, struct cow_layer *layer, struct errmsg *why)
{
	struct cow_header header;
	struct stat st;
	ssize_t n = pread(fd, &header, sizeof(header), 0);

	if (n < 0)
		return err_set(why, errno, "disk layer: read header");
	if (n != sizeof(header))
		return err_set(why, EBADMSG, "disk layer is cut short");
	struct cow_layer l;
	int err = cow_decode(&header, &l, why);
	if (err)
		return err;
	if (fstat(fd, &st))
		return err_set(why, errno, "disk layer: size");
	if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != l.file_len)
		return err_set(why, EBADMSG, "disk layer's file is not as long as its header says");
	*layer = l;
	return 0;
}

/* Where the file's next bytes are that are not a hole, at or behind `off`. */
static uint64_t next_data(int fd, uint64_t off, uint64_t end)
{
	off_t at = lseek(fd, (off_t)off, SEEK_DATA);

	if (at < 0)
		return errno == ENXIO ? end : off;
	return (uint64_t)at < end ? (uint64_t)at : end;
}

static int read_map_page(int fd, uint64_t off, uint8_t *page, struct errmsg *why)
{
	ssize_t n = pread(fd, page, COW_MAP_PAGE, (off_t)off);

	if (n < 0)
		return err_set(why, errno, "disk layer: read map");
	if (n != COW_MAP_PAGE)
		return err_set(why, EBADMSG, "disk layer is cut short");
	for (unsigned i = 0; i < COW_MAP_PAGE; i++)
		if (page[i] & page[i] >> 1 & 0x55)
			return err_set(why, EBADMSG, "disk layer's map is damaged");
	return 0;
}

int cow_read_map(int fd, const struct cow_layer *layer, uint8_t *map, struct errmsg *why)
{
	uint64_t end = COW_HEADER_LEN + layer->map_len;

	for (uint64_t off = COW_HEADER_LEN; off < end; off += COW_MAP_PAGE) {
		/* Holes stay untouched: an empty layer of a large disk costs no memory. */
		off = next_data(fd, off, end) / COW_MAP_PAGE * COW_MAP_PAGE;
		if (off >= end)
			break;
		int err = read_map_page(fd, off, map + (off - COW_HEADER_LEN), why);
		if (err)
			return err;
	}
	if (layer->sealed && crc32c(map, layer->map_len) != layer->map_crc)
		return err_set(why, EBADMSG, "disk layer's map does not match its checksum");
	return 0;
}

int cow_data_sync(int fd, struct errmsg *why)
{
	return fdatasync(fd) ? err_set(why, errno, "disk layer: sync") : 0;
}

static int write_header(int fd, const struct cow_layer *layer, struct errmsg *why)
{
	struct cow_header header;

	cow_encode(layer, &header);
	ssize_t n = pwrite(fd, &header, sizeof(header), 0);
	if (n != sizeof(header))
		return err_set(why, n < 0 ? errno : EIO, "disk layer: write header");
	return 0;
}

static void unmap(const struct mapping *m)
{
	if (m->bytes)
		munmap(m->bytes, m->len);
}

int cow_seal(int fd, struct errmsg *why)
{
	struct cow_layer layer;

	int err = cow_open(fd, &layer, why);
	if (err || layer.sealed)
		return err;
	__attribute__((cleanup(unmap))) struct mapping map = {.len = layer.map_len};
	map.bytes = mmap(NULL, map.len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map.bytes == MAP_FAILED) {
		map.bytes = NULL;
		return err_set(why, ENOMEM, "disk layer: map");
	}
	err = cow_read_map(fd, &layer, map.bytes, why);
	if (!err)
		err = cow_data_sync(fd, why); /* data and map, before the header vouches for them */
	if (err)
		return err;
	layer.sealed = true;
	layer.map_crc = crc32c(map.bytes, map.len);
	err = write_header(fd, &layer, why);
	return err ? err : cow_data_sync(fd, why);
}
