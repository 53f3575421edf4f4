/* SPDX-License-Identifier: Apache-2.0 */
/* Which layers the machine's disks had: DISKS. */
#include "snapshot/image_impl.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

/* Bytes of the name, or 0: it is none. */
static size_t drive_len(const char *drive)
{
	size_t len = strnlen(drive, SNAP_DRIVE_LEN);

	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)drive[i]) && drive[i] != '_')
			return 0;
	for (size_t i = len; i < SNAP_DRIVE_LEN; i++)
		if (drive[i])
			return 0;
	return len < SNAP_DRIVE_LEN ? len : 0;
}

int disks_encode(const struct snap_disk *disks, uint32_t count, uint8_t **bytes, size_t *len,
		 struct errmsg *why)
{
	struct snap_image_disks head = {.disk_count = count};

	if (count > SNAP_DISKS_MAX)
		return err_set(why, E2BIG, "snapshot: %u disks", count);
	for (uint32_t i = 0; i < count; i++) {
		if (!drive_len(disks[i].drive))
			return err_set(why, 0, "snapshot: a disk without a name");
		if (disks[i].layer_count > SNAP_LAYERS_MAX - head.layer_count)
			return err_set(why, E2BIG, "snapshot: layers of disks");
		head.layer_count += disks[i].layer_count;
	}
	*len = sizeof(head) + count * sizeof(struct snap_image_disk) +
	       head.layer_count * SNAP_ID_LEN;
	uint8_t *to = calloc(1, *len);
	if (!to)
		return err_set(why, ENOMEM, "snapshot");
	struct snap_image_disk *disk = (void *)(to + sizeof(head));
	uint8_t *layer = (uint8_t *)(disk + count);
	memcpy(to, &head, sizeof(head));
	for (uint32_t i = 0; i < count; i++) {
		memcpy(disk[i].drive, disks[i].drive, drive_len(disks[i].drive));
		memcpy(disk[i].base_id, disks[i].base_id, SNAP_ID_LEN);
		disk[i].generation = disks[i].generation;
		disk[i].layer_count = disks[i].layer_count;
		if (disks[i].layer_count)
			memcpy(layer, disks[i].layer, disks[i].layer_count * SNAP_ID_LEN);
		layer += disks[i].layer_count * SNAP_ID_LEN;
	}
	*bytes = to;
	return 0;
}

static int parse_disk(struct snap_disk *to, const struct snap_image_disk *from,
		      const struct snap_disk *before, struct errmsg *why)
{
	memcpy(to->drive, from->drive, SNAP_DRIVE_LEN);
	memcpy(to->base_id, from->base_id, SNAP_ID_LEN);
	to->generation = from->generation;
	to->layer_count = from->layer_count;
	if (!drive_len(to->drive) || from->rsvd)
		return image_bad(why, "a disk that cannot be");
	for (; before < to; before++)
		if (!strcmp(before->drive, to->drive))
			return image_bad(why, "disk %s is there twice", to->drive);
	return 0;
}

int disks_parse(struct snap_image *image, struct errmsg *why)
{
	uint64_t len = image_len(image, SNAP_IMAGE_DISKS);
	struct snap_image_disks head;

	if (!image->disk_bytes)
		return 0;
	if (len < sizeof(head))
		return image_bad(why, "its disks are cut short");
	memcpy(&head, image->disk_bytes, sizeof(head));
	if (head.disk_count > SNAP_DISKS_MAX || head.layer_count > SNAP_LAYERS_MAX ||
	    len != sizeof(head) + head.disk_count * sizeof(struct snap_image_disk) +
			    head.layer_count * SNAP_ID_LEN)
		return image_bad(why, "its disks have another length");
	image->disks = calloc(head.disk_count + 1, sizeof(*image->disks));
	if (!image->disks)
		return err_set(why, ENOMEM, "snapshot");
	const struct snap_image_disk *disk = (const void *)(image->disk_bytes + sizeof(head));
	const uint8_t *layer = (const uint8_t *)(disk + head.disk_count);
	uint32_t left = head.layer_count;
	for (uint32_t i = 0; i < head.disk_count; i++) {
		int err = parse_disk(&image->disks[i], &disk[i], image->disks, why);
		if (err)
			return err;
		if (disk[i].layer_count > left)
			return image_bad(why, "its disks have more layers than there are");
		image->disks[i].layer = layer;
		layer += disk[i].layer_count * SNAP_ID_LEN;
		left -= disk[i].layer_count;
	}
	image->disk_count = head.disk_count;
	return left ? image_bad(why, "its disks have fewer layers than there are") : 0;
}
