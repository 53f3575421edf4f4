/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: what it takes, every refusal word by word, and that the help lists what is there. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "vmm/options.h"

#define ARGS(...) ((char *[]){(char[]){"spore-vmm"}, __VA_ARGS__, NULL})
#define A(text)   ((char[]){text})

static int parse(char **argv, struct options *out, struct errmsg *why)
{
	int argc = 0;
	while (argv[argc])
		argc++;
	return options_parse(argc, argv, out, why);
}

static void expect_refused(char **argv, const char *text)
{
	struct errmsg why = {.text = ""};
	struct options opt;

	assert_int_equal(parse(argv, &opt, &why), -EINVAL);
	assert_string_equal(why.text, text);
}

static void options_parse__full_line__all_set(void **state)
{
	(void)state;
	struct errmsg why = {.text = ""};
	struct options opt;
	char **argv =
		ARGS(A("--no-api"), A("--config-file=c.json"), A("--boot-timer"), A("--timings"),
		     A("--ready-fd"), A("0"), A("--ready-port"), A("1024"), A("--kvm"), A("/x"),
		     A("--console-fd"), A("0"), A("--id"), A("vm-1"), A("--uid"), A("7"));

	assert_int_equal(parse(argv, &opt, &why), 0);
	assert_true(opt.no_api && opt.boot_timer && opt.timings && !opt.no_seccomp);
	assert_null(opt.timings_file);
	assert_string_equal(opt.config_file, "c.json");
	assert_string_equal(opt.kvm_path, "/x");
	assert_string_equal(opt.id, "vm-1");
	assert_int_equal(opt.ready_fd, 0);
	assert_int_equal(opt.ready_port, 1024);
	assert_int_equal(opt.console_fd, 0);
	assert_int_equal(opt.kvm_fd, -1);
	assert_int_equal(opt.vsock_listen_fd, -1);
	assert_int_equal(opt.uid, 7);
	assert_int_equal(opt.gid, 0);
}

static void options_parse__timings_with_file__taken(void **state)
{
	(void)state;
	struct errmsg why;
	struct options opt;
	char **argv = ARGS(A("--timings"), A("t.json"), A("--no-api"), A("--config-file"), A("c"));

	assert_int_equal(parse(argv, &opt, &why), 0);
	assert_string_equal(opt.timings_file, "t.json");
}

static void options_parse__kvm_number__is_a_descriptor(void **state)
{
	(void)state;
	struct errmsg why;
	struct options opt;

	assert_int_equal(parse(ARGS(A("--no-api"), A("--config-file=c"), A("--kvm=0")), &opt, &why),
			 0);
	assert_int_equal(opt.kvm_fd, 0);
}

static void options_parse__bad_line__names_the_option(void **state)
{
	(void)state;
	expect_refused(ARGS(A("--colour")), "unknown option '--colour' (see --help)");
	expect_refused(ARGS(A("c.json")), "unknown option 'c.json' (see --help)");
	expect_refused(ARGS(A("--no-api"), A("--no-api")), "--no-api was given twice");
	expect_refused(ARGS(A("--no-api=1")), "--no-api takes no value");
	expect_refused(ARGS(A("--no-api")), "--no-api needs --config-file FILE");
	expect_refused(ARGS(A("--config-file")), "--config-file needs a value: --config-file FILE");
	expect_refused(ARGS(A("--config-file=")), "--config-file: the value is empty");
	expect_refused(ARGS(A("--config-file=c")),
		       "--no-api --config-file FILE is needed: the API over "
		       "a socket is not there yet");
	expect_refused(ARGS(A("--api-sock=s")),
		       "--api-sock is not supported yet: it comes with the "
		       "API; use --config-file");
	expect_refused(ARGS(A("--no-api"), A("--config-file=c"), A("--empty")),
		       "--empty needs --ctl-fd: nothing else could load the VM");
	expect_refused(ARGS(A("--no-api"), A("--config-file=c"), A("--uffd-fd=0")),
		       "--uffd-fd needs --empty: only what is loaded comes from a pager");
	expect_refused(ARGS(A("--ready-fd=200")), "--ready-fd: descriptor 200 is not open");
	expect_refused(ARGS(A("--ready-fd=-1")), "--ready-fd: '-1' is not a descriptor number");
	expect_refused(ARGS(A("--console-fd=1x")), "--console-fd: '1x' is not a descriptor number");
	expect_refused(ARGS(A("--kvm=200")), "--kvm: descriptor 200 is not open");
	expect_refused(ARGS(A("--ready-port=0")),
		       "--ready-port: '0' is not a number from 1 to 4294967294");
	expect_refused(ARGS(A("--id=a b")), "--id: 'a b' has more than letters, digits and '-'");
	expect_refused(ARGS(A("--no-api"), A("--config-file=c"), A("--ready-fd=0")),
		       "--ready-fd and --ready-port go together");
}

static void options_parse__help__needs_nothing_else(void **state)
{
	(void)state;
	struct errmsg why;
	struct options opt;

	assert_int_equal(parse(ARGS(A("--help")), &opt, &why), 0);
	assert_true(opt.help);
	assert_int_equal(parse(ARGS(A("--version")), &opt, &why), 0);
	assert_true(opt.version);
}

/* What --help lists is what the parser takes, and the manual page lists the same. */
static void options_help__every_option__parses_and_is_in_the_man_page(void **state)
{
	(void)state;
	cleanup_free char *help = NULL, *man = NULL;
	size_t help_len, man_len;
	FILE *to = open_memstream(&help, &help_len);
	options_help(to);
	fclose(to);
	to = open_memstream(&man, &man_len);
	options_man(to);
	fclose(to);

	unsigned count = 0;
	for (char *line = strtok(help, "\n"); line; line = strtok(NULL, "\n")) {
		char name[32], in_man[80] = ".B ";
		if (sscanf(line, "  --%28s", name) != 1)
			continue;
		struct errmsg why = {.text = ""};
		struct options opt;
		char arg[40];
		snprintf(arg, sizeof(arg), "--%s", name);
		if (parse(ARGS(arg), &opt, &why))
			assert_null(strstr(why.text, "unknown option"));
		char *end = in_man + strlen(in_man);
		for (const char *c = arg; *c; c++) {
			if (*c == '-')
				*end++ = '\\';
			*end++ = *c;
		}
		assert_non_null(strstr(man, in_man));
		count++;
	}
	assert_true(count >= 15);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(options_parse__full_line__all_set),
		cmocka_unit_test(options_parse__timings_with_file__taken),
		cmocka_unit_test(options_parse__kvm_number__is_a_descriptor),
		cmocka_unit_test(options_parse__bad_line__names_the_option),
		cmocka_unit_test(options_parse__help__needs_nothing_else),
		cmocka_unit_test(options_help__every_option__parses_and_is_in_the_man_page),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
