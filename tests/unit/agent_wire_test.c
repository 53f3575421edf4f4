/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent_wire_test.c - the protocol's bytes, as agreed in tests/golden/agent-v1.bin, and its gate
 *
 * A change of any byte there is a new version of the protocol.  GOLDEN_WRITE=1 writes the file.
 */
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
#include "supervisor/agentc/agentc.h"
#include "wire/agent.h"

#define GOLDEN "tests/golden/agent-v1.bin"

static uint8_t book[65536];
static size_t book_len;

static void page(uint16_t type, uint16_t stream, const void *fixed, const void *tail,
		 size_t tail_len)
{
	long len = agent_msg_put(book + book_len, sizeof(book) - book_len, type, stream, fixed,
				 tail, tail_len);
	assert_true(len > 0);
	book_len += (size_t)len;
}

#define TAIL(text) (text), sizeof(text)

static void pages_of_processes(void)
{
	struct agent_exec exec = {.flags = AGENT_EXEC_DETACHED | AGENT_EXEC_STDIN,
				  .argc = 2,
				  .envc = 1,
				  .blob_len = 28,
				  .window = {0x11111111, 0x22222222},
				  .rows = 24,
				  .cols = 80,
				  .timeout_ms = 1000,
				  .kill_after_ms = 2000,
				  .orphan_ms = 3000,
				  .timeout_signal = 15,
				  .nice = -5,
				  .oom_score_adj = -100,
				  .umask = 022,
				  .limit_count = 1,
				  .limit = {{.resource = 7, .soft = 10, .hard = 20}}};
	struct agent_attach attach = {
		AGENT_BY_TAG, AGENT_ATTACH_REPLAY, 0x0102030405060708, {1, 2}};
	struct agent_started started = {7, 1234, AGENT_PROC_STDIN, AGENT_STDIN_WINDOW, 0};
	struct agent_exit ended = {AGENT_SIGNALED, 1, 0, 9, 1, 2, 3, 4};
	struct agent_signal sig = {15, AGENT_TO_GROUP};
	struct agent_resize size = {40, 120, 0};
	struct agent_proc proc = {7, 1234, AGENT_PROC_TTY, 1, 1, 99, AGENT_EXITED, {0}, 3};
	struct agent_proc_signal kill = {AGENT_BY_PID, 0, 1234, 9, AGENT_TO_PROCESS};
	struct agent_value lost = {65536};

	page(AGENT_EXEC, 0, &exec, NULL, 0);
	page(AGENT_BLOB, 0, NULL, TAIL("user\0/cwd\0tag\0ls\0-l\0K=Value"));
	page(AGENT_ATTACH, 0, &attach, TAIL("tag"));
	page(AGENT_STARTED, 0, &started, NULL, 0);
	page(AGENT_EXIT, 0, &ended, NULL, 0);
	page(AGENT_LOST, AGENT_STDOUT, &lost, NULL, 0);
	page(AGENT_SIGNAL, 0, &sig, NULL, 0);
	page(AGENT_RESIZE, 0, &size, NULL, 0);
	page(AGENT_DETACH, 0, NULL, NULL, 0);
	page(AGENT_PROC_LIST, 0, NULL, NULL, 0);
	page(AGENT_PROC, 0, &proc, TAIL("user\0/cwd\0tag\0sh\0A=B"));
	page(AGENT_PROC_SIGNAL, 0, &kill, TAIL(""));
}

static void pages_of_files(void)
{
	struct agent_file file = {AGENT_FILE_PARENTS, 0644, 5, 6, -7, 2, 0};
	struct agent_entry entry = {.type = AGENT_TYPE_SYMLINK,
				    .target_type = AGENT_TYPE_FILE,
				    .mode = 0120777,
				    .target_mode = 0100644,
				    .uid = 1,
				    .gid = 2,
				    .nlink = 3,
				    .size = 4,
				    .mtime_ns = 5,
				    .ino = 6};
	struct agent_event event = {AGENT_EV_RENAME, 1, 77, 0};

	for (uint16_t type = AGENT_FILE_READ; type <= AGENT_WATCH; type++)
		page(type, 0, &file, TAIL("user\0/path\0arg"));
	page(AGENT_ENTRY, 0, &entry, TAIL("name\0owner\0group\0target"));
	page(AGENT_EVENT, 0, &event, TAIL("a/b"));
}

static void pages_of_the_machine(void)
{
	struct agent_forward forward = {8080, 4, 5000};
	struct agent_pong pong = {AGENT_IS_INIT, 0, 1, 2};
	struct agent_metrics_ok metrics = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0};
	struct agent_clock clock = {1700000000000000000, 50000000};
	struct agent_clock_ok clock_ok = {1, 2, 1, 0};
	struct agent_freeze freeze = {1000, 0};
	struct agent_power power = {AGENT_POWER_REBOOT, 500};

	page(AGENT_FORWARD, 0, &forward, NULL, 0);
	page(AGENT_PING, 0, NULL, NULL, 0);
	page(AGENT_PONG, 0, &pong, TAIL("0.1.0"));
	page(AGENT_METRICS, 0, NULL, NULL, 0);
	page(AGENT_METRICS_OK, 0, &metrics, NULL, 0);
	page(AGENT_CLOCK, 0, &clock, NULL, 0);
	page(AGENT_CLOCK_OK, 0, &clock_ok, NULL, 0);
	page(AGENT_RESEED, 0, NULL, "\1\2\3\4", 4);
	page(AGENT_IDENTITY, 0, NULL,
	     TAIL("host\0"
		  "00112233445566778899aabbccddeeff"));
	page(AGENT_FREEZE, 0, &freeze, TAIL("/\0/data"));
	page(AGENT_THAW, 0, NULL, NULL, 0);
	page(AGENT_POWER, 0, &power, NULL, 0);
}

static void pages_of_waking(void)
{
	struct agent_wake wake = {1700000000000000000, 50000000, 7, {1, 2, 3}, {0}};
	struct agent_wake_ok wake_ok = {1, 2, 7, AGENT_WOKE_STEPPED | AGENT_WOKE_RESEEDED, 0};

	page(AGENT_WAKE, 0, &wake,
	     TAIL("host\0"
		  "00112233445566778899aabbccddeeff"));
	page(AGENT_WAKE_OK, 0, &wake_ok, NULL, 0);
}

static void write_book(void)
{
	struct agent_hello hello = {AGENT_MAGIC, 1, 1, 0};
	struct agent_hello_ok hello_ok = {AGENT_MAGIC, 1, 0, 0};
	struct agent_error error = {ENOENT, AGENT_STAGE_EXEC, 0};
	struct agent_value value = {42};
	struct agent_credit credit = {4096};

	book_len = 0;
	page(AGENT_HELLO, 0, &hello, NULL, 0);
	page(AGENT_HELLO_OK, 0, &hello_ok, NULL, 0);
	page(AGENT_ERROR, 0, &error, TAIL("not found"));
	page(AGENT_OK, 0, &value, NULL, 0);
	page(AGENT_END, 0, &value, NULL, 0);
	page(AGENT_DATA, AGENT_STDERR, NULL, "bytes", 5);
	page(AGENT_EOF, AGENT_STDIN, NULL, NULL, 0);
	page(AGENT_CREDIT, AGENT_STDOUT, &credit, NULL, 0);
	pages_of_processes();
	pages_of_files();
	pages_of_the_machine();
	pages_of_waking();
}

static void wire__version_1__bytes_are_the_golden_ones(void **state)
{
	static uint8_t golden[sizeof(book)];

	(void)state;
	write_book();
	if (getenv("GOLDEN_WRITE")) {
		FILE *out = fopen(GOLDEN, "we");
		assert_non_null(out);
		assert_int_equal(fwrite(book, 1, book_len, out), book_len);
		fclose(out);
	}
	FILE *f = fopen(GOLDEN, "re");
	assert_non_null(f);
	size_t len = fread(golden, 1, sizeof(golden), f);
	fclose(f);
	assert_int_equal(len, book_len);
	assert_memory_equal(golden, book, len);
}

static void wire__every_message__passes_its_gate_and_no_shorter_one_does(void **state)
{
	unsigned count = 0;

	(void)state;
	write_book();
	for (size_t at = 0; at < book_len; count++) {
		struct agent_frame frame;
		memcpy(&frame, book + at, sizeof(frame));
		const uint8_t *payload = book + at + sizeof(frame);
		assert_int_equal(agent_frame_check(&frame, AGENT_FROM_BOTH), 0);
		assert_int_equal(agent_msg_check(&frame, payload), 0);
		at += sizeof(frame) + frame.len;
		bool raw = frame.type == AGENT_DATA || frame.type == AGENT_BLOB ||
			   frame.type == AGENT_RESEED;
		for (uint32_t len = 0; len < frame.len && !raw; len++) {
			struct agent_frame cut = {len, frame.type, frame.stream};
			/* A cut list of paths that ends at a NUL is a shorter list. */
			if (frame.type == AGENT_FREEZE && len > 8 && payload[len - 1] == '\0')
				continue;
			assert_int_equal(agent_msg_check(&cut, payload), -EPROTO);
		}
	}
	assert_int_equal(count, 52);
}

static void wire__rsvd_flags_ranges__refused(void **state)
{
	struct agent_hello hello = {AGENT_MAGIC, 1, 1, 1};
	struct agent_file file = {.flags = 0x100};
	struct agent_power power = {3, 0};
	struct agent_credit credit = {0};
	struct agent_wake wake = {.rsvd = {[15] = 1}};
	struct agent_wake_ok woke = {.done = 0x10};
	struct agent_exit ended = {.how = AGENT_EXITED, .status = 256};
	uint8_t out[512];

	(void)state;
	assert_int_equal(agent_msg_put(out, sizeof(out), AGENT_HELLO, 0, &hello, NULL, 0), -EPROTO);
	hello = (struct agent_hello){AGENT_MAGIC, 2, 1, 0};
	assert_int_equal(agent_msg_put(out, sizeof(out), AGENT_HELLO, 0, &hello, NULL, 0), -EPROTO);
	assert_int_equal(agent_msg_put(out, sizeof(out), AGENT_STAT, 0, &file, TAIL("\0\0")),
			 -EPROTO);
	file.flags = 0;
	assert_true(agent_msg_put(out, sizeof(out), AGENT_STAT, 0, &file, TAIL("\0\0")) > 0);
	file.rsvd = 1;
	assert_int_equal(agent_msg_put(out, sizeof(out), AGENT_STAT, 0, &file, TAIL("\0\0")),
			 -EPROTO);
	assert_int_equal(agent_msg_put(out, sizeof(out), AGENT_WAKE, 0, &wake, TAIL("\0")),
			 -EPROTO);
	wake = (struct agent_wake){.realtime_ns = -1};
	assert_int_equal(agent_msg_put(out, sizeof(out), AGENT_WAKE, 0, &wake, TAIL("\0")),
			 -EPROTO);
	wake.realtime_ns = 0;
	assert_true(agent_msg_put(out, sizeof(out), AGENT_WAKE, 0, &wake, TAIL("\0")) > 0);
	assert_int_equal(agent_msg_put(out, sizeof(out), AGENT_WAKE_OK, 0, &woke, NULL, 0),
			 -EPROTO);
	assert_int_equal(agent_msg_put(out, sizeof(out), AGENT_POWER, 0, &power, NULL, 0), -EPROTO);
	assert_int_equal(agent_msg_put(out, sizeof(out), AGENT_CREDIT, 1, &credit, NULL, 0),
			 -EPROTO);
	assert_int_equal(agent_msg_put(out, sizeof(out), AGENT_EXIT, 0, &ended, NULL, 0), -EPROTO);
	assert_int_equal(agent_msg_put(out, sizeof(out), AGENT_DATA, 3, NULL, "x", 1), -EPROTO);
	assert_int_equal(agent_msg_put(out, sizeof(out), AGENT_PING, 1, NULL, NULL, 0), -EPROTO);
	assert_int_equal(agent_msg_put(out, sizeof(out), 0x7fff, 0, NULL, NULL, 0), -EPROTO);
	assert_int_equal(agent_msg_put(out, 10, AGENT_PING, 0, NULL, NULL, 0), 8);
	assert_int_equal(agent_msg_put(out, 7, AGENT_PING, 0, NULL, NULL, 0), -ENOSPC);
}

static void wire__direction_and_size__checked_in_the_header(void **state)
{
	struct agent_frame frame = {0, AGENT_EXEC, 0};

	(void)state;
	assert_int_equal(agent_frame_check(&frame, AGENT_FROM_CLIENT), 0);
	assert_int_equal(agent_frame_check(&frame, AGENT_FROM_AGENT), -EPROTO);
	frame = (struct agent_frame){AGENT_FRAME_MAX, AGENT_DATA, 1};
	assert_int_equal(agent_frame_check(&frame, AGENT_FROM_AGENT), 0);
	frame.len++;
	assert_int_equal(agent_frame_check(&frame, AGENT_FROM_AGENT), -E2BIG);
}

static void wire__blob__counts_strings_exactly(void **state)
{
	(void)state;
	assert_int_equal(agent_blob_check("a\0b\0", 4, 2), 0);
	assert_int_equal(agent_blob_check("a\0b\0", 4, 1), -EPROTO);
	assert_int_equal(agent_blob_check("a\0b\0", 4, 3), -EPROTO);
	assert_int_equal(agent_blob_check("a\0b", 3, 2), -EPROTO);
	assert_int_equal(agent_blob_check("", 0, 0), -EPROTO);
}

static void escape__hostile_text__made_printable(void **state)
{
	char out[64];

	(void)state;
	assert_string_equal(agentc_escape(out, sizeof(out), "a\x1b[2J\n\\", 7),
			    "a\\x1b[2J\\x0a\\x5c");
	assert_string_equal(agentc_escape(out, sizeof(out), "h\xc3\xa9\xff", 4), "h\xc3\xa9\\xff");
	/* C1 control, direction override, overlong, cut sequence */
	assert_string_equal(agentc_escape(out, sizeof(out), "\xc2\x9b", 2), "\\xc2\\x9b");
	assert_string_equal(agentc_escape(out, sizeof(out), "\xe2\x80\xae", 3), "\\xe2\\x80\\xae");
	assert_string_equal(agentc_escape(out, sizeof(out), "\xc0\xaf", 2), "\\xc0\\xaf");
	assert_string_equal(agentc_escape(out, sizeof(out), "\xe2\x82", 2), "\\xe2\\x82");
	assert_string_equal(agentc_escape(out, 6, "\x01\x02", 2), "\\x01");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wire__version_1__bytes_are_the_golden_ones),
		cmocka_unit_test(wire__every_message__passes_its_gate_and_no_shorter_one_does),
		cmocka_unit_test(wire__rsvd_flags_ranges__refused),
		cmocka_unit_test(wire__direction_and_size__checked_in_the_header),
		cmocka_unit_test(wire__blob__counts_strings_exactly),
		cmocka_unit_test(escape__hostile_text__made_printable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
