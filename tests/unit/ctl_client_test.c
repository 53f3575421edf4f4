/* SPDX-License-Identifier: Apache-2.0 */
/* The client of a control socket, against a VMM that answers as it should, and as it should not. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "supervisor/lifecycle/ctl.h"

/* What the server answers to its one request; then it hangs up. */
static struct answer {
	uint16_t type;
	int32_t status;
	const void *body;
	uint32_t len;
	int fd[4];
	unsigned fd_count;
} answer;

static char path[64];
static int listen_fd;
static pthread_t server;
static struct ctl_msg asked;
static struct errmsg why;

static void *serve(void *arg)
{
	cleanup_close int fd = accept(listen_fd, NULL, NULL);

	(void)arg;
	while (ctl_msg_recv(fd, &asked, NULL) == 0)
		;
	if (answer.type)
		ctl_msg_send(fd, answer.type, answer.status, answer.body, answer.len, answer.fd,
			     answer.fd_count, NULL);
	return NULL;
}

static struct ctl_client dial(const struct answer *with)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct ctl_client client;

	answer = *with;
	snprintf(path, sizeof(path), "/tmp/spore-ctl-%d", getpid());
	unlink(path);
	listen_fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	strcpy(addr.sun_path, path);
	assert_int_equal(bind(listen_fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(listen_fd, 1), 0);
	assert_int_equal(pthread_create(&server, NULL, serve, NULL), 0);
	assert_int_equal(ctl_open(&client, path, &why), 0);
	return client;
}

static void hang_up(struct ctl_client *client)
{
	ctl_close(client);
	pthread_join(server, NULL);
	ctl_msg_clear(&asked);
	close(listen_fd);
	unlink(path);
}

static void ctl_open__nobody__refused(void **state)
{
	struct ctl_client client;

	(void)state;
	assert_int_equal(ctl_open(&client, "/tmp/spore-no-such-socket", &why), -ENOENT);
	assert_string_equal(why.text, "control socket: No such file or directory");
}

static void ctl_status__answered__as_said(void **state)
{
	const struct ctl_status said = {.state = CTL_PAUSED, .cpus = 4, .mem_mib = 512};
	struct ctl_client client =
		dial(&(struct answer){.type = CTL_STATUS, .body = &said, .len = sizeof(said)});
	struct ctl_status got;

	(void)state;
	assert_int_equal(ctl_status(&client, &got, &why), 0);
	assert_memory_equal(&got, &said, sizeof(got));
	hang_up(&client);
}

static void ctl_order__refused__its_sentence_without_escapes(void **state)
{
	static const char text[] = "not \033[1mnow";
	struct ctl_client client = dial(&(struct answer){
		.type = CTL_PAUSE, .status = -EBUSY, .body = text, .len = sizeof(text) - 1});

	(void)state;
	assert_int_equal(ctl_order(&client, CTL_PAUSE, &why), -EBUSY);
	assert_string_equal(why.text, "not ?[1mnow");
	hang_up(&client);
}

static void ctl_order__gone__says_ended(void **state)
{
	struct ctl_client client = dial(&(struct answer){.type = 0});

	(void)state;
	assert_int_equal(ctl_order(&client, CTL_RESUME, &why), -EPIPE);
	assert_string_equal(why.text, "the VMM has ended");
	hang_up(&client);
}

static void ctl_order__wrong_answers__refused(void **state)
{
	static const struct answer bad[] = {
		{.type = CTL_RESUME},
		{.type = CTL_PAUSE, .status = 5},
		{.type = CTL_PAUSE, .body = "x", .len = 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct ctl_client client = dial(&bad[i]);
		assert_true(ctl_order(&client, CTL_PAUSE, &why) < 0);
		hang_up(&client);
	}
}

static int file_of(const void *bytes, size_t len)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	return fd;
}

static const struct snap_run runs[] = {
	{.page = 0, .count = 2, .source = 0, .kind = SNAP_RUN_MAP, .off = 0},
	{.page = 2, .count = 6, .kind = SNAP_RUN_ZERO},
};

/* A capture whose numbers are `said`, with what belongs to two runs and one source. */
static int capture(const struct ctl_captured *said, unsigned fds, struct ctl_machine *out)
{
	const int layer = file_of("layer", 5);
	struct answer with = {
		.type = CTL_CAPTURE,
		.body = said,
		.len = sizeof(*said),
		.fd = {file_of("the state", 9), file_of(runs, sizeof(runs)), file_of("memory", 6)},
		.fd_count = fds};
	struct ctl_client client = dial(&with);
	int err = ctl_capture(&client, CTL_CAPTURE_STAY, &layer, 1, out, &why);

	hang_up(&client);
	for (unsigned i = 0; i < 3; i++)
		close(with.fd[i]);
	close(layer);
	return err;
}

static unsigned open_fds(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void ctl_capture__answered__state_plan_sources(void **state)
{
	const struct ctl_captured said = {.state_len = 9, .run_count = 2, .source_count = 1};
	unsigned before = open_fds();
	struct ctl_machine m;
	char text[8] = "";

	(void)state;
	assert_int_equal(capture(&said, 3, &m), 0);
	assert_memory_equal(m.state, "the state", 9);
	assert_int_equal(m.plan.runs.count, 2);
	assert_int_equal(m.plan.source_count, 1);
	assert_int_equal(pread(m.plan.fd[0], text, 6, 0), 6);
	assert_string_equal(text, "memory");
	ctl_capture_free(&m);
	assert_int_equal(open_fds(), before);
}

static void ctl_capture__hostile__refused_and_closed(void **state)
{
	static const struct ctl_captured bad[] = {
		{.state_len = 10, .run_count = 2, .source_count = 1},
		{.state_len = UINT64_MAX, .run_count = 2, .source_count = 1},
		{.state_len = 9, .run_count = UINT64_MAX, .source_count = 1},
		{.state_len = 9, .run_count = 3, .source_count = 1},
		{.state_len = 9, .run_count = 2, .source_count = 2},
		{.state_len = 9, .run_count = 2, .source_count = UINT32_MAX},
	};
	unsigned before = open_fds();
	struct ctl_machine m = {.state = NULL};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(capture(&bad[i], 3, &m), -EBADMSG);
		assert_null(m.state);
	}
	const struct ctl_captured said = {.state_len = 9, .run_count = 2, .source_count = 0};
	assert_int_equal(capture(&said, 1, &m), -EBADMSG);
	assert_int_equal(open_fds(), before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ctl_open__nobody__refused),
		cmocka_unit_test(ctl_status__answered__as_said),
		cmocka_unit_test(ctl_order__refused__its_sentence_without_escapes),
		cmocka_unit_test(ctl_order__gone__says_ended),
		cmocka_unit_test(ctl_order__wrong_answers__refused),
		cmocka_unit_test(ctl_capture__answered__state_plan_sources),
		cmocka_unit_test(ctl_capture__hostile__refused_and_closed),
	};

	alarm(120);
	return cmocka_run_group_tests_name("ctl_client", tests, NULL, NULL);
}
