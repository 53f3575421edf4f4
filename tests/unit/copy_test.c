/* SPDX-License-Identifier: Apache-2.0 */
/* Copies through the real agent: guest/ and host/ are folders of this machine. */
#include "supervisor/lifecycle/copy_list.h"
#include "supervisor/lifecycle/copy_path.h"
#include "tests/unit/agent_harness.h"

static char root[128];
static struct agentc at;
static struct errmsg why;

static int fresh(void **state)
{
	(void)state;
	snprintf(root, sizeof(root), "%s/t.XXXXXX", harness.dir);
	assert_non_null(mkdtemp(root));
	at = agentc_direct(harness.sock);
	why.text[0] = '\0';
	return 0;
}

static const char *in(const char *name)
{
	static char path[8][512];
	static unsigned turn;
	char *out = path[turn++ % 8];

	snprintf(out, sizeof(path[0]), "%s/%s", root, name);
	return out;
}

static void put(const char *name, const char *text)
{
	FILE *f = fopen(in(name), "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void has(const char *name, const char *text)
{
	char buf[256] = "";
	FILE *f = fopen(in(name), "re");

	assert_non_null(f);
	size_t n = fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	buf[n] = '\0';
	assert_string_equal(buf, text);
}

static bool there(const char *name)
{
	struct stat st;

	return !lstat(in(name), &st);
}

static unsigned mode_of(const char *name)
{
	struct stat st;

	assert_int_equal(lstat(in(name), &st), 0);
	return st.st_mode & 07777;
}

static struct copy new_copy(void)
{
	return (struct copy){.at = &at, .user = "root", .bytes_max = 100000, .entries_max = 1000};
}

static void make_tree(const char *name)
{
	char path[64];

	mkdir(in(name), 0755);
	snprintf(path, sizeof(path), "%s/sub", name);
	mkdir(in(path), 0750);
	snprintf(path, sizeof(path), "%s/sub/file", name);
	put(path, "content");
	chmod(in(path), 06711);
	snprintf(path, sizeof(path), "%s/inside", name);
	assert_int_equal(symlink("sub/file", in(path)), 0);
	snprintf(path, sizeof(path), "%s/fifo", name);
	assert_int_equal(mkfifo(in(path), 0644), 0);
}

static void copy_in__tree__content_and_kinds(void **state)
{
	struct copy copy = new_copy();

	(void)state;
	make_tree("host");
	assert_int_equal(copy_in(&copy, in("host"), in("guest"), &why), 0);
	has("guest/sub/file", "content");
	has("guest/inside", "content");
	assert_int_equal(mode_of("guest/sub/file"), 0711);
	assert_false(there("guest/fifo"));
	assert_int_equal(copy.left_out, 1);
	assert_int_equal(copy.bytes, strlen("content"));
}

static void copy_in__target_is_folder__goes_under_its_name(void **state)
{
	struct copy copy = new_copy();

	(void)state;
	put("file", "x");
	mkdir(in("guest"), 0755);
	assert_int_equal(copy_in(&copy, in("file"), in("guest"), &why), 0);
	has("guest/file", "x");
	assert_int_equal(copy_in(&copy, in("file"), in("new/"), &why), 0);
	has("new/file", "x");
}

static void copy_out__tree__harmless_parts_only(void **state)
{
	struct copy copy = new_copy();

	(void)state;
	make_tree("guest");
	assert_int_equal(symlink("/etc/passwd", in("guest/away")), 0);
	assert_int_equal(symlink("../../x", in("guest/sub/up")), 0);
	assert_int_equal(copy_out(&copy, in("guest"), in("host"), &why), 0);
	has("host/sub/file", "content");
	has("host/inside", "content");
	assert_int_equal(mode_of("host/sub/file"), 0711);
	assert_false(there("host/fifo") || there("host/away") || there("host/sub/up"));
	assert_int_equal(copy.left_out, 3);
}

static void copy_out__link_waits_at_destination__not_followed(void **state)
{
	struct copy copy = new_copy();

	(void)state;
	make_tree("guest");
	mkdir(in("elsewhere"), 0755);
	put("victim", "safe");
	mkdir(in("host"), 0755);
	mkdir(in("host/guest"), 0755);
	assert_int_equal(symlink("../../elsewhere", in("host/guest/sub")), 0);
	assert_int_equal(copy_out(&copy, in("guest"), in("host"), &why), -ENOTDIR);
	assert_false(there("elsewhere/file"));
	assert_int_equal(unlink(in("host/guest/sub")), 0);
	mkdir(in("host/guest/sub"), 0755);
	assert_int_equal(symlink("../../../victim", in("host/guest/sub/file")), 0);
	assert_int_equal(copy_out(&copy, in("guest"), in("host"), &why), 0);
	has("victim", "safe"); /* the link was replaced */
	has("host/guest/sub/file", "content");
}

static void copy_out__bounds__end_it_and_leave_no_part(void **state)
{
	struct copy copy = new_copy();

	(void)state;
	put("file", "0123456789");
	copy.bytes_max = 9;
	assert_true(copy_out(&copy, in("file"), in("out"), &why) < 0);
	assert_false(there("out"));
	assert_non_null(strstr(why.text, "more than 9 bytes in all"));
	make_tree("guest");
	copy = new_copy();
	copy.entries_max = 2;
	assert_true(copy_out(&copy, in("guest"), in("host"), &why) < 0);
	assert_non_null(strstr(why.text, "more than 2 files in all"));
}

static void copy_out__hostile_name__escaped_in_message(void **state)
{
	struct copy copy = new_copy();

	(void)state;
	assert_true(copy_out(&copy, in("no\033[31mfile"), in("out"), &why) < 0);
	assert_null(strchr(why.text, '\033'));
	assert_non_null(strstr(why.text, "no\\x1b[31mfile"));
}

static int add(const char *path, uint8_t type, const char *target)
{
	static struct agentc_entry entry;
	struct copy_list list = {.count = 0};
	struct copy copy = new_copy();

	entry = (struct agentc_entry){.raw.type = type};
	snprintf(entry.path, sizeof(entry.path), "%s", path);
	snprintf(entry.target, sizeof(entry.target), "%s", target);
	int err = copy_list_add(&list, &copy, &entry);
	int count = (int)list.count;
	copy_list_free(&list);
	return err ? err : count;
}

static void copy_list_add__lies_of_a_guest__refused(void **state)
{
	static const char *const bad[] = {"",     "/",    "/etc/passwd", ".",  "..",       "../x",
					  "a/..", "a//b", "a/./b",       "a/", "a/../../b"};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(add(bad[i], AGENT_TYPE_FILE, ""), -EBADMSG);
	assert_int_equal(add("a/b", AGENT_TYPE_FILE, ""), 1);
	assert_int_equal(add("..a", AGENT_TYPE_DIR, ""), 1);
	assert_int_equal(add("dev", AGENT_TYPE_OTHER, ""), 0);
	assert_int_equal(add("l", AGENT_TYPE_SYMLINK, "x"), 1);
	assert_int_equal(add("l", AGENT_TYPE_SYMLINK, "../x"), 0);
}

static void copy_link_is_safe__targets__as_text(void **state)
{
	(void)state;
	assert_true(copy_link_is_safe("a/l", "../b"));
	assert_true(copy_link_is_safe("l", "a/../b"));
	assert_true(copy_link_is_safe("a/b/l", ".././/../c"));
	assert_false(copy_link_is_safe("l", ".."));
	assert_false(copy_link_is_safe("a/l", "../../b"));
	assert_false(copy_link_is_safe("l", "a/../../b"));
	assert_false(copy_link_is_safe("l", "/etc"));
	assert_false(copy_link_is_safe("l", ""));
}

static void copy_base_name__paths__last_name(void **state)
{
	char name[COPY_NAME_MAX];

	(void)state;
	assert_int_equal(copy_base_name("/a/b//", name, &why), 0);
	assert_string_equal(name, "b");
	assert_int_equal(copy_base_name("x", name, &why), 0);
	assert_string_equal(name, "x");
	assert_int_equal(copy_base_name("/", name, &why), -EINVAL);
	assert_int_equal(copy_base_name("a/..", name, &why), -EINVAL);
	assert_int_equal(copy_base_name(".", name, &why), -EINVAL);
}

#define TEST(f) cmocka_unit_test_setup(f, fresh)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(copy_in__tree__content_and_kinds),
		TEST(copy_in__target_is_folder__goes_under_its_name),
		TEST(copy_out__tree__harmless_parts_only),
		TEST(copy_out__link_waits_at_destination__not_followed),
		TEST(copy_out__bounds__end_it_and_leave_no_part),
		TEST(copy_out__hostile_name__escaped_in_message),
		TEST(copy_list_add__lies_of_a_guest__refused),
		TEST(copy_link_is_safe__targets__as_text),
		TEST(copy_base_name__paths__last_name),
	};
	return cmocka_run_group_tests_name("copy", tests, harness_up, harness_down);
}
