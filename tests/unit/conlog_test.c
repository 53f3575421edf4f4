/* SPDX-License-Identifier: Apache-2.0 */
/* A console log: what is kept of a stream longer than the file, and what a damaged one does. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/conlog.h"
#include "vmm/console.h"

static int new_log(uint32_t cap)
{
	int fd = memfd_create("conlog", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(conlog_format(fd, cap, NULL), 0);
	return fd;
}

static void conlog_read__empty__nothing(void **state)
{
	cleanup_close int fd = new_log(CONLOG_CAP_MIN);
	char buf[16];
	uint64_t end = 1;

	(void)state;
	assert_int_equal(conlog_read(fd, buf, sizeof(buf), &end, NULL), 0);
	assert_int_equal(end, 0);
}

static void refuse(const struct conlog_head *head, size_t len)
{
	cleanup_close int fd = memfd_create("conlog", MFD_CLOEXEC);
	struct errmsg why;
	uint32_t cap;
	uint64_t total;

	assert_int_equal(pwrite(fd, head, len, 0), len);
	assert_int_equal(conlog_open(fd, &cap, &total, &why), -EBADMSG);
	assert_string_equal(why.text, "console log: Bad message");
}

static void conlog_open__damaged__refused(void **state)
{
	struct conlog_head good = {.magic = CONLOG_MAGIC, .version = 1, .cap = CONLOG_CAP_MIN};
	struct conlog_head bad = good;

	(void)state;
	refuse(&good, sizeof(good) - 1);
	bad.magic[7] = 'X';
	refuse(&bad, sizeof(bad));
	bad = good;
	bad.version = 2;
	refuse(&bad, sizeof(bad));
	bad = good;
	bad.cap = CONLOG_CAP_MIN - 1;
	refuse(&bad, sizeof(bad));
	bad.cap = CONLOG_CAP_MAX + 1;
	refuse(&bad, sizeof(bad));
}

static void conlog_read__cut_off__zeroes(void **state)
{
	cleanup_close int fd = new_log(CONLOG_CAP_MIN);
	uint64_t end, total = htole64(UINT64_MAX - 5); /* and no byte of it in the file */
	char buf[16];

	(void)state;
	memset(buf, 'x', sizeof(buf));
	assert_int_equal(pwrite(fd, &total, 8, offsetof(struct conlog_head, total)), 8);
	assert_int_equal(conlog_read(fd, buf, sizeof(buf), &end, NULL), sizeof(buf));
	for (size_t i = 0; i < sizeof(buf); i++)
		assert_int_equal(buf[i], 0);
}

static char nth(uint64_t i)
{
	return (char)('a' + (i * 31 + i / 977) % 26);
}

/* Through the console itself: more than the file keeps, in pieces, and from a log that was begun. */
static void write_through(int fd, uint64_t from, uint64_t len)
{
	struct loop *loop;
	struct console *con;
	struct errmsg why;
	char chunk[5000];

	assert_int_equal(loop_create(&loop, 8, &why), 0);
	assert_int_equal(console_create(&con, loop, fd, CONSOLE_LOG, &why), 0);
	while (loop_step(loop, LOOP_POLL) > 0)
		;
	for (uint64_t done = 0; done < len;) {
		uint32_t n = (uint32_t)(len - done < sizeof(chunk) ? len - done : sizeof(chunk));
		for (uint32_t i = 0; i < n; i++)
			chunk[i] = nth(from + done + i);
		console_put(con, chunk, n);
		console_drain(con, clock_now() + 20 * NS_PER_SEC);
		done += n;
	}
	console_destroy(con);
	loop_destroy(loop);
}

static void console_log__longer_than_file__last_bytes_in_order(void **state)
{
	cleanup_close int fd = new_log(CONLOG_CAP_MIN);
	const uint64_t first = CONLOG_CAP_MIN + 12345, second = 777;
	static char buf[CONLOG_CAP_MIN];
	struct stat st;
	uint64_t end;

	(void)state;
	write_through(fd, 0, first);
	write_through(fd, first, second);
	int64_t n = conlog_read(fd, buf, sizeof(buf), &end, NULL);
	assert_int_equal(n, CONLOG_CAP_MIN - CONLOG_WRITE_MAX);
	assert_int_equal(end, first + second);
	for (int64_t i = 0; i < n; i++)
		assert_int_equal(buf[i], nth(end - (uint64_t)n + (uint64_t)i));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, CONLOG_DATA_AT + CONLOG_CAP_MIN);
}

static void console_create__no_log__refused(void **state)
{
	cleanup_close int fd = memfd_create("plain", MFD_CLOEXEC);
	struct loop *loop;
	struct console *con = NULL;
	struct errmsg why;

	(void)state;
	assert_int_equal(loop_create(&loop, 8, &why), 0);
	assert_int_equal(console_create(&con, loop, fd, CONSOLE_LOG, &why), -EBADMSG);
	assert_null(con);
	loop_destroy(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conlog_read__empty__nothing),
		cmocka_unit_test(conlog_open__damaged__refused),
		cmocka_unit_test(conlog_read__cut_off__zeroes),
		cmocka_unit_test(console_log__longer_than_file__last_bytes_in_order),
		cmocka_unit_test(console_create__no_log__refused),
	};

	alarm(120);
	return cmocka_run_group_tests_name("conlog", tests, NULL, NULL);
}
