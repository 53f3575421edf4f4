/* SPDX-License-Identifier: Apache-2.0 */
/* agent_exec_test.c - commands run by the real agent over a unix socket */
#include "tests/unit/agent_harness.h"

static void exec__true__exits_0(void **state)
{
	struct outcome o;

	(void)state;
	run_argv(&o, (const char *const[]){"true", NULL});
	assert_int_equal(o.result, 0);
	assert_int_equal(o.how.how, AGENT_EXITED);
	assert_int_equal(o.how.status, 0);
}

static void exec__statuses__pass_through(void **state)
{
	struct outcome o;

	(void)state;
	run_argv(&o, (const char *const[]){"false", NULL});
	assert_int_equal(o.how.status, 1);
	run_sh(&o, "exit 3");
	assert_int_equal(o.how.how, AGENT_EXITED);
	assert_int_equal(o.how.status, 3);
	run_sh(&o, "kill -TERM $$");
	assert_int_equal(o.how.how, AGENT_SIGNALED);
	assert_int_equal(o.how.status, SIGTERM);
}

static void exec__streams__stay_apart(void **state)
{
	struct outcome o;

	(void)state;
	run_sh(&o, "echo to-out; echo to-err >&2");
	assert_string_equal(o.out, "to-out\n");
	assert_string_equal(o.err, "to-err\n");
}

static void exec__not_found__stage_exec_enoent(void **state)
{
	struct outcome o;

	(void)state;
	run_argv(&o, (const char *const[]){"no-such-command", NULL});
	assert_int_equal(o.failed.kind, AGENTC_FAILED);
	assert_int_equal(o.failed.error.stage, AGENT_STAGE_EXEC);
	assert_int_equal(o.failed.error.err, ENOENT);
	assert_string_equal(o.failed.text, "'no-such-command': command not found");
	run_argv(&o, (const char *const[]){"/no/such/file", NULL});
	assert_int_equal(o.failed.error.err, ENOENT);
	run_argv(&o, (const char *const[]){"", NULL});
	assert_int_equal(o.failed.error.err, ENOENT);
}

static void exec__not_executable__stage_exec_eacces(void **state)
{
	struct outcome o;

	(void)state;
	run_argv(&o, (const char *const[]){"/etc/passwd", NULL});
	assert_int_equal(o.failed.error.stage, AGENT_STAGE_EXEC);
	assert_int_equal(o.failed.error.err, EACCES);
	run_argv(&o, (const char *const[]){"/etc", NULL});
	assert_int_equal(o.failed.error.stage, AGENT_STAGE_EXEC);
	assert_int_equal(o.failed.error.err, EISDIR);
}

static void exec__bad_cwd__stage_cwd(void **state)
{
	struct agentc_run run = {
		.argv = (const char *const[]){"true", NULL}, .user = "root", .cwd = "/nowhere"};
	struct outcome o;

	(void)state;
	run_with(&o, &run, NULL, 0);
	assert_int_equal(o.failed.error.stage, AGENT_STAGE_CWD);
	assert_int_equal(o.failed.error.err, ENOENT);
	assert_string_equal(o.failed.text, "cwd '/nowhere' does not exist");
}

static void exec__unknown_user__stage_user(void **state)
{
	struct agentc_run run = {.argv = (const char *const[]){"true", NULL}, .user = "nobodyx"};
	struct outcome o;

	(void)state;
	run_with(&o, &run, NULL, 0);
	assert_int_equal(o.failed.error.stage, AGENT_STAGE_USER);
	assert_string_equal(o.failed.text, "user 'nobodyx' does not exist");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(exec__true__exits_0),
		cmocka_unit_test(exec__statuses__pass_through),
		cmocka_unit_test(exec__streams__stay_apart),
		cmocka_unit_test(exec__not_found__stage_exec_enoent),
		cmocka_unit_test(exec__not_executable__stage_exec_eacces),
		cmocka_unit_test(exec__bad_cwd__stage_cwd),
		cmocka_unit_test(exec__unknown_user__stage_user),
	};

	return cmocka_run_group_tests(tests, harness_up, harness_down);
}
