/* SPDX-License-Identifier: Apache-2.0 */
/* spore disk inspect: what a layer's file says of itself, and what is wrong with it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "snapshot/cow.h"
#include "supervisor/cli/cmd_disk.h"
#include "supervisor/cli/command.h"

#define ID_TEXT (2 * COW_ID_LEN + 1)

struct disk_report {
	struct cow_layer layer;
	bool known;         /* the header could be read: `layer` holds */
	uint64_t count[3];  /* blocks, by enum cow_state */
	uint64_t allocated; /* bytes that the file takes */
};

static void id_text(const uint8_t id[COW_ID_LEN], char text[ID_TEXT])
{
	for (unsigned i = 0; i < COW_ID_LEN; i++)
		snprintf(text + 2 * (size_t)i, 3, "%02x", id[i]);
}

static int count_blocks(int fd, struct disk_report *r, struct errmsg *why)
{
	cleanup_free uint8_t *map = calloc(1, (size_t)r->layer.map_len);

	if (!map)
		return err_set(why, ENOMEM, "map");
	int err = cow_read_map(fd, &r->layer, map, why);
	for (uint64_t block = 0; !err && block < r->layer.blocks; block++)
		r->count[cow_map_get(map, block)]++;
	return err;
}

/* Fills what can be known; the text says what is wrong. */
static int inspect(const char *path, struct disk_report *r, struct errmsg *why)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	*r = (struct disk_report){.known = false};
	if (fd < 0 || fstat(fd, &st))
		return err_set(why, errno, "open");
	r->allocated = (uint64_t)st.st_blocks * 512;
	int err = cow_open(fd, &r->layer, why);
	if (err)
		return err;
	r->known = true;
	return count_blocks(fd, r, why);
}

static json_t *as_json(const char *path, const struct disk_report *r, const char *wrong)
{
	const struct cow_layer *l = &r->layer;
	char own[ID_TEXT], below[ID_TEXT];

	id_text(l->layer_id, own);
	id_text(l->below_id, below);
	if (!r->known)
		return json_pack("{ss ss sI}", "file", path, "damage", wrong, "allocated_bytes",
				 (json_int_t)r->allocated);
	return json_pack("{ss ss* sI sb ss ss sI sI sI sI sI sI}", "file", path, "damage", wrong,
			 "allocated_bytes", (json_int_t)r->allocated, "sealed", l->sealed, "id",
			 own, "below_id", below, "size_bytes", (json_int_t)l->size, "below_bytes",
			 (json_int_t)l->below_size, "block_bytes", (json_int_t)l->block_size,
			 "blocks_here", (json_int_t)r->count[COW_HERE], "blocks_zero",
			 (json_int_t)r->count[COW_ZERO], "blocks_below",
			 (json_int_t)r->count[COW_BELOW]);
}

static void print_report(const char *path, const struct disk_report *r, const char *wrong)
{
	const struct cow_layer *l = &r->layer;
	char own[ID_TEXT], below[ID_TEXT];

	id_text(l->layer_id, own);
	id_text(l->below_id, below);
	printf("%s\n", path);
	if (r->known) {
		printf("  layer      %s, %s\n", own, l->sealed ? "sealed" : "open for writing");
		printf("  on         %s, %" PRIu64 " bytes\n", below, l->below_size);
		printf("  disk       %" PRIu64 " bytes in blocks of %u\n", l->size, l->block_size);
	}
	if (r->known && !wrong)
		printf("  blocks     %" PRIu64 " here, %" PRIu64 " zero, %" PRIu64 " below\n",
		       r->count[COW_HERE], r->count[COW_ZERO], r->count[COW_BELOW]);
	printf("  allocated  %" PRIu64 " bytes\n", r->allocated);
	if (wrong)
		printf("  damaged    %s\n", wrong);
}

int cmd_disk_inspect(void *config, int argc, char **argv)
{
	const struct disk_args *args = config;
	json_t *list = args->json ? json_array() : NULL;
	int status = CLI_OK;

	for (int i = 0; i < argc; i++) {
		struct disk_report report;
		struct errmsg why;
		int err = inspect(argv[i], &report, &why);
		if (err && err != -EBADMSG) {
			status = cli_fail("disk inspect", "%s: %s", argv[i], why.text);
			continue;
		}
		if (err && status == CLI_OK)
			status = CLI_NO;
		if (list)
			json_array_append_new(list,
					      as_json(argv[i], &report, err ? why.text : NULL));
		else
			print_report(argv[i], &report, err ? why.text : NULL);
	}
	if (list) {
		json_dumpf(list, stdout, JSON_INDENT(2));
		putchar('\n');
	}
	json_decref(list);
	return status;
}
