/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore-vmm as it is used: sealed, under its filters, captured and loaded through its control socket.  A system call
 * that no filter permits would end it with status 148.
 */
#include "base/cleanup.h"
#include "tests/kvm/process.h"

static const struct pattern_cfg shape = {.cpus = 2, .mem_mib = 64, .pages = 6000};

/* Until the guest has written all of its pages. */
static void wait_ready(const struct process *p)
{
	for (unsigned ms = 0; process_status(p).exits == 0; ms++) {
		if (ms == VM_LIMIT_MS)
			fail_msg("the pattern guest did not come up");
		poll(NULL, 0, 1);
	}
}

static void process__captured_and_loaded__child_goes_on(void **state)
{
	(void)state;
	static struct ctl_msg msg, reply;
	struct process parent, child;

	process_start(&parent, &shape, PROCESS_GUEST);
	process_start(&child, &shape, PROCESS_EMPTY);
	wait_ready(&parent);
	assert_int_equal(process_status(&child).state, CTL_EMPTY);
	for (unsigned round = 0; round < 3; round++) {
		struct vmm_captured got = process_capture(&parent, 0, &msg);
		assert_int_equal(got.rehomed, round == 0);
		uint64_t sum = pattern_judge(&got, &shape);
		if (process_load(&child, &msg, CTL_LOAD_RUN, &reply))
			fail_msg("load: %s", (const char *)reply.body);
		assert_int_equal(process_status(&child).state, CTL_RUNNING);
		process_captured_free(&got, &msg);
		for (uint64_t now = sum; now == sum;) { /* until it has gone on */
			got = process_capture(&child, CTL_CAPTURE_STAY, &msg);
			now = pattern_judge(&got, &shape);
			process_captured_free(&got, &msg);
			if (now == sum)
				process_ask(child.sock, CTL_RESUME, NULL, 0, NULL, 0, &reply);
		}
		assert_int_equal(process_status(&child).state, CTL_PAUSED);
		process_stop(&child);
		process_start(&child, &shape, PROCESS_EMPTY);
	}
	struct ctl_status status = process_status(&parent);
	assert_int_equal(status.state, CTL_RUNNING);
	assert_int_equal(status.generation, 1);
	assert_int_equal(status.captures, 3);
	process_stop(&child);
	process_stop(&parent);
}

static void process__pause_and_resume__as_asked(void **state)
{
	(void)state;
	static struct ctl_msg msg;
	struct process p;

	process_start(&p, &shape, PROCESS_GUEST);
	wait_ready(&p);
	for (unsigned i = 0; i < 2; i++) { /* twice is fine */
		assert_int_equal(process_ask(p.sock, CTL_PAUSE, NULL, 0, NULL, 0, &msg), 0);
		assert_int_equal(process_status(&p).state, CTL_PAUSED);
	}
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(process_ask(p.sock, CTL_RESUME, NULL, 0, NULL, 0, &msg), 0);
		assert_int_equal(process_status(&p).state, CTL_RUNNING);
	}
	process_stop(&p);
}

/* A client that is killed leaves no VM standing; one that asked for a pause in words does. */
static void process__client_of_a_capture_goes__vm_runs_on(void **state)
{
	(void)state;
	static struct ctl_msg msg;
	const struct ctl_capture stay = {.flags = CTL_CAPTURE_STAY};
	struct process p;

	process_start(&p, &shape, PROCESS_GUEST);
	wait_ready(&p);
	for (unsigned i = 0; i < 2; i++) {
		int other = process_connect(&p);
		assert_int_equal(
			process_ask(other, CTL_CAPTURE, &stay, sizeof(stay), NULL, 0, &msg), 0);
		ctl_msg_clear(&msg);
		assert_int_equal(process_status(&p).state, CTL_PAUSED);
		if (i)
			assert_int_equal(process_ask(other, CTL_PAUSE, NULL, 0, NULL, 0, &msg), 0);
		close(other);
		process_status(&p); /* by now its end has been seen */
		process_status(&p);
		assert_int_equal(process_status(&p).state, i ? CTL_PAUSED : CTL_RUNNING);
	}
	process_stop(&p);
}

static void refused(int sock, uint16_t type, const void *body, uint32_t len, unsigned fds,
		    int status, const char *text)
{
	static struct ctl_msg msg;
	int fd[] = {STDIN_FILENO, STDIN_FILENO, STDIN_FILENO};

	assert_int_equal(process_ask(sock, type, body, len, fd, fds, &msg), status);
	assert_string_equal((const char *)msg.body, text);
}

static void process__bad_requests__answered_and_survived(void **state)
{
	(void)state;
	struct process p;
	const struct ctl_settle settle = {.sequence = 9, .outcome = CTL_SETTLE_KEPT};
	const struct ctl_load load = {.run_count = 1, .source_count = 1, .state_len = 64};
	const uint32_t flags[2] = {1u << 31, 0};

	process_start(&p, &shape, PROCESS_GUEST);
	wait_ready(&p);
	refused(p.sock, CTL_PAUSE, "x", 1, 0, -EINVAL, "request 3: wrong length: Invalid argument");
	refused(p.sock, CTL_PAUSE, NULL, 0, 1, -EINVAL,
		"request 3 takes no descriptors: Invalid argument");
	refused(p.sock, CTL_CAPTURE, flags, sizeof(flags), 0, -EINVAL,
		"capture: unknown flags 0x80000000: Invalid argument");
	refused(p.sock, CTL_SETTLE, &settle, sizeof(settle), 0, -ESTALE,
		"capture 9 is not the last one, or is settled: Stale file handle");
	refused(p.sock, CTL_LOAD, &load, sizeof(load), 2, -EINVAL,
		"load: the request and its 2 descriptors do not agree: Invalid argument");
	assert_int_equal(process_status(&p).state, CTL_RUNNING);
	/* Not a message: that client is dropped, the others stay. */
	int bad = process_connect(&p);
	char byte = 1;
	assert_int_equal(send(bad, &byte, 1, 0), 1);
	assert_int_equal(recv(bad, &byte, 1, 0), 0);
	close(bad);
	assert_int_equal(process_status(&p).state, CTL_RUNNING);
	process_stop(&p);
}

/* What a child has been at since its load; a machine that was booted has no such thing. */
static void process__working_set__holds_what_was_touched(void **state)
{
	(void)state;
	static struct ctl_msg msg, reply;
	const struct pattern_cfg quiet = {.cpus = 1, .mem_mib = 64, .pages = 6000};
	struct process parent, child;
	struct ctl_working_set said;
	uint64_t pages = 0, written = 0, end = 0, control = PATTERN_CONTROL / 4096;
	bool found = false;

	process_start(&parent, &quiet, PROCESS_GUEST);
	process_start(&child, &quiet, PROCESS_EMPTY);
	wait_ready(&parent);
	refused(parent.sock, CTL_WORKING_SET, NULL, 0, 0, -ENOTSUP,
		"a VM that was booted here has no working set yet: Operation not supported");
	refused(child.sock, CTL_WORKING_SET, NULL, 0, 0, -EINVAL,
		"only a VM that was loaded has a working set: Invalid argument");
	struct vmm_captured got = process_capture(&parent, 0, &msg);
	uint64_t sum = pattern_judge(&got, &quiet);
	assert_int_equal(process_load(&child, &msg, CTL_LOAD_RUN, &reply), 0);
	process_captured_free(&got, &msg);
	for (uint64_t now = sum; now == sum;) { /* until it has gone on */
		got = process_capture(&child, 0, &msg);
		now = pattern_judge(&got, &quiet);
		process_captured_free(&got, &msg);
	}
	assert_int_equal(process_ask(child.sock, CTL_WORKING_SET, NULL, 0, NULL, 0, &msg), 0);
	assert_int_equal(msg.head.len, sizeof(said));
	assert_int_equal(msg.fd_count, 1);
	memcpy(&said, msg.body, sizeof(said));
	size_t len = said.run_count * sizeof(struct ctl_page_run);
	const struct ctl_page_run *run = mmap(NULL, len, PROT_READ, MAP_PRIVATE, msg.fd[0], 0);
	assert_ptr_not_equal(run, MAP_FAILED);
	for (uint64_t i = 0; i < said.run_count; i++) {
		assert_true(run[i].page >= end && run[i].count > 0);
		end = run[i].page + run[i].count;
		found |= run[i].written && run[i].page <= control && end > control;
		pages += run[i].count;
		written += run[i].written ? run[i].count : 0;
	}
	assert_true(found);
	assert_true(end <= 64u << 8);
	assert_int_equal(pages, said.pages);
	assert_true(written > 0 && written <= said.written && written <= pages);
	munmap((void *)(uintptr_t)run, len);
	ctl_msg_clear(&msg);
	process_stop(&child);
	process_stop(&parent);
}

/* A load that fails ends the empty VM with a reason and status 1; the parent does not notice. */
static void process__load_of_garbage__child_ends(void **state)
{
	(void)state;
	static struct ctl_msg msg, reply;
	struct process parent, child;

	process_start(&parent, &shape, PROCESS_GUEST);
	wait_ready(&parent);
	struct vmm_captured got = process_capture(&parent, 0, &msg);
	int good = msg.fd[0];
	int bad = memfd_create("bad", MFD_CLOEXEC);
	assert_int_equal(ftruncate(bad, (off_t)got.state_len), 0);
	process_start(&child, &shape, PROCESS_EMPTY);
	msg.fd[0] = bad;
	assert_int_equal(process_load(&child, &msg, 0, &reply), -EBADMSG);
	assert_string_equal((const char *)reply.body, "machine state: not one: Bad message");
	assert_int_equal(process_wait(&child), 1);
	process_clean(&child);
	msg.fd[0] = good;
	close(bad);
	process_captured_free(&got, &msg);
	assert_int_equal(process_status(&parent).state, CTL_RUNNING);
	process_stop(&parent);
}

static unsigned still_open(const int *fd, size_t count)
{
	unsigned open = 0;
	char byte;

	for (size_t i = 0; i < count; i++)
		open += recv(fd[i], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN;
	return open;
}

/* More clients than there is room for are turned away; the one before them keeps its place. */
static void process__many_clients__bounded(void **state)
{
	(void)state;
	struct process p;
	int fd[20];

	process_start(&p, &shape, PROCESS_GUEST);
	process_status(&p);
	for (size_t i = 0; i < ARRAY_LEN(fd); i++)
		fd[i] = process_connect(&p);
	for (unsigned ms = 0; still_open(fd, ARRAY_LEN(fd)) == ARRAY_LEN(fd); ms++) {
		if (ms == VM_LIMIT_MS)
			fail_msg("no client was turned away");
		poll(NULL, 0, 1);
	}
	process_status(&p);
	assert_true(still_open(fd, ARRAY_LEN(fd)) >= 1);
	for (size_t i = 0; i < ARRAY_LEN(fd); i++)
		close(fd[i]);
	process_stop(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(process__captured_and_loaded__child_goes_on),
		cmocka_unit_test(process__pause_and_resume__as_asked),
		cmocka_unit_test(process__client_of_a_capture_goes__vm_runs_on),
		cmocka_unit_test(process__bad_requests__answered_and_survived),
		cmocka_unit_test(process__working_set__holds_what_was_touched),
		cmocka_unit_test(process__load_of_garbage__child_ends),
		cmocka_unit_test(process__many_clients__bounded),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
