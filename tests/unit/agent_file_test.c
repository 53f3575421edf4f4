/* SPDX-License-Identifier: Apache-2.0 */
/* agent_file_test.c - file operations of the real agent, checked on the same file system */
#include <sys/time.h>
#include <sys/xattr.h>

#include "tests/unit/agent_harness.h"

static char root[128]; /* a fresh folder of each test */

static int fresh(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "%s/t.XXXXXX", harness.dir);
	assert_non_null(mkdtemp(root));
	assert_int_equal(chmod(root, 0755), 0);
	return 0;
}

static const char *in_root(const char *name)
{
	static char path[8][512];
	static unsigned turn;
	char *out = path[turn++ % 8];

	snprintf(out, 512, "%s/%s", root, name);
	return out;
}

static struct agentc_file at_path(const char *name)
{
	return agentc_file("root", in_root(name));
}

static void put(const char *name, const char *text)
{
	FILE *f = fopen(in_root(name), "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void has(const char *name, const char *text)
{
	char buf[256] = "";
	FILE *f = fopen(in_root(name), "re");
	assert_non_null(f);
	size_t n = fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	assert_int_equal(n, strlen(text));
	assert_string_equal(buf, text);
}

/* How many names a folder holds, hidden ones too. */
static unsigned names_in(const char *name)
{
	char command[600], text[32] = "";
	snprintf(command, sizeof(command), "ls -A %s | wc -l", in_root(name));
	FILE *f = popen(command, "r");
	assert_non_null(fgets(text, sizeof(text), f));
	pclose(f);
	return (unsigned)atoi(text);
}

struct bytes {
	char buf[1 << 20];
	size_t len;
};

static int collect(void *arg, const void *buf, size_t len)
{
	struct bytes *bytes = arg;
	if (len > sizeof(bytes->buf) - bytes->len)
		return -ENOSPC;
	memcpy(bytes->buf + bytes->len, buf, len);
	bytes->len += len;
	return 0;
}

static void file__write_read__round_trip(void **state)
{
	static char data[300000];
	static struct bytes got;
	struct agentc at = agent_at();
	struct agentc_file f = at_path("a/b/c.bin");
	struct agentc_entry entry;
	struct stat st;

	(void)state;
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (char)(i * 31 + i / 1000);
	assert_int_equal(agentc_write_buf(&at, &f, data, sizeof(data), NULL), -ENOENT);
	assert_int_equal(at.stage, AGENT_STAGE_FILE);
	f.flags = AGENT_FILE_PARENTS | AGENT_FILE_FSYNC;
	f.mode = 0640;
	f.mtime_ns = 1500000000123456789;
	assert_int_equal(agentc_write_buf(&at, &f, data, sizeof(data), NULL), sizeof(data));
	assert_int_equal(stat(f.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(st.st_mtim.tv_sec, 1500000000);
	assert_int_equal(st.st_mtim.tv_nsec, 123456789);
	got.len = 0;
	assert_int_equal(agentc_read(&at, &f, &entry, collect, &got, NULL), sizeof(data));
	assert_memory_equal(got.buf, data, sizeof(data));
	assert_int_equal(entry.raw.size, sizeof(data));
	assert_int_equal(entry.raw.type, AGENT_TYPE_FILE);
	assert_string_equal(entry.path, f.path);
	assert_string_equal(entry.owner, "root");
}

static void file__read_a_part__offset_and_len(void **state)
{
	static struct bytes got;
	struct agentc at = agent_at();
	struct agentc_file f = at_path("x");

	(void)state;
	put("x", "0123456789");
	f.offset = 3;
	f.len = 4;
	got.len = 0;
	assert_int_equal(agentc_read(&at, &f, NULL, collect, &got, NULL), 4);
	assert_memory_equal(got.buf, "3456", 4);
	f.offset = 100;
	assert_int_equal(agentc_read(&at, &f, NULL, collect, &got, NULL), 0);
}

static void file__read_what_is_no_file__refused(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = at_path(".");
	struct errmsg why;

	(void)state;
	assert_int_equal(agentc_read(&at, &f, NULL, NULL, NULL, &why), -EISDIR);
	f = at_path("fifo");
	assert_int_equal(mkfifo(f.path, 0600), 0);
	assert_int_equal(agentc_read(&at, &f, NULL, NULL, NULL, &why), -EINVAL);
	f = at_path("missing");
	assert_int_equal(agentc_read(&at, &f, NULL, NULL, NULL, &why), -ENOENT);
	assert_non_null(strstr(why.text, "missing': No such file or directory"));
}

static void file__proc_file_without_size__read_whole(void **state)
{
	static struct bytes got;
	struct agentc at = agent_at();
	struct agentc_file f = agentc_file("root", "/proc/version");

	(void)state;
	got.len = 0;
	assert_true(agentc_read(&at, &f, NULL, collect, &got, NULL) > 10);
	assert_memory_equal(got.buf, "Linux version", 13);
}

static void file__overwrite__keeps_mode_and_owner_and_follows_links(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = at_path("link");
	struct stat st;

	(void)state;
	put("real", "old");
	chmod(in_root("real"), 0751);
	if (geteuid() == 0)
		assert_int_equal(chown(in_root("real"), 1234, 2345), 0);
	assert_int_equal(symlink("real", in_root("link")), 0);
	assert_int_equal(agentc_write_buf(&at, &f, "new!", 4, NULL), 4);
	has("real", "new!");
	assert_int_equal(lstat(in_root("link"), &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(stat(in_root("real"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0751);
	if (geteuid() == 0) {
		assert_int_equal(st.st_uid, 1234);
		assert_int_equal(st.st_gid, 2345);
	}
	assert_int_equal(names_in("."), 2);
}

static void file__write_flags__excl_append_in_place(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = at_path("f");
	struct stat before, after;

	(void)state;
	f.flags = AGENT_FILE_EXCL;
	assert_int_equal(agentc_write_buf(&at, &f, "one", 3, NULL), 3);
	assert_int_equal(agentc_write_buf(&at, &f, "two", 3, NULL), -EEXIST);
	has("f", "one");
	assert_int_equal(stat(f.path, &before), 0);
	f.flags = AGENT_FILE_APPEND;
	assert_int_equal(agentc_write_buf(&at, &f, "+2", 2, NULL), 2);
	has("f", "one+2");
	f.flags = AGENT_FILE_IN_PLACE;
	assert_int_equal(agentc_write_buf(&at, &f, "3", 1, NULL), 1);
	has("f", "3");
	assert_int_equal(stat(f.path, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	f.flags = 0;
	assert_int_equal(agentc_write_buf(&at, &f, "", 0, NULL), 0); /* empty file */
	has("f", "");
	assert_int_equal(names_in("."), 1);
}

static ssize_t gives_up(void *arg, void *buf, size_t cap)
{
	int *calls = arg;
	if ((*calls)++ == 3)
		return -EIO;
	memset(buf, 'z', cap);
	return (ssize_t)cap;
}

static void file__upload_given_up__old_file_stays(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = at_path("f");
	int calls = 0;

	(void)state;
	put("f", "old");
	assert_int_equal(agentc_write(&at, &f, NULL, gives_up, &calls, NULL), -EIO);
	has("f", "old");
	/* The worker ends by itself; nothing else may be there at any time. */
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(names_in("."), 1);
		usleep(1000);
	}
}

static ssize_t endless(void *arg, void *buf, size_t cap)
{
	(void)arg;
	memset(buf, 'z', cap);
	return (ssize_t)cap;
}

static void file__client_killed_in_upload__no_partial_no_temp(void **state)
{
	struct agentc_file f = at_path("big");

	(void)state;
	for (unsigned round = 0; round < 5; round++) {
		pid_t pid = fork();
		if (pid == 0) {
			struct agentc at = agent_at();
			agentc_write(&at, &f, NULL, endless, NULL, NULL);
			_exit(1);
		}
		usleep(20000 + round * 7000);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_int_equal(waitpid(pid, NULL, 0), pid);
		assert_int_equal(names_in("."), 0);
	}
}

static void file__as_user__kernel_checks_permissions(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = agentc_file("nobody", in_root("secret"));
	struct stat st;

	(void)state;
	if (geteuid() != 0)
		skip();
	put("secret", "root's");
	chmod(in_root("secret"), 0600);
	assert_int_equal(agentc_read(&at, &f, NULL, NULL, NULL, NULL), -EACCES);
	assert_int_equal(agentc_write_buf(&at, &f, "x", 1, NULL), -EACCES);
	/* Also when the folder would let the file be replaced. */
	assert_int_equal(mkdir(in_root("open"), 0777), 0);
	chmod(in_root("open"), 0777);
	put("open/secret", "root's");
	chmod(in_root("open/secret"), 0644);
	f.path = in_root("open/secret");
	assert_int_equal(agentc_write_buf(&at, &f, "x", 1, NULL), -EACCES);
	has("open/secret", "root's");
	f.path = in_root("open/mine");
	assert_int_equal(agentc_write_buf(&at, &f, "x", 1, NULL), 1);
	assert_int_equal(stat(f.path, &st), 0);
	assert_int_equal(st.st_uid, 65534);
	assert_int_equal(st.st_mode & 07777, 0644);
	f.user = "no-such-user";
	assert_int_equal(agentc_stat(&at, &f, &(struct agentc_entry){0}, NULL), -ENOENT);
	assert_int_equal(at.stage, AGENT_STAGE_USER);
}

static void file__stat__link_and_its_target(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = at_path("l");
	struct agentc_entry e;

	(void)state;
	assert_int_equal(mkdir(in_root("d"), 0700), 0);
	f.arg = "d";
	assert_int_equal(agentc_symlink(&at, &f, NULL), 0);
	assert_int_equal(agentc_stat(&at, &f, &e, NULL), 0);
	assert_int_equal(e.raw.type, AGENT_TYPE_SYMLINK);
	assert_int_equal(e.raw.target_type, AGENT_TYPE_DIR);
	assert_int_equal(e.raw.target_mode & 07777, 0700);
	assert_string_equal(e.target, "d");
	char buf[64];
	assert_int_equal(agentc_readlink(&at, &f, buf, sizeof(buf), NULL), 1);
	assert_int_equal(buf[0], 'd');
	f = at_path("dangling");
	f.arg = "nowhere";
	assert_int_equal(agentc_symlink(&at, &f, NULL), 0);
	assert_int_equal(agentc_stat(&at, &f, &e, NULL), 0);
	assert_int_equal(e.raw.target_type, AGENT_TYPE_NONE);
}

static int join_names(void *arg, const struct agentc_entry *entry)
{
	strcat(arg, entry->path);
	strcat(arg, entry->raw.type == AGENT_TYPE_DIR ? "/ " : " ");
	return 0;
}

static void file__list__sorted_to_depth_not_through_links(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = at_path(".");
	char text[1024] = "";

	(void)state;
	mkdir(in_root("b"), 0755);
	mkdir(in_root("b/deep"), 0755);
	put("b/deep/file", "");
	put("a", "");
	put("c", "");
	assert_int_equal(symlink("b", in_root("link")), 0);
	assert_int_equal(agentc_list(&at, &f, join_names, text, NULL), 4);
	assert_string_equal(text, "a b/ c link ");
	f.depth = 3;
	text[0] = '\0';
	assert_int_equal(agentc_list(&at, &f, join_names, text, NULL), 6);
	assert_string_equal(text, "a b/ b/deep/ b/deep/file c link ");
	f = at_path("link"); /* the root itself may be a link */
	text[0] = '\0';
	assert_int_equal(agentc_list(&at, &f, join_names, text, NULL), 1);
	assert_string_equal(text, "deep/ ");
	f = at_path("a");
	assert_int_equal(agentc_list(&at, &f, join_names, text, NULL), -ENOTDIR);
	f.depth = 0;
	assert_int_equal(agentc_list(&at, &f, join_names, text, NULL), -EINVAL);
}

static void file__mkdir__plain_and_parents(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = at_path("x/y/z/");
	struct stat st;

	(void)state;
	assert_int_equal(agentc_mkdir(&at, &f, NULL), -ENOENT);
	f.flags = AGENT_FILE_PARENTS;
	assert_int_equal(agentc_mkdir(&at, &f, NULL), 3);
	assert_int_equal(agentc_mkdir(&at, &f, NULL), 0);
	f.flags = 0;
	assert_int_equal(agentc_mkdir(&at, &f, NULL), -EEXIST);
	f = at_path("m");
	f.mode = 0777;
	assert_int_equal(agentc_mkdir(&at, &f, NULL), 1);
	assert_int_equal(stat(f.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0777);
	put("file", "");
	f = at_path("file");
	f.flags = AGENT_FILE_PARENTS;
	assert_int_equal(agentc_mkdir(&at, &f, NULL), -ENOTDIR);
}

static void file__move__parents_and_excl(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = at_path("from");
	struct agentc_entry e;

	(void)state;
	put("from", "text");
	f.arg = in_root("new/dir/to");
	assert_int_equal(agentc_move(&at, &f, &e, NULL), -ENOENT);
	f.flags = AGENT_FILE_PARENTS;
	assert_int_equal(agentc_move(&at, &f, &e, NULL), 0);
	assert_string_equal(e.path, f.arg);
	has("new/dir/to", "text");
	assert_int_equal(agentc_move(&at, &f, &e, NULL), -ENOENT);
	put("from", "other");
	f.flags = AGENT_FILE_EXCL;
	assert_int_equal(agentc_move(&at, &f, &e, NULL), -EEXIST);
}

static void file__remove__tree_without_following_links(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = at_path("tree");

	(void)state;
	put("outside", "stays");
	mkdir(in_root("tree"), 0755);
	mkdir(in_root("tree/sub"), 0755);
	put("tree/sub/file", "");
	assert_int_equal(symlink("..", in_root("tree/up")), 0);
	assert_int_equal(agentc_remove(&at, &f, NULL), -ENOTEMPTY);
	f.flags = AGENT_FILE_RECURSIVE;
	assert_int_equal(agentc_remove(&at, &f, NULL), 4);
	has("outside", "stays");
	assert_int_equal(agentc_remove(&at, &f, NULL), -ENOENT);
	f.flags |= AGENT_FILE_MISSING_OK;
	assert_int_equal(agentc_remove(&at, &f, NULL), 0);
	f = agentc_file("root", "/");
	f.flags = AGENT_FILE_RECURSIVE;
	assert_int_equal(agentc_remove(&at, &f, NULL), -EISDIR);
}

static void file__chmod_chown__change(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = at_path("f");
	struct stat st;

	(void)state;
	put("f", "");
	f.mode = 04711;
	assert_int_equal(agentc_chmod(&at, &f, NULL), 0);
	assert_int_equal(stat(f.path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 04711);
	if (geteuid() != 0)
		skip();
	f.arg = "nobody:daemon";
	assert_int_equal(agentc_chown(&at, &f, NULL), 0);
	assert_int_equal(stat(f.path, &st), 0);
	assert_int_equal(st.st_uid, 65534);
	assert_int_equal(st.st_gid, 1);
	f.arg = ":77";
	assert_int_equal(agentc_chown(&at, &f, NULL), 0);
	assert_int_equal(stat(f.path, &st), 0);
	assert_int_equal(st.st_uid, 65534);
	assert_int_equal(st.st_gid, 77);
	f.arg = "nosuch";
	assert_int_equal(agentc_chown(&at, &f, NULL), -ENOENT);
}

static void file__xattr__set_get_list_remove(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = at_path("f");
	char buf[256];

	(void)state;
	put("f", "");
	if (setxattr(f.path, "user.probe", "1", 1, 0) < 0)
		skip(); /* this file system has none */
	removexattr(f.path, "user.probe");
	f.arg = "user.e2b.key";
	assert_int_equal(agentc_xattr_set(&at, &f, "value\0x", 7, NULL), 0);
	assert_int_equal(agentc_xattr_get(&at, &f, buf, sizeof(buf), NULL), 7);
	assert_memory_equal(buf, "value\0x", 7);
	assert_int_equal(agentc_xattr_get(&at, &f, buf, 3, NULL), -ERANGE);
	assert_int_equal(agentc_xattr_list(&at, &f, buf, sizeof(buf), NULL), 13);
	assert_memory_equal(buf, "user.e2b.key", 13);
	assert_int_equal(agentc_xattr_remove(&at, &f, NULL), 0);
	assert_int_equal(agentc_xattr_get(&at, &f, buf, sizeof(buf), NULL), -ENODATA);
}

/* --- watch ------------------------------------------------------------------------------------ */

/* Waits for an event of this kind and name; others are passed over. */
static void expect(struct agentc_watch *w, uint32_t kind, const char *name)
{
	struct agent_event ev;
	const char *got;

	do
		assert_int_equal(agentc_watch_next(w, &ev, &got, -1, NULL), 1);
	while (ev.kind != kind || strcmp(got, name) != 0);
}

static void file__watch_recursive__sees_folders_made_later(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = at_path(".");
	struct agentc_watch *w;

	(void)state;
	mkdir(in_root("old"), 0755);
	f.flags = AGENT_FILE_RECURSIVE;
	assert_int_equal(agentc_watch_start(&w, &at, &f, NULL), 0);
	put("old/file", "x");
	expect(w, AGENT_EV_CREATE, "old/file");
	expect(w, AGENT_EV_WRITE, "old/file");
	chmod(in_root("old/file"), 0600);
	expect(w, AGENT_EV_CHMOD, "old/file");
	rename(in_root("old/file"), in_root("old/renamed"));
	expect(w, AGENT_EV_RENAME, "old/file");
	expect(w, AGENT_EV_CREATE, "old/renamed");
	unlink(in_root("old/renamed"));
	expect(w, AGENT_EV_REMOVE, "old/renamed");
	mkdir(in_root("new"), 0755);
	mkdir(in_root("new/sub"), 0755); /* perhaps before the watch of new is there */
	expect(w, AGENT_EV_CREATE, "new");
	expect(w, AGENT_EV_CREATE, "new/sub");
	put("new/sub/f", "x");
	expect(w, AGENT_EV_WRITE, "new/sub/f");
	rename(in_root("new"), in_root("moved"));
	expect(w, AGENT_EV_CREATE, "moved");
	put("moved/sub/g", "x");
	expect(w, AGENT_EV_WRITE, "moved/sub/g");
	agentc_watch_close(w);
}

static void file__watch_plain__only_the_folder_itself__gone_at_the_end(void **state)
{
	struct agentc at = agent_at();
	struct agentc_file f = at_path("w");
	struct agentc_watch *w;
	struct agent_event ev;
	const char *name;

	(void)state;
	mkdir(in_root("w"), 0755);
	mkdir(in_root("w/sub"), 0755);
	assert_int_equal(agentc_watch_start(&w, &at, &f, NULL), 0);
	put("w/sub/unseen", "x");
	put("w/seen", "x");
	assert_int_equal(agentc_watch_next(w, &ev, &name, -1, NULL), 1);
	assert_int_equal(ev.kind, AGENT_EV_CREATE);
	assert_string_equal(name, "seen");
	char command[300];
	snprintf(command, sizeof(command), "rm -r %s", in_root("w"));
	assert_int_equal(system(command), 0);
	expect(w, AGENT_EV_GONE, "");
	agentc_watch_close(w);
	put("plain", "");
	f = at_path("plain");
	assert_int_equal(agentc_watch_start(&w, &at, &f, NULL), -ENOTDIR);
	f = at_path("absent");
	assert_int_equal(agentc_watch_start(&w, &at, &f, NULL), -ENOENT);
}

#define TEST(f) cmocka_unit_test_setup(f, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(file__write_read__round_trip),
		TEST(file__read_a_part__offset_and_len),
		TEST(file__read_what_is_no_file__refused),
		TEST(file__proc_file_without_size__read_whole),
		TEST(file__overwrite__keeps_mode_and_owner_and_follows_links),
		TEST(file__write_flags__excl_append_in_place),
		TEST(file__upload_given_up__old_file_stays),
		TEST(file__client_killed_in_upload__no_partial_no_temp),
		TEST(file__as_user__kernel_checks_permissions),
		TEST(file__stat__link_and_its_target),
		TEST(file__list__sorted_to_depth_not_through_links),
		TEST(file__mkdir__plain_and_parents),
		TEST(file__move__parents_and_excl),
		TEST(file__remove__tree_without_following_links),
		TEST(file__chmod_chown__change),
		TEST(file__xattr__set_get_list_remove),
		TEST(file__watch_recursive__sees_folders_made_later),
		TEST(file__watch_plain__only_the_folder_itself__gone_at_the_end),
	};

	return cmocka_run_group_tests(tests, harness_up, harness_down);
}
