/* SPDX-License-Identifier: Apache-2.0 */
/* The store, archives with hostile and odd entries, OCI layouts. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "supervisor/image/oci.h"
#include "supervisor/image/store.h"
#include "supervisor/image/tree.h"
#include "supervisor/image/unpack.h"

static char top[64];
static struct errmsg why;

static int setup(void **state)
{
	(void)state;
	strcpy(top, "/tmp/spore-image-XXXXXX");
	if (!mkdtemp(top) || setenv("XDG_DATA_HOME", top, 1))
		return -1;
	why.text[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	return tree_remove(AT_FDCWD, top, NULL);
}

static const char *below(const char *rest)
{
	static char path[4][512];
	static unsigned turn;
	char *out = path[turn++ % 4];

	snprintf(out, sizeof(path[0]), "%s/%s", top, rest);
	return out;
}

static void put_file(const char *rest, const char *text)
{
	FILE *f = fopen(below(rest), "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void assert_content(const char *rest, const char *want)
{
	char got[256] = "";
	FILE *f = fopen(below(rest), "r");

	assert_non_null(f);
	size_t n = fread(got, 1, sizeof(got) - 1, f);
	got[n] = '\0';
	fclose(f);
	assert_string_equal(got, want);
}

/* --- the store ---------------------------------------------------------------------------------- */

static void make_image(const char *name)
{
	struct store_stage stage;
	char path[STORE_PATH_MAX + 16];

	assert_int_equal(store_stage_begin(&stage, &why), 0);
	snprintf(path, sizeof(path), "%s/" STORE_FILE, stage.path);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs("ext4", f);
	fclose(f);
	assert_int_equal(store_stage_commit(&stage, name, "a test\x1b", STORE_NEW, &why), 0);
}

static int count_image(void *arg, const struct store_image *image)
{
	assert_string_equal(image->name, "one");
	assert_string_equal(image->source, "a test?");
	assert_int_equal(image->bytes, 4);
	++*(int *)arg;
	return 0;
}

static void store__commit_list_remove__round_trip(void **state)
{
	char path[STORE_PATH_MAX];
	int count = 0;

	(void)state;
	assert_int_equal(store_list(count_image, &count, &why), 0);
	assert_int_equal(count, 0);
	make_image("one");
	assert_int_equal(store_list(count_image, &count, &why), 0);
	assert_int_equal(count, 1);
	assert_int_equal(store_resolve("one", path, &why), 0);
	assert_string_equal(path, below("spore/images/one/" STORE_FILE));
	assert_int_equal(store_remove("one", &why), 0);
	assert_int_equal(store_resolve("one", path, &why), -ENOENT);
	assert_int_equal(store_remove("one", &why), -ENOENT);
}

static void store__name_taken__refused_or_replaced(void **state)
{
	struct store_stage stage;
	char path[STORE_PATH_MAX + 16];

	(void)state;
	make_image("one");
	assert_int_equal(store_stage_begin(&stage, &why), 0);
	snprintf(path, sizeof(path), "%s/" STORE_FILE, stage.path);
	FILE *f = fopen(path, "w");
	fputs("new", f);
	fclose(f);
	assert_int_equal(store_stage_commit(&stage, "one", "", STORE_NEW, &why), -EEXIST);
	assert_string_equal(why.text, "there is an image 'one' already: --replace");
	assert_content("spore/images/one/" STORE_FILE, "ext4");
	assert_int_equal(store_stage_commit(&stage, "one", "", STORE_REPLACE, &why), 0);
	assert_content("spore/images/one/" STORE_FILE, "new");
	assert_int_not_equal(access(stage.path, F_OK), 0);
}

static void store_remove__in_use__refused(void **state)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};

	(void)state;
	make_image("one");
	int fd = open(below("spore/images/one/" STORE_FILE), O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	assert_int_equal(store_remove("one", &why), -EBUSY);
	assert_string_equal(why.text, "image 'one' is in use by a sandbox");
	close(fd);
	assert_int_equal(store_remove("one", &why), 0);
}

static void store_stage__stale_and_live__only_stale_swept(void **state)
{
	struct store_stage live, next;

	(void)state;
	assert_int_equal(store_stage_begin(&live, &why), 0);
	assert_int_equal(mkdir(below("spore/images/.stage-dead"), 0700), 0);
	put_file("spore/images/.stage-dead/file", "x");
	assert_int_equal(store_stage_begin(&next, &why), 0);
	assert_int_not_equal(access(below("spore/images/.stage-dead"), F_OK), 0);
	assert_int_equal(access(live.path, F_OK), 0);
	store_stage_abort(&live);
	store_stage_abort(&next);
	assert_int_not_equal(access(live.path, F_OK), 0);
}

static void store_name_check__bad_names__refused(void **state)
{
	static const char *const bad[] = {"",    ".", "..",  ".x",   "-x",
					  "a/b", "A", "a b", "\x1b", "a\n"};
	char longest[STORE_NAME_MAX + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(store_name_check(bad[i], NULL), -EINVAL);
	memset(longest, 'a', sizeof(longest));
	longest[STORE_NAME_MAX - 1] = '\0';
	assert_int_equal(store_name_check(longest, NULL), 0);
	longest[STORE_NAME_MAX - 1] = 'a';
	longest[STORE_NAME_MAX] = '\0';
	assert_int_equal(store_name_check(longest, NULL), -EINVAL);
}

/* --- archives ----------------------------------------------------------------------------------- */

struct member {
	const char *path;
	mode_t type;      /* 0: a hard link */
	const char *data; /* content, or where a link leads */
};

static void write_tar(const char *rest, const struct member *members, size_t count)
{
	struct archive *a = archive_write_new();

	archive_write_set_format_pax_restricted(a);
	archive_write_add_filter_gzip(a);
	assert_int_equal(archive_write_open_filename(a, below(rest)), ARCHIVE_OK);
	for (size_t i = 0; i < count; i++) {
		const struct member *m = &members[i];
		struct archive_entry *e = archive_entry_new();
		size_t len = m->type == AE_IFREG ? strlen(m->data) : 0;

		archive_entry_set_pathname(e, m->path);
		archive_entry_set_filetype(e, m->type ? m->type : AE_IFREG);
		archive_entry_set_perm(e, m->type == AE_IFDIR ? 0755 : 0640);
		archive_entry_set_uid(e, getuid());
		archive_entry_set_gid(e, getgid());
		archive_entry_set_size(e, (la_int64_t)len);
		archive_entry_set_mtime(e, 1000000000, 0);
		if (m->type == AE_IFLNK)
			archive_entry_set_symlink(e, m->data);
		if (!m->type)
			archive_entry_set_hardlink(e, m->data);
		assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
		if (len)
			assert_int_equal(archive_write_data(a, m->data, len), len);
		archive_entry_free(e);
	}
	assert_int_equal(archive_write_free(a), ARCHIVE_OK);
}

static struct unpack unpack;

static int unpack_tar(const struct member *members, size_t count, enum unpack_kind kind)
{
	write_tar("a.tar", members, count);
	if (mkdir(below("root"), 0755))
		assert_int_equal(errno, EEXIST);
	cleanup_close int fd = open(below("a.tar"), O_RDONLY | O_CLOEXEC);
	cleanup_close int root = open(below("root"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unpack = (struct unpack){.root = root, .bytes_left = 1000, .entries_left = 20};
	return unpack_archive(&unpack, fd, kind, &why);
}

#define UNPACK(kind, ...)                                \
	unpack_tar((const struct member[]){__VA_ARGS__}, \
		   sizeof((const struct member[]){__VA_ARGS__}) / sizeof(struct member), kind)

static void unpack__plain_tar__files_links_modes_times(void **state)
{
	struct stat st, linked;

	(void)state;
	assert_int_equal(UNPACK(UNPACK_TAR, {"./", AE_IFDIR, NULL}, {"a/", AE_IFDIR, NULL},
				{"a/file", AE_IFREG, "text"}, {"deep/er/file", AE_IFREG, "2"},
				{"link", AE_IFLNK, "a/file"}, {"a/hard", 0, "a/file"},
				{"null", AE_IFCHR, NULL}),
			 0);
	assert_content("root/a/file", "text");
	assert_content("root/deep/er/file", "2");
	assert_content("root/link", "text");
	assert_int_equal(stat(below("root/a/file"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(st.st_mtime, 1000000000);
	assert_int_equal(stat(below("root/a/hard"), &linked), 0);
	assert_int_equal(st.st_ino, linked.st_ino);
	assert_int_equal(unpack.left_out, 1);
	assert_int_not_equal(access(below("root/null"), F_OK), 0);
}

static void unpack__hostile_paths__nothing_outside(void **state)
{
	(void)state;
	put_file("victim", "safe");
	assert_int_equal(UNPACK(UNPACK_TAR, {"../victim", AE_IFREG, "x"}), -EBADMSG);
	assert_string_equal(why.text, "archive: '..' in a name");
	assert_int_equal(UNPACK(UNPACK_TAR, {"a/../../victim", AE_IFREG, "x"}), -EBADMSG);
	assert_int_equal(UNPACK(UNPACK_TAR, {"hard", 0, "../victim"}), -EBADMSG);
	/* A link that leads out is kept as it is, and followed inside the image only. */
	assert_int_equal(UNPACK(UNPACK_TAR, {"out", AE_IFLNK, "../.."},
				{"out/victim", AE_IFREG, "x"}, {"abs", AE_IFLNK, "/"},
				{"abs/inside", AE_IFREG, "y"}),
			 0);
	assert_content("victim", "safe");
	assert_content("root/victim", "x");
	assert_content("root/inside", "y");
	/* A file through a link at the last place replaces the link. */
	assert_int_equal(UNPACK(UNPACK_TAR, {"l", AE_IFLNK, "../victim"}, {"l", AE_IFREG, "z"}), 0);
	assert_content("victim", "safe");
	assert_content("root/l", "z");
}

static void unpack__bounds__end_it(void **state)
{
	char big[1100];

	(void)state;
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	assert_int_equal(UNPACK(UNPACK_TAR, {"big", AE_IFREG, big}), -EFBIG);
	struct member many[21];
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		many[i] = (struct member){"same", AE_IFREG, "x"};
	assert_int_equal(unpack_tar(many, ARRAY_LEN(many), UNPACK_TAR), -EFBIG);
	assert_string_equal(why.text, "archive: too many entries");
}

static void unpack__garbage__no_archive(void **state)
{
	(void)state;
	put_file("garbage", "this is no archive, whatever its length may be");
	cleanup_close int fd = open(below("garbage"), O_RDONLY | O_CLOEXEC);
	cleanup_close int root = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct unpack u = {.root = root, .bytes_left = 1000, .entries_left = 10};
	assert_int_equal(unpack_archive(&u, fd, UNPACK_TAR, &why), -EBADMSG);
}

static void unpack__whiteouts__speak_of_layers_below(void **state)
{
	(void)state;
	assert_int_equal(UNPACK(UNPACK_LAYER, {"keep", AE_IFREG, "1"}, {"gone", AE_IFREG, "1"},
				{"dir/old", AE_IFREG, "1"}, {"tree/a/b", AE_IFREG, "1"}),
			 0);
	/* The whiteouts stand behind what the same layer adds: that stays. */
	assert_int_equal(UNPACK(UNPACK_LAYER, {"dir/new", AE_IFREG, "2"},
				{"dir/.wh..wh..opq", AE_IFREG, ""}, {".wh.gone", AE_IFREG, ""},
				{".wh.tree", AE_IFREG, ""}, {"none/.wh.x", AE_IFREG, ""}),
			 0);
	assert_content("root/keep", "1");
	assert_content("root/dir/new", "2");
	assert_int_not_equal(access(below("root/gone"), F_OK), 0);
	assert_int_not_equal(access(below("root/dir/old"), F_OK), 0);
	assert_int_not_equal(access(below("root/tree"), F_OK), 0);
	assert_int_not_equal(access(below("root/.wh.gone"), F_OK), 0);
	assert_int_equal(UNPACK(UNPACK_LAYER, {".wh...", AE_IFREG, ""}), -EBADMSG);
	assert_content("root/keep", "1");
}

static void unpack__folder_becomes_file__and_back(void **state)
{
	(void)state;
	assert_int_equal(UNPACK(UNPACK_LAYER, {"x/y", AE_IFREG, "1"}), 0);
	assert_int_equal(UNPACK(UNPACK_LAYER, {"x", AE_IFREG, "file"}), 0);
	assert_content("root/x", "file");
	assert_int_equal(UNPACK(UNPACK_LAYER, {"x/", AE_IFDIR, NULL}, {"x/z", AE_IFREG, "2"}), 0);
	assert_content("root/x/z", "2");
}

/* --- OCI layouts -------------------------------------------------------------------------------- */

static long file_size(const char *rest)
{
	struct stat st;

	assert_int_equal(stat(below(rest), &st), 0);
	return (long)st.st_size;
}

/* Moves a file into blobs/ under its digest.  @descriptor: out: its JSON. */
static void put_blob(const char *rest, const char *type, char *descriptor, size_t cap)
{
	char hex[65] = "", path[128], block[65536];
	unsigned char sum[32];
	long size = file_size(rest);
	FILE *f = fopen(below(rest), "r");

	size_t n = fread(block, 1, sizeof(block), f);
	fclose(f);
	assert_int_equal(n, size);
	assert_int_equal(EVP_Digest(block, n, sum, NULL, EVP_sha256(), NULL), 1);
	for (int i = 0; i < 32; i++)
		sprintf(hex + 2 * i, "%02x", sum[i]);
	snprintf(path, sizeof(path), "oci/blobs/sha256/%s", hex);
	assert_int_equal(rename(below(rest), below(path)), 0);
	snprintf(descriptor, cap, "{\"mediaType\":\"%s\",\"digest\":\"sha256:%s\",\"size\":%ld}",
		 type, hex, size);
}

static void make_layout(void)
{
	static const struct member lower[] = {{"a", AE_IFREG, "lower"}, {"b", AE_IFREG, "lower"}};
	static const struct member upper[] = {{"a", AE_IFREG, "upper"}, {".wh.b", AE_IFREG, ""}};
	const char *tar = "application/vnd.oci.image.layer.v1.tar+gzip";
	char one[256], two[256], manifest[256], text[1024];

	mkdir(below("oci"), 0755);
	mkdir(below("oci/blobs"), 0755);
	mkdir(below("oci/blobs/sha256"), 0755);
	write_tar("l1", lower, 2);
	put_blob("l1", tar, one, sizeof(one));
	write_tar("l2", upper, 2);
	put_blob("l2", tar, two, sizeof(two));
	snprintf(text, sizeof(text), "{\"schemaVersion\":2,\"layers\":[%s,%s]}", one, two);
	put_file("m", text);
	put_blob("m", "application/vnd.oci.image.manifest.v1+json", manifest, sizeof(manifest));
	snprintf(text, sizeof(text),
		 "{\"manifests\":[{\"digest\":\"sha256:0\",\"size\":1,\"platform\":{\"os\":"
		 "\"linux\","
		 "\"architecture\":\"arm64\"}},%s]}",
		 manifest);
	put_file("oci/index.json", text);
}

static int unpack_layout(void)
{
	mkdir(below("root"), 0755);
	cleanup_close int root = open(below("root"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unpack = (struct unpack){.root = root, .bytes_left = 1000, .entries_left = 20};
	return oci_unpack(&unpack, below("oci"), &why);
}

static void oci__two_layers__applied_in_order(void **state)
{
	(void)state;
	make_layout();
	assert_int_equal(unpack_layout(), 0);
	assert_content("root/a", "upper");
	assert_int_not_equal(access(below("root/b"), F_OK), 0);
}

static void oci__changed_blob__refused_before_use(void **state)
{
	char command[256];

	(void)state;
	make_layout();
	snprintf(command, sizeof(command),
		 "for f in %s/oci/blobs/sha256/*; do printf '\\1' | "
		 "dd of=$f bs=1 seek=20 conv=notrunc status=none; done",
		 top);
	assert_int_equal(system(command), 0);
	assert_int_equal(unpack_layout(), -EBADMSG);
	assert_non_null(strstr(why.text, "not what its digest says"));
	assert_int_not_equal(access(below("root/a"), F_OK), 0);
}

static void oci__bad_indexes__refused(void **state)
{
	static const struct {
		const char *text, *says;
	} bad[] = {
		{"", "OCI layout: not JSON"},
		{"{", "OCI layout: not JSON"},
		{"{}", "OCI layout: no manifest for linux/amd64"},
		{"{\"manifests\":[]}", "OCI layout: no manifest for linux/amd64"},
		{"{\"manifests\":[{}]}",
		 "OCI layout: a descriptor without a sha256 digest and a size"},
		{"{\"manifests\":[{\"digest\":\"sha256:../../../../etc/passwd\",\"size\":1}]}",
		 "OCI layout: a descriptor without a sha256 digest and a size"},
		{"{\"layers\":[]}", "OCI layout: a manifest without layers, or with too many"},
		{"{\"layers\":[{}]}", "layer 1 of 1: OCI layout: a layer that is no tar"},
	};

	(void)state;
	mkdir(below("oci"), 0755);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		put_file("oci/index.json", bad[i].text);
		assert_int_equal(unpack_layout(), -EBADMSG);
		assert_string_equal(why.text, bad[i].says);
	}
}

static void tree_copy_sparse__holes_and_data__same_bytes(void **state)
{
	static char want[400000], got[sizeof(want)];
	struct stat st;

	(void)state;
	memset(want + 200000, 'x', 10);
	put_file("from", "");
	cleanup_close int from = open(below("from"), O_RDWR | O_CLOEXEC);
	assert_int_equal(pwrite(from, want, sizeof(want), 0), sizeof(want));
	cleanup_close int to = open(below("to"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(tree_copy_sparse(from, to, &why), 0);
	assert_int_equal(fstat(to, &st), 0);
	assert_int_equal(st.st_size, sizeof(want));
	assert_true(st.st_blocks * 512 < 200000);
	assert_int_equal(pread(to, got, sizeof(got), 0), sizeof(got));
	assert_memory_equal(got, want, sizeof(want));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(store__commit_list_remove__round_trip),
		TEST(store__name_taken__refused_or_replaced),
		TEST(store_remove__in_use__refused),
		TEST(store_stage__stale_and_live__only_stale_swept),
		TEST(store_name_check__bad_names__refused),
		TEST(unpack__plain_tar__files_links_modes_times),
		TEST(unpack__hostile_paths__nothing_outside),
		TEST(unpack__bounds__end_it),
		TEST(unpack__garbage__no_archive),
		TEST(unpack__whiteouts__speak_of_layers_below),
		TEST(unpack__folder_becomes_file__and_back),
		TEST(oci__two_layers__applied_in_order),
		TEST(oci__changed_blob__refused_before_use),
		TEST(oci__bad_indexes__refused),
		TEST(tree_copy_sparse__holes_and_data__same_bytes),
	};
	return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
