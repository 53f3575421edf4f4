/* SPDX-License-Identifier: Apache-2.0 */
/* The keyboard controller: every way to reset, and every way a driver may look for a keyboard. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "devices/i8042.h"

enum { DATA = 0, CMD = 4 };
enum { OBF = 1, IBF = 2 };

struct fixture {
	struct i8042 *kbd;
	unsigned resets;
};

static void on_reset(void *ctx)
{
	struct fixture *f = ctx;
	uint8_t v;
	f->resets++;
	i8042_read(f->kbd, CMD, &v, 1); /* called without the lock: must not hang */
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	assert_int_equal(i8042_create(&f->kbd, on_reset, f, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	i8042_destroy(f->kbd);
	free(f);
	return 0;
}

static uint8_t in(struct fixture *f, uint64_t off)
{
	uint8_t v = 0;
	i8042_read(f->kbd, off, &v, 1);
	return v;
}

static void out(struct fixture *f, uint64_t off, uint8_t v)
{
	i8042_write(f->kbd, off, &v, 1);
}

/* What the controller answers to a command: it must be there at once, and only once. */
static uint8_t ask(struct fixture *f, uint8_t cmd)
{
	out(f, CMD, cmd);
	assert_int_equal(in(f, CMD) & (OBF | IBF), OBF);
	uint8_t v = in(f, DATA);
	assert_int_equal(in(f, CMD) & OBF, 0);
	return v;
}

static void i8042__0xfe__resets(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(in(f, CMD) & IBF, 0); /* what Linux waits for first */
	out(f, CMD, 0xfe);
	assert_int_equal(f->resets, 1);
}

static void i8042__pulses__reset_only_with_line_0(void **state)
{
	struct fixture *f = *state;
	for (unsigned cmd = 0xf0; cmd <= 0xff; cmd++)
		out(f, CMD, (uint8_t)cmd);
	assert_int_equal(f->resets, 8);
}

static void i8042__other_commands__never_reset(void **state)
{
	struct fixture *f = *state;
	for (unsigned cmd = 0; cmd < 0xf0; cmd++)
		out(f, CMD, (uint8_t)cmd);
	for (unsigned v = 0; v <= 0xff; v++)
		out(f, DATA, (uint8_t)v);
	assert_int_equal(f->resets, 0);
}

static void i8042__output_port__a20_harmless_bit_0_resets(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(ask(f, 0xd0), 0x03);
	out(f, CMD, 0xd1);
	out(f, DATA, 0xdf);
	assert_int_equal(ask(f, 0xd0), 0xdf);
	assert_int_equal(f->resets, 0);
	out(f, CMD, 0xd1);
	out(f, DATA, 0xfe);
	assert_int_equal(f->resets, 1);
}

/* Linux' i8042_flush(): sixteen bytes and still not empty is "no controller found". */
static void i8042__linux_probe__finds_no_controller(void **state)
{
	struct fixture *f = *state;
	unsigned count = 0;
	while (in(f, CMD) & OBF && count < 17) {
		assert_int_equal(in(f, DATA), 0xff);
		count++;
	}
	assert_int_equal(count, 17);
}

static void i8042__drain__ends(void **state)
{
	struct fixture *f = *state;
	unsigned count = 0;
	while (in(f, CMD) & OBF && count < 1000) {
		in(f, DATA);
		count++;
	}
	assert_int_equal(count, I8042_NOISE);
	assert_int_equal(in(f, DATA), 0xff);
	assert_int_equal(in(f, CMD) & OBF, 0);
}

static void i8042__commands__answered_at_once(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(ask(f, 0xaa), 0x55);
	assert_int_equal(ask(f, 0xa9), 0x01);
	assert_int_equal(ask(f, 0xab), 0x01);
	out(f, CMD, 0x60);
	out(f, DATA, 0x47);
	assert_int_equal(ask(f, 0x20), 0x47);
	out(f, CMD, 0xd2);
	out(f, DATA, 0x5a);
	assert_int_equal(in(f, DATA), 0x5a);
	out(f, CMD, 0xd3); /* the mouse's loop does not loop */
	out(f, DATA, 0x5a);
	assert_int_equal(in(f, DATA), 0xfe);
	out(f, DATA, 0xf2); /* to a keyboard that is not there */
	assert_int_equal(in(f, DATA), 0xfe);
}

static void i8042__other_offsets_and_widths__harmless(void **state)
{
	struct fixture *f = *state;
	uint8_t wide[4] = {0xfe, 0xfe, 0xfe, 0xfe};

	i8042_write(f->kbd, 1, wide, 1);
	i8042_write(f->kbd, CMD, wide, 0);
	i8042_write(f->kbd, UINT64_MAX, wide, 4);
	assert_int_equal(f->resets, 0);
	memset(wide, 0, sizeof(wide));
	i8042_read(f->kbd, CMD, wide, sizeof(wide));
	assert_int_equal(wide[0], 0x15);
	assert_int_equal(wide[3], 0xff);
	i8042_read(f->kbd, CMD, wide, 0);
	assert_int_equal(in(f, 2), 0xff);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(i8042__0xfe__resets),
		T(i8042__pulses__reset_only_with_line_0),
		T(i8042__other_commands__never_reset),
		T(i8042__output_port__a20_harmless_bit_0_resets),
		T(i8042__linux_probe__finds_no_controller),
		T(i8042__drain__ends),
		T(i8042__commands__answered_at_once),
		T(i8042__other_offsets_and_widths__harmless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
