/* SPDX-License-Identifier: Apache-2.0 */
/* spore snapshot inspect, verify and compact: what lies in files.  Whatever a file says is printed escaped. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "snapshot/codec.h"
#include "snapshot/image.h"
#include "snapshot/image_ws.h"
#include "supervisor/cli/cmd_snapshot.h"
#include "supervisor/cli/snapshot.h"

#define MIB       1048576.0
#define PAGE_MIB  (SNAP_PAGE_SIZE / MIB)
#define TEXT_MAX  64
#define META_SHOW 1024u /* bytes of the writer's words */

int snapshot_folder(const char *path, const char *folder, struct errmsg *why)
{
	cleanup_free char *copy = folder ? NULL : strdup(path);

	if (!folder && !copy)
		return err_set(why, ENOMEM, "%s", path);
	const char *dir = folder ? folder : dirname(copy);
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_set(why, errno, "%s", dir) : fd;
}

int snapshot_open(const char *path, struct errmsg *why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 ? err_set(why, errno, "%s", path) : fd;
}

static const char *kind_name(enum snap_image_kind kind)
{
	static const char *const names[] = {[SNAP_IMAGE_FLAT] = "flat",
					    [SNAP_IMAGE_PACKED] = "packed",
					    [SNAP_IMAGE_LZ4] = "lz4"};

	return names[kind];
}

static void format_time(uint64_t ns, char text[TEXT_MAX])
{
	time_t seconds = (time_t)(ns / NS_PER_SEC);
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || !strftime(text, TEXT_MAX, "%Y-%m-%d %H:%M:%S UTC", &tm))
		snprintf(text, TEXT_MAX, "%" PRIu64 " ns", ns);
}

/* How often each tag occurs, in order: "MACH VCPU*2 IOAP". */
static void print_sections(const struct snap_in *in)
{
	for (uint32_t i = 0; i < in->count; i++) {
		uint32_t tag = in->table[i].tag, before = 0;
		for (uint32_t k = 0; k < i; k++)
			before += in->table[k].tag == tag;
		if (before)
			continue;
		printf(" %s", snap_tag_text(tag).text);
		if (snap_count(in, tag) > 1)
			printf("*%" PRIu32, snap_count(in, tag));
	}
}

static void print_state(const struct snap_image *image)
{
	struct snap_in in;
	size_t len;
	const void *state = snap_image_state(image, &len);
	struct errmsg why;

	printf("state     %zu bytes:", len);
	if (snap_in_open(&in, state, len, &why))
		printf(" %s", why.text);
	else
		print_sections(&in);
	putchar('\n');
}

static void print_escaped(const char *text, size_t len)
{
	for (size_t i = 0; i < len && i < META_SHOW; i++)
		putchar(isprint((unsigned char)text[i]) ? text[i] : '.');
	puts(len > META_SHOW ? "..." : "");
}

static void print_disks(const struct snap_image *image)
{
	const struct snap_disk *disk;
	uint32_t count = snap_image_disks(image, &disk);

	for (uint32_t i = 0; i < count; i++) {
		printf("disk      %s, generation %" PRIu64 ", over %s\n", disk[i].drive,
		       disk[i].generation, snap_id_text(disk[i].base_id).text);
		for (uint32_t k = 0; k < disk[i].layer_count; k++)
			printf("          layer %s\n",
			       snap_id_text(disk[i].layer + k * SNAP_ID_LEN).text);
	}
}

static void print_rest(const struct snap_image *image, const struct snap_image_info *info)
{
	struct snap_ws *ws;
	size_t len;
	const char *meta = snap_image_meta(image, &len);

	if (info->has_ws && !snap_ws_open_section(&ws, image, NULL)) {
		printf("touched   first: %" PRIu32 " pages\n", snap_ws_page_count(ws));
		snap_ws_close(ws);
	}
	if (len) {
		printf("words     ");
		print_escaped(meta, len);
	}
}

static void print_image(const struct snap_image *image)
{
	struct snap_image_info info;
	char created[TEXT_MAX];

	snap_image_info(image, &info);
	format_time(info.created, created);
	printf("id        %s\n", snap_id_text(info.self.id).text);
	printf("root      %08" PRIx32 "\n", info.self.root);
	if (info.depth)
		printf("parent    %s (root %08" PRIx32 "), %" PRIu32 " in all\n",
		       snap_id_text(info.parent.id).text, info.parent.root, info.depth);
	printf("created   %s\n", created);
	printf("machine   %" PRIu32 " CPU%s, %.1f MiB\n", info.cpus, info.cpus == 1 ? "" : "s",
	       (double)info.pages * PAGE_MIB);
	printf("memory    %s: %.1f MiB stored in %.1f MiB, index %.1f KiB", kind_name(info.kind),
	       (double)info.stored * PAGE_MIB, (double)info.mem_len / MIB,
	       (double)info.index_len / 1024);
	if (info.depth)
		printf(", %" PRIu64 " pages became zero", info.zero);
	putchar('\n');
	print_state(image);
	print_disks(image);
	print_rest(image, &info);
}

/* --- json --------------------------------------------------------------------------------------- */

static json_t *json_disks(const struct snap_image *image)
{
	const struct snap_disk *disk;
	uint32_t count = snap_image_disks(image, &disk);
	json_t *list = json_array();

	for (uint32_t i = 0; i < count; i++) {
		json_t *layers = json_array();
		for (uint32_t k = 0; k < disk[i].layer_count; k++)
			json_array_append_new(
				layers,
				json_string(snap_id_text(disk[i].layer + k * SNAP_ID_LEN).text));
		json_array_append_new(list, json_pack("{ss sI ss so}", "drive", disk[i].drive,
						      "generation", (json_int_t)disk[i].generation,
						      "base", snap_id_text(disk[i].base_id).text,
						      "layers", layers));
	}
	return list;
}

static json_t *json_sections(const struct snap_image *image)
{
	json_t *list = json_array();
	struct snap_in in;
	size_t len;
	const void *state = snap_image_state(image, &len);

	if (snap_in_open(&in, state, len, NULL))
		return list;
	for (uint32_t i = 0; i < in.count; i++)
		json_array_append_new(list, json_pack("{ss sI sI sI}", "tag",
						      snap_tag_text(in.table[i].tag).text,
						      "instance", (json_int_t)in.table[i].instance,
						      "version", (json_int_t)in.table[i].version,
						      "bytes", (json_int_t)in.table[i].len));
	return list;
}

static json_t *json_image(const struct snap_image *image)
{
	struct snap_image_info info;
	size_t len;
	const char *meta = snap_image_meta(image, &len);

	snap_image_info(image, &info);
	json_t *words = json_stringn(meta, len);
	json_t *out = json_pack(
		"{ss sI sI sI sI sI ss sI sI sI sI sI sb so so so?}", "id",
		snap_id_text(info.self.id).text, "root", (json_int_t)info.self.root, "ancestors",
		(json_int_t)info.depth, "created", (json_int_t)(info.created / NS_PER_SEC), "cpus",
		(json_int_t)info.cpus, "pages", (json_int_t)info.pages, "memory",
		kind_name(info.kind), "stored_pages", (json_int_t)info.stored, "zero_pages",
		(json_int_t)info.zero, "memory_bytes", (json_int_t)info.mem_len, "index_bytes",
		(json_int_t)info.index_len, "file_bytes", (json_int_t)info.file_len, "working_set",
		(int)info.has_ws, "disks", json_disks(image), "state", json_sections(image),
		"words", words);
	if (out && info.depth)
		json_object_set_new(out, "parent", json_string(snap_id_text(info.parent.id).text));
	return out;
}

static int print_json(json_t *value)
{
	if (!value)
		return cli_fail("snapshot", "out of memory");
	json_dumpf(value, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(value);
	return CLI_OK;
}

int cmd_snapshot_inspect(void *config, int argc, char **argv)
{
	const struct snapshot_args *args = config;
	struct snap_image *image;
	struct errmsg why;

	(void)argc;
	cleanup_close int fd = snapshot_open(argv[0], &why);
	if (fd < 0)
		return cli_fail("snapshot inspect", "%s", why.text);
	if (snap_image_open(&image, fd, &why))
		return cli_fail("snapshot inspect", "%s: %s", argv[0], why.text);
	int status = CLI_OK;
	if (args->json)
		status = print_json(json_image(image));
	else
		print_image(image);
	snap_image_close(image);
	return status;
}

/* --- verify ------------------------------------------------------------------------------------- */

static int verify(const char *path, const char *folder, struct errmsg *why)
{
	cleanup_close int fd = snapshot_open(path, why);
	if (fd < 0)
		return fd;
	cleanup_close int dir = snapshot_folder(path, folder, why);
	return dir < 0 ? dir : snap_chain_verify(fd, snap_find_in_folder, &dir, why);
}

int cmd_snapshot_verify(void *config, int argc, char **argv)
{
	const struct snapshot_args *args = config;
	json_t *list = args->json ? json_array() : NULL;
	int status = CLI_OK;

	for (int i = 0; i < argc; i++) {
		struct errmsg why = {""};
		int err = verify(argv[i], args->folder, &why);
		if (err)
			status = CLI_NO;
		if (list)
			json_array_append_new(list, json_pack("{ss sb ss}", "file", argv[i], "good",
							      !err, "why", why.text));
		else if (err)
			cli_fail("snapshot verify", "%s: %s", argv[i], why.text);
		else
			printf("%s: good\n", argv[i]);
	}
	if (list && print_json(list))
		return CLI_FAILED;
	return status;
}

/* --- compact ------------------------------------------------------------------------------------ */

static int flatten(const char *from, const char *to, const struct snapshot_args *args,
		   struct snap_written *out, struct errmsg *why)
{
	cleanup_free char *copy = strdup(to);
	struct snap_chain *chain;

	if (!copy)
		return err_set(why, ENOMEM, "%s", to);
	cleanup_close int fd = snapshot_open(from, why);
	cleanup_close int near = fd < 0 ? -1 : snapshot_folder(from, args->folder, why);
	cleanup_close int into = near < 0 ? -1 : snapshot_folder(to, NULL, why);
	if (into < 0)
		return -ENOENT;
	int err = snap_chain_open(&chain, fd, snap_find_in_folder, &near, SNAP_CHAIN_ALL, why);
	if (err)
		return err_wrap(why, err, "%s", from);
	snap_image_sweep(into);
	err = snap_chain_flatten(chain, into, basename(copy),
				 args->flat ? SNAP_IMAGE_FLAT : SNAP_IMAGE_LZ4, SNAP_NEW, out, why);
	snap_chain_close(chain);
	return err;
}

int cmd_snapshot_compact(void *config, int argc, char **argv)
{
	struct snap_written out;
	struct errmsg why;

	(void)argc;
	if (flatten(argv[0], argv[1], config, &out, &why))
		return cli_fail("snapshot compact", "%s", why.text);
	puts(snap_id_text(out.self.id).text);
	return CLI_OK;
}
