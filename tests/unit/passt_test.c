/* SPDX-License-Identifier: Apache-2.0 */
/* Published ports, and passt as a child: that it says when it is ready, says why not, and ends with its socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "supervisor/net/passt.h"

static void passt_publish__good__listed_by_protocol(void **state)
{
	struct passt_config cfg = {.allow_loopback = false};

	(void)state;
	assert_int_equal(passt_publish(&cfg, "8080:80", NULL), 0);
	assert_int_equal(passt_publish(&cfg, "65535:1/tcp", NULL), 0);
	assert_int_equal(passt_publish(&cfg, "53:5353/udp", NULL), 0);
	assert_string_equal(cfg.tcp, "127.0.0.1/8080:80,65535:1");
	assert_string_equal(cfg.udp, "127.0.0.1/53:5353");
}

static void passt_publish__bad__refused(void **state)
{
	static const char *const bad[] = {"",      "80",      "80:",     ":80",   "0:80",
					  "80:0",  "65536:1", "1:65536", "1:2:3", "1:2/sctp",
					  "a:1",   "1:a",     "-1:2",    "1:2 ",  "99999999999:1",
					  "1,2:3", "1-2:3"};
	struct passt_config cfg = {.allow_loopback = false};
	struct errmsg why;
	int err = 0;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (passt_publish(&cfg, bad[i], &why) != -EINVAL)
			fail_msg("'%s'", bad[i]);
	assert_string_equal(cfg.tcp, "");
	for (int i = 0; !err && i < 1000; i++)
		err = passt_publish(&cfg, "10000:10000", &why);
	assert_int_equal(err, -EINVAL);
	assert_string_equal(why.text, "'10000:10000': too many ports");
}

/* Runs with a program of ours in the place of passt. */
static int start_as(const char *script, int *pid, struct errmsg *why)
{
	char dir[] = "/tmp/spore-passt-XXXXXX", path[64];
	const struct passt_config cfg = {.tcp = "127.0.0.1/1:2"};

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/passt", dir);
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	fprintf(file, "#!/bin/bash\n%s\n", script);
	fclose(file);
	assert_int_equal(chmod(path, 0755), 0);
	setenv("PATH", dir, 1);
	int fd = passt_start(&cfg, pid, why);
	setenv("PATH", "/usr/bin:/bin", 1);
	unlink(path);
	rmdir(dir);
	return fd;
}

static void passt_start__ready__ends_with_the_socket(void **state)
{
	struct errmsg why = {""};
	int pid = 0, status;

	(void)state;
	int fd =
		start_as("for a; do case $a in --no-map-gw) n=1;; 127.0.0.1/1:2) p=1;; esac; done\n"
			 "[ \"$n$p\" = 11 ] || { echo arguments >&2; exit 1; }\n"
			 "echo $$ >/proc/self/fd/4; read -r x <&3; exit 7",
			 &pid, &why);
	if (fd < 0)
		fail_msg("%s", why.text);
	close(fd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 7);
}

static void passt_start__fails__its_last_words_are_told(void **state)
{
	struct errmsg why = {""};
	int pid = 0;

	(void)state;
	assert_true(start_as("echo first >&2; printf 'no\\033route\\n' >&2; exit 1", &pid, &why) <
		    0);
	assert_string_equal(why.text, "passt: no?route");
	assert_true(start_as("exit 0", &pid, &why) < 0);
	setenv("PATH", "/nowhere", 1);
	assert_int_equal(passt_start(&(struct passt_config){.allow_loopback = true}, &pid, &why),
			 -ENOENT);
	setenv("PATH", "/usr/bin:/bin", 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(passt_publish__good__listed_by_protocol),
		cmocka_unit_test(passt_publish__bad__refused),
		cmocka_unit_test(passt_start__ready__ends_with_the_socket),
		cmocka_unit_test(passt_start__fails__its_last_words_are_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
