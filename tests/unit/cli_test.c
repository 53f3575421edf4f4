/* SPDX-License-Identifier: Apache-2.0 */
/* Options and values of the command line. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "supervisor/cli/env.h"
#include "supervisor/cli/opt.h"

struct conf {
	bool flag;
	const char *text;
	uint32_t cpus;
	uint64_t memory, timeout;
	struct opt_list list;
};

static const struct opt table[] = {
	{.name = "flag", .letter = 'f', .set = opt_set_flag, .offset = offsetof(struct conf, flag)},
	{.name = "text",
	 .letter = 't',
	 .value = "TEXT",
	 .set = opt_set_text,
	 .offset = offsetof(struct conf, text)},
	{.name = "cpus", .value = "N", .set = opt_set_cpus, .offset = offsetof(struct conf, cpus)},
	{.name = "memory",
	 .value = "SIZE",
	 .set = opt_set_memory,
	 .offset = offsetof(struct conf, memory)},
	{.name = "timeout",
	 .value = "T",
	 .set = opt_set_duration,
	 .offset = offsetof(struct conf, timeout)},
	{.name = "env", .value = "K=V", .set = opt_set_list, .offset = offsetof(struct conf, list)},
	{.name = NULL},
};

static struct conf conf;
static struct opt_args args;
static struct errmsg why;

#define PARSE(order, ...) parse(order, (char *[]){__VA_ARGS__, NULL})

static int parse(enum opt_order order, char **argv)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	memset(&conf, 0, sizeof(conf));
	why.text[0] = '\0';
	return opt_parse(table, &conf, argc, argv, order, &args, &why);
}

static void opt_parse__all_forms__fields_set(void **state)
{
	(void)state;
	assert_int_equal(PARSE(OPT_STOP, "-f", "--text=a=b", "--cpus", "2", "--env", "A=1", "--env",
			       "B", "cmd", "--flag"),
			 0);
	assert_true(conf.flag);
	assert_string_equal(conf.text, "a=b");
	assert_int_equal(conf.cpus, 2);
	assert_int_equal(conf.list.count, 2);
	assert_string_equal(conf.list.item[1], "B");
	assert_int_equal(args.count, 2);
	assert_string_equal(args.operand[1], "--flag"); /* the command's own */
}

static void opt_parse__short_value__joined_or_next(void **state)
{
	(void)state;
	assert_int_equal(PARSE(OPT_STOP, "-tx", "c"), 0);
	assert_string_equal(conf.text, "x");
	assert_int_equal(PARSE(OPT_STOP, "-t", "y"), 0);
	assert_string_equal(conf.text, "y");
	assert_int_equal(args.count, 0);
}

static void opt_parse__mixed__operands_gathered(void **state)
{
	(void)state;
	assert_int_equal(PARSE(OPT_MIX, "one", "-f", "-", "--", "--text"), 0);
	assert_true(conf.flag);
	assert_int_equal(args.count, 3);
	assert_string_equal(args.operand[0], "one");
	assert_string_equal(args.operand[1], "-");
	assert_string_equal(args.operand[2], "--text");
	assert_null(args.operand[3]);
}

static void opt_parse__double_dash__rest_untouched(void **state)
{
	(void)state;
	assert_int_equal(PARSE(OPT_STOP, "--", "-f", "--", "x"), 0);
	assert_false(conf.flag);
	assert_int_equal(args.count, 3);
	assert_string_equal(args.operand[1], "--");
}

static void opt_parse__help__stops_there(void **state)
{
	(void)state;
	assert_int_equal(PARSE(OPT_STOP, "--help", "--nonsense"), 0);
	assert_true(args.help);
}

static void assert_says(int err, const char *text)
{
	assert_int_equal(err, -EINVAL);
	assert_string_equal(why.text, text);
}

static void opt_parse__mistakes__exact_messages(void **state)
{
	(void)state;
	assert_says(PARSE(OPT_STOP, "--memry", "1G"),
		    "unknown option '--memry': did you mean '--memory'?");
	assert_says(PARSE(OPT_STOP, "--xyzzy"), "unknown option '--xyzzy'");
	assert_says(PARSE(OPT_STOP, "-z"), "unknown option '-z'");
	assert_says(PARSE(OPT_STOP, "-fx"), "unknown option '-fx'");
	assert_says(PARSE(OPT_STOP, "--flag=1"), "option '--flag' takes no value");
	assert_says(PARSE(OPT_STOP, "--cpus"), "option '--cpus' needs a value: N");
	assert_says(PARSE(OPT_STOP, "-t"), "option '-t' needs a value: TEXT");
	assert_says(PARSE(OPT_STOP, "--text="), "--text: the value is empty");
	assert_says(PARSE(OPT_STOP, "--cpus", "0"), "--cpus 0: must be 1 to 32");
	assert_says(PARSE(OPT_STOP, "--cpus", "33"), "--cpus 33: must be 1 to 32");
	assert_says(PARSE(OPT_STOP, "--cpus", "-1"), "--cpus -1: not a number");
	assert_says(PARSE(OPT_STOP, "--cpus", "1.5"), "--cpus 1.5: not a number");
	assert_says(PARSE(OPT_STOP, "--memory", "0"), "--memory 0: must be 32M to 512G");
	assert_says(PARSE(OPT_STOP, "--memory", "1B"), "--memory 1B: must be 32M to 512G");
	assert_says(PARSE(OPT_STOP, "--memory", "1T"), "--memory 1T: must be 32M to 512G");
	assert_says(PARSE(OPT_STOP, "--memory", "lots"),
		    "--memory lots: not a size (such as 512M or 1G)");
	assert_says(PARSE(OPT_STOP, "--timeout", "0"),
		    "--timeout 0: not a time (such as 30s, 500ms or 5m)");
	assert_says(PARSE(OPT_STOP, "--timeout", "8000000"), "--timeout 8000000: more than a week");
}

static void opt_set_memory__odd_bytes__rounded_up(void **state)
{
	(void)state;
	assert_int_equal(PARSE(OPT_STOP, "--memory", "1.5G"), 0);
	assert_int_equal(conf.memory, 1536);
	assert_int_equal(PARSE(OPT_STOP, "--memory", "33554433"), 0);
	assert_int_equal(conf.memory, 33);
}

static void opt_size__units__bytes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {{"0", 0},
		    {"1", 1},
		    {"7B", 7},
		    {"4k", 4096},
		    {"4KiB", 4096},
		    {"1M", 1048576},
		    {"2g", 2147483648},
		    {"0.5K", 512},
		    {"1.25MB", 1310720},
		    {"1T", 1099511627776}};
	static const char *const bad[] = {"",
					  "M",
					  "-1",
					  "+1",
					  " 1",
					  "1 M",
					  "1MM",
					  "0x1",
					  "1.",
					  ".5",
					  "1..5",
					  "1e3",
					  "1.2345K",
					  "0.1",
					  "18446744073709551616",
					  "99999999999999T"};
	uint64_t bytes;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(opt_size(good[i].text, &bytes), 0);
		assert_int_equal(bytes, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(opt_size(bad[i], &bytes), -EINVAL);
}

static void opt_duration__units__milliseconds(void **state)
{
	uint64_t ms;

	(void)state;
	assert_int_equal(opt_duration("90", &ms), 0);
	assert_int_equal(ms, 90000);
	assert_int_equal(opt_duration("1.5s", &ms), 0);
	assert_int_equal(ms, 1500);
	assert_int_equal(opt_duration("250ms", &ms), 0);
	assert_int_equal(ms, 250);
	assert_int_equal(opt_duration("2h", &ms), 0);
	assert_int_equal(ms, 7200000);
	assert_int_equal(opt_duration("1d", &ms), -EINVAL);
	assert_int_equal(opt_duration("0.5ms", &ms), -EINVAL);
}

static void opt_pair__escapes_and_bounds__split_once(void **state)
{
	struct opt_pair pair;

	(void)state;
	assert_int_equal(opt_pair("a:/b:c", &pair), 0);
	assert_string_equal(pair.src, "a");
	assert_string_equal(pair.dst, "/b:c");
	free(pair.src);
	assert_int_equal(opt_pair("x\\:y:z\\w", &pair), 0);
	assert_string_equal(pair.src, "x:y");
	assert_string_equal(pair.dst, "z\\w");
	free(pair.src);
	assert_int_equal(opt_pair("nothing", &pair), -EINVAL);
	assert_int_equal(opt_pair(":b", &pair), -EINVAL);
	assert_int_equal(opt_pair("a:", &pair), -EINVAL);
	assert_int_equal(opt_pair("", &pair), -EINVAL);
}

static void opt_nearest__far_words__null(void **state)
{
	static const char *const words[] = {"doctor", "image", "run", NULL};

	(void)state;
	assert_string_equal(opt_nearest("dcotor", words), "doctor");
	assert_string_equal(opt_nearest("imgae", words), "image");
	assert_string_equal(opt_nearest("rn", words), "run");
	assert_null(opt_nearest("snapshot", words));
	assert_null(opt_nearest("xy", words));
}

static void put_file(const char *path, const char *text, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void env_build__files_and_options__last_wins(void **state)
{
	static const char text[] = "# comment\n\nA=file\nB=b=c\r\nCLI_TEST_SET\n";
	char path[] = "/tmp/cli-test-XXXXXX";
	struct env env = {.count = 0};
	static struct opt_list files, given;

	(void)state;
	close(mkstemp(path));
	put_file(path, text, strlen(text));
	setenv("CLI_TEST_SET", "from outside", 1);
	files = (struct opt_list){.item = {path}, .count = 1};
	given = (struct opt_list){.item = {"A=option", "E="}, .count = 2};
	assert_int_equal(env_build(&env, &files, &given, &why), 0);
	assert_int_equal(env.count, 4);
	assert_string_equal(env.item[0], "A=option");
	assert_string_equal(env.item[1], "B=b=c");
	assert_string_equal(env.item[2], "CLI_TEST_SET=from outside");
	assert_string_equal(env.item[3], "E=");
	assert_null(env.item[4]);
	env_free(&env);
	unlink(path);
}

static int build_env(const char *option, const char *file)
{
	static struct opt_list files, given;
	struct env env = {.count = 0};

	files = (struct opt_list){.item = {file}, .count = file ? 1 : 0};
	given = (struct opt_list){.item = {option}, .count = option ? 1 : 0};
	int err = env_build(&env, &files, &given, &why);
	env_free(&env);
	return err;
}

static void env_build__mistakes__no_value_in_message(void **state)
{
	char path[] = "/tmp/cli-test-XXXXXX";

	(void)state;
	close(mkstemp(path));
	assert_says(build_env("=secret", NULL), "--env: a variable without a name");
	assert_says(build_env("CLI_TEST_UNSET", NULL),
		    "--env: CLI_TEST_UNSET is not set in the environment");
	put_file(path, "A=1\0B=2\n", 9);
	build_env(NULL, path);
	assert_non_null(strstr(why.text, "it holds a NUL byte"));
	assert_int_equal(build_env(NULL, "/nonexistent"), -ENOENT);
	assert_string_equal(why.text, "--env-file /nonexistent: No such file or directory");
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(opt_parse__all_forms__fields_set),
		cmocka_unit_test(opt_parse__short_value__joined_or_next),
		cmocka_unit_test(opt_parse__mixed__operands_gathered),
		cmocka_unit_test(opt_parse__double_dash__rest_untouched),
		cmocka_unit_test(opt_parse__help__stops_there),
		cmocka_unit_test(opt_parse__mistakes__exact_messages),
		cmocka_unit_test(opt_set_memory__odd_bytes__rounded_up),
		cmocka_unit_test(opt_size__units__bytes),
		cmocka_unit_test(opt_duration__units__milliseconds),
		cmocka_unit_test(opt_pair__escapes_and_bounds__split_once),
		cmocka_unit_test(opt_nearest__far_words__null),
		cmocka_unit_test(env_build__files_and_options__last_wins),
		cmocka_unit_test(env_build__mistakes__no_value_in_message),
	};
	return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
