/* SPDX-License-Identifier: Apache-2.0 */
/* The UART as drivers use it: probing, output by polling and by interrupt, input with a bounded FIFO. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include "devices/serial.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };
#define FCR       IIR
#define STORM_MAX 5000u

struct fixture {
	struct serial *s;
	int irq;
	char out[256];
	size_t out_len;
	unsigned rooms;
};

static void on_tx(void *ctx, const uint8_t *bytes, size_t len)
{
	struct fixture *f = ctx;
	assert_true(f->out_len + len <= sizeof(f->out));
	memcpy(f->out + f->out_len, bytes, len);
	f->out_len += len;
}

/* Called without the lock: feeding from here must not hang. */
static void on_room(void *ctx)
{
	struct fixture *f = ctx;
	f->rooms++;
	assert_int_equal(serial_feed(f->s, (const uint8_t *)"", 0), 0);
}

static const struct serial_ops ops = {on_tx, on_room};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	f->irq = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(f->irq >= 0);
	assert_int_equal(serial_create(&f->s, &ops, f, f->irq, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	serial_destroy(f->s);
	close(f->irq);
	free(f);
	return 0;
}

static uint8_t in(struct fixture *f, uint64_t reg)
{
	uint8_t v = 0;
	serial_read(f->s, reg, &v, 1);
	return v;
}

static void out(struct fixture *f, uint64_t reg, uint8_t v)
{
	serial_write(f->s, reg, &v, 1);
}

/* Interrupts raised since the last time. */
static uint64_t irqs(struct fixture *f)
{
	uint64_t n = 0;
	if (read(f->irq, &n, sizeof(n)) < 0)
		assert_int_equal(errno, EAGAIN);
	return n;
}

static size_t feed(struct fixture *f, const char *text)
{
	return serial_feed(f->s, (const uint8_t *)text, strlen(text));
}

static void serial__fresh__ready_and_quiet(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(in(f, LSR), 0x60);
	assert_int_equal(in(f, MSR), 0xb0);
	assert_int_equal(in(f, IIR), 0x01);
	assert_int_equal(in(f, IER), 0);
	assert_int_equal(in(f, DATA), 0);
	assert_int_equal(irqs(f), 0);
}

/* The steps by which Linux' 8250 driver comes to "16550A". */
static void serial__linux_autoconfig__is_a_16550a(void **state)
{
	struct fixture *f = *state;

	out(f, IER, 0x00);
	assert_int_equal(in(f, IER) & 0x0f, 0x00);
	out(f, IER, 0x0f);
	assert_int_equal(in(f, IER) & 0x0f, 0x0f);
	out(f, IER, 0x00);
	out(f, MCR, 0x1a); /* loopback, OUT2, RTS */
	assert_int_equal(in(f, MSR) & 0xf0, 0x90);
	out(f, MCR, 0x00);
	out(f, LCR, 0xbf);
	out(f, 2, 0x00);
	out(f, LCR, 0x00);
	out(f, FCR, 0x01);
	assert_int_equal(in(f, IIR) >> 6, 3);
	out(f, LCR, 0x80);
	assert_int_not_equal(in(f, 2), 0); /* no 16650 */
	out(f, LCR, 0x00);
	out(f, FCR, 0x21);
	assert_int_equal(in(f, IIR) >> 5, 6); /* no 16750 */
	out(f, FCR, 0x01);
	out(f, IER, 0x40); /* no XScale */
	assert_int_equal(in(f, IER), 0);
	out(f, SCR, 0xa5);
	assert_int_equal(in(f, SCR), 0xa5);
	assert_int_equal(f->out_len, 0);
}

static void serial__write__arrives_and_never_waits(void **state)
{
	struct fixture *f = *state;
	for (const char *c = "hello\n"; *c; c++) {
		assert_int_equal(in(f, LSR) & 0x60, 0x60);
		out(f, DATA, (uint8_t)*c);
	}
	assert_int_equal(f->out_len, 6);
	assert_memory_equal(f->out, "hello\n", 6);
	assert_int_equal(irqs(f), 0);
}

static void serial__divisor__behind_dlab(void **state)
{
	struct fixture *f = *state;
	out(f, LCR, 0x83);
	assert_int_equal(in(f, DATA), 12);
	out(f, DATA, 0x34);
	out(f, IER, 0x12);
	assert_int_equal(in(f, DATA), 0x34);
	assert_int_equal(in(f, IER), 0x12);
	out(f, LCR, 0x03);
	assert_int_equal(in(f, LCR), 0x03);
	assert_int_equal(in(f, IER), 0);
	assert_int_equal(f->out_len, 0);
}

/* Every THRE interrupt that a driver may wait for comes: on enabling, and after what is written on it. */
static void serial__thre_interrupt__never_lost(void **state)
{
	struct fixture *f = *state;

	out(f, IER, 0x02);
	assert_int_equal(irqs(f), 1);
	for (unsigned burst = 0; burst < 10; burst++) {
		assert_int_equal(in(f, IIR), 0x02);
		assert_int_equal(in(f, IIR), 0x01);
		for (unsigned i = 0; i < 16; i++)
			out(f, DATA, 'x');
		assert_int_equal(irqs(f), 1); /* one a burst: the line stays high */
	}
	out(f, IER, 0x00);
	assert_int_equal(in(f, IIR), 0x01);
	out(f, IER, 0x02);
	assert_int_equal(irqs(f), 1);
	assert_int_equal(in(f, IIR), 0x02);
	out(f, IER, 0x02); /* no change, no new reason */
	assert_int_equal(irqs(f), 0);
}

static void serial__input__interrupt_then_bytes_in_order(void **state)
{
	struct fixture *f = *state;
	out(f, IER, 0x01);
	assert_int_equal(feed(f, "ab"), 2);
	assert_int_equal(irqs(f), 1);
	assert_int_equal(in(f, IIR), 0x04);
	assert_int_equal(in(f, LSR), 0x61);
	assert_int_equal(in(f, DATA), 'a');
	assert_int_equal(in(f, IIR), 0x04);
	assert_int_equal(in(f, DATA), 'b');
	assert_int_equal(in(f, IIR), 0x01);
	assert_int_equal(in(f, LSR), 0x60);
	assert_int_equal(feed(f, "c"), 1);
	assert_int_equal(irqs(f), 1);
}

static void serial__fifo_below_trigger__timeout_interrupt(void **state)
{
	struct fixture *f = *state;
	out(f, FCR, 0x81); /* trigger at 8 */
	out(f, IER, 0x01);
	assert_int_equal(feed(f, "1234567"), 7);
	assert_int_equal(in(f, IIR), 0xcc);
	assert_int_equal(feed(f, "8"), 1);
	assert_int_equal(in(f, IIR), 0xc4);
	out(f, FCR, 0x83);
	assert_int_equal(in(f, LSR) & 1, 0);
	assert_int_equal(in(f, IIR), 0xc1);
}

static void serial__input_beyond_fifo__refused_and_asked_for_later(void **state)
{
	struct fixture *f = *state;
	uint8_t bytes[SERIAL_RX_SIZE + 10];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	assert_int_equal(serial_feed(f->s, bytes, sizeof(bytes)), SERIAL_RX_SIZE);
	assert_int_equal(serial_feed(f->s, bytes, 1), 0);
	for (unsigned i = 0; i < SERIAL_RX_SIZE; i++) {
		assert_int_equal(f->rooms, 0);
		assert_int_equal(in(f, DATA), i);
	}
	assert_int_equal(f->rooms, 1);
	assert_int_equal(in(f, LSR) & 2, 0); /* nothing was overrun */
	assert_int_equal(in(f, DATA), 0);
	assert_int_equal(f->rooms, 1);
}

static void serial__loopback__output_comes_back_input_waits(void **state)
{
	struct fixture *f = *state;
	out(f, MCR, 0x10);
	out(f, IER, 0x05);
	out(f, DATA, 'L');
	assert_int_equal(f->out_len, 0);
	assert_int_equal(irqs(f), 1);
	assert_int_equal(in(f, DATA), 'L');
	assert_int_equal(feed(f, "x"), 0);
	for (unsigned i = 0; i < SERIAL_RX_SIZE + 1; i++)
		out(f, DATA, 'y');
	assert_int_equal(in(f, IIR), 0x06); /* overrun: line status comes first */
	assert_int_equal(in(f, LSR) & 3, 3);
	assert_int_equal(in(f, IIR), 0x04);
	out(f, FCR, 0x03);
	assert_int_equal(f->rooms, 0);
	out(f, MCR, 0x00);
	assert_int_equal(f->rooms, 1);
	assert_int_equal(feed(f, "x"), 1);
}

static void serial__modem_lines_in_loopback__follow_mcr(void **state)
{
	struct fixture *f = *state;
	static const uint8_t want[16] = {0x00, 0x20, 0x10, 0x30, 0x40, 0x60, 0x50, 0x70,
					 0x80, 0xa0, 0x90, 0xb0, 0xc0, 0xe0, 0xd0, 0xf0};
	for (unsigned i = 0; i < 16; i++) {
		out(f, MCR, (uint8_t)(0x10 | i));
		assert_int_equal(in(f, MSR), want[i]);
	}
	out(f, MCR, 0xff);
	assert_int_equal(in(f, MCR), 0x1f);
}

static void serial__wide_access__one_register_a_byte(void **state)
{
	struct fixture *f = *state;
	uint8_t two[2] = {'a', 0x01}, wide[12];

	serial_write(f->s, DATA, two, 2);
	assert_int_equal(f->out_len, 1);
	assert_int_equal(in(f, IER), 1);
	serial_read(f->s, LSR, wide, sizeof(wide));
	assert_int_equal(wide[0], 0x60);
	assert_int_equal(wide[1], 0xb0);
	assert_int_equal(wide[3], 0xff);
	assert_int_equal(wide[11], 0xff);
	serial_write(f->s, UINT64_MAX, two, 1);
}

static void serial_reassert__pending_or_not(void **state)
{
	struct fixture *f = *state;
	serial_reassert(f->s);
	assert_int_equal(irqs(f), 0);
	out(f, IER, 0x02);
	assert_int_equal(irqs(f), 1);
	serial_reassert(f->s);
	assert_int_equal(irqs(f), 1);
	assert_int_equal(in(f, IIR), 0x02);
	serial_reassert(f->s);
	assert_int_equal(irqs(f), 0);
}

static void serial__full_eventfd__is_enough(void **state)
{
	struct fixture *f = *state;
	uint64_t most = UINT64_MAX - 1;
	assert_int_equal(write(f->irq, &most, sizeof(most)), 8);
	out(f, IER, 0x02);
	assert_int_equal(irqs(f), most);
}

struct reader {
	struct fixture *f;
	unsigned got;
	bool in_order;
};

static void *read_all(void *arg)
{
	struct reader *r = arg;
	while (r->got < STORM_MAX) {
		if (!(in(r->f, LSR) & 1)) {
			sched_yield();
			continue;
		}
		r->in_order = in(r->f, DATA) == (uint8_t)r->got && r->in_order;
		r->got++;
	}
	return NULL;
}

/* A feeder and a guest at once (for TSan, and for the order of bytes). */
static void serial__feed_beside_reads__all_in_order(void **state)
{
	struct reader r = {.f = *state, .in_order = true};
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, read_all, &r), 0);
	for (unsigned sent = 0; sent < STORM_MAX;) {
		uint8_t byte = (uint8_t)sent;
		unsigned taken = (unsigned)serial_feed(r.f->s, &byte, 1);
		sent += taken;
		if (!taken)
			sched_yield();
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(r.got, STORM_MAX);
	assert_true(r.in_order);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(serial__fresh__ready_and_quiet),
		T(serial__linux_autoconfig__is_a_16550a),
		T(serial__write__arrives_and_never_waits),
		T(serial__divisor__behind_dlab),
		T(serial__thre_interrupt__never_lost),
		T(serial__input__interrupt_then_bytes_in_order),
		T(serial__fifo_below_trigger__timeout_interrupt),
		T(serial__input_beyond_fifo__refused_and_asked_for_later),
		T(serial__loopback__output_comes_back_input_waits),
		T(serial__modem_lines_in_loopback__follow_mcr),
		T(serial__wide_access__one_register_a_byte),
		T(serial_reassert__pending_or_not),
		T(serial__full_eventfd__is_enough),
		T(serial__feed_beside_reads__all_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
