/* SPDX-License-Identifier: Apache-2.0 */
/* The reactor on a real ring: completions, timers, cancels, calls from another thread. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/loop.h"

struct counter {
	struct loop_op op;
	int res, times;
};

static void count_done(struct loop_op *op, int res)
{
	struct counter *c = (struct counter *)op;
	c->res = res;
	c->times++;
}

static int setup(void **state)
{
	struct errmsg why;
	struct loop *loop = NULL;
	if (loop_create(&loop, 8, &why))
		fail_msg("%s", why.text);
	*state = loop;
	return 0;
}

static int teardown(void **state)
{
	loop_destroy(*state);
	return 0;
}

static uint64_t now_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void step_until(struct loop *loop, const int *times, int want)
{
	while (*times < want)
		assert_int_equal(loop_step(loop, LOOP_WAIT), 0);
}

static void loop_write__then_read__same_bytes(void **state)
{
	struct loop *loop = *state;
	struct counter c = {.op.done = count_done};
	char buf[4];
	int fd = memfd_create("t", MFD_CLOEXEC);

	loop_write(loop, &c.op, fd, "spor", 4, 4096);
	step_until(loop, &c.times, 1);
	assert_int_equal(c.res, 4);
	loop_read(loop, &c.op, fd, buf, 4, 4096);
	step_until(loop, &c.times, 2);
	assert_memory_equal(buf, "spor", 4);
	loop_read(loop, &c.op, -1, buf, 4, 0);
	step_until(loop, &c.times, 3);
	assert_int_equal(c.res, -EBADF);
	close(fd);
}

/* More requests than the ring has slots: none is lost. */
static void loop_write__more_than_the_ring_holds__all_complete(void **state)
{
	struct loop *loop = *state;
	static struct counter c[100];
	int fd = memfd_create("t", MFD_CLOEXEC), sum = 0;
	char byte;

	assert_int_equal(loop_step(loop, LOOP_POLL), 0);
	memset(c, 0, sizeof(c));
	for (int i = 0; i < 100; i++) {
		c[i].op.done = count_done;
		loop_write(loop, &c[i].op, fd, "x", 1, (uint64_t)i);
	}
	for (int i = 0; i < 100; i++) {
		step_until(loop, &c[i].times, 1);
		sum += c[i].res;
	}
	assert_int_equal(sum, 100);
	assert_int_equal(pread(fd, &byte, 1, 99), 1);
	close(fd);
}

static void timer_done(struct loop_op *op, int res)
{
	(void)op;
	assert_int_equal(res, -ETIME);
}

static void loop_timer__deadline_passes__etime_not_early(void **state)
{
	struct loop *loop = *state;
	struct loop_timer timer = {.op.done = timer_done};
	uint64_t at = now_ns() + 5000000;

	loop_timer(loop, &timer, at);
	while (timer.op.busy)
		assert_int_equal(loop_step(loop, LOOP_WAIT), 0);
	assert_true(now_ns() >= at);
}

static void loop_cancel__poll_that_never_fires__one_ecanceled(void **state)
{
	struct loop *loop = *state;
	struct counter c = {.op.done = count_done};
	int fd[2];

	assert_int_equal(pipe2(fd, O_CLOEXEC), 0);
	loop_poll(loop, &c.op, fd[0], POLLIN);
	loop_cancel(loop, &c.op);
	step_until(loop, &c.times, 1);
	assert_int_equal(c.res, -ECANCELED);
	assert_int_equal(loop_step(loop, LOOP_POLL), 0);
	assert_int_equal(c.times, 1);
	close(fd[0]);
	close(fd[1]);
}

struct threaded {
	struct loop *loop;
	int calls;
	bool here;
};

static void on_call(void *arg)
{
	struct threaded *t = arg;
	t->calls++;
	t->here = loop_here(t->loop);
}

static void *run(void *arg)
{
	assert_int_equal(loop_run(arg), 0);
	return NULL;
}

static void loop_call__from_another_thread__runs_on_the_loop(void **state)
{
	struct threaded t = {.loop = *state};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, run, t.loop), 0);
	for (int i = 0; i < 1000; i++)
		loop_call(t.loop, on_call, &t);
	assert_int_equal(t.calls, 1000);
	assert_true(t.here);
	assert_false(loop_here(t.loop));
	loop_stop(t.loop);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

static uint64_t fired;
static void on_fire(struct loop_event *e)
{
	fired += e->value;
	if (fired >= 3)
		loop_event_stop(e);
}

static void loop_event__signalled__fires_until_stopped(void **state)
{
	struct loop *loop = *state;
	struct loop_event e = {0};
	int fd = eventfd(0, EFD_CLOEXEC);
	uint64_t one = 1;

	fired = 0;
	loop_event_start(loop, &e, fd, on_fire);
	while (fired < 3) {
		assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
		assert_int_equal(loop_step(loop, LOOP_WAIT), 0);
	}
	assert_int_equal(fired, 3);
	assert_false(e.op.busy);
	close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(loop_write__then_read__same_bytes),
		T(loop_write__more_than_the_ring_holds__all_complete),
		T(loop_timer__deadline_passes__etime_not_early),
		T(loop_cancel__poll_that_never_fires__one_ecanceled),
		T(loop_call__from_another_thread__runs_on_the_loop),
		T(loop_event__signalled__fires_until_stopped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
