/* SPDX-License-Identifier: Apache-2.0 */
/* i8042.c - see i8042.h for the theory */
#include "devices/i8042.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum { OFF_DATA = 0, OFF_COMMAND = 4 };
enum { STATUS_OUTPUT_FULL = 1, STATUS_SYSTEM = 4, STATUS_COMMAND = 8, STATUS_UNLOCKED = 0x10 };

enum command {
	CMD_READ_CONFIG = 0x20,
	CMD_WRITE_CONFIG = 0x60,
	CMD_TEST_AUX = 0xa9,
	CMD_SELF_TEST = 0xaa,
	CMD_TEST_KEYBOARD = 0xab,
	CMD_READ_OUTPUT = 0xd0,
	CMD_WRITE_OUTPUT = 0xd1,
	CMD_LOOP_KEYBOARD = 0xd2,
	CMD_LOOP_AUX = 0xd3,
	CMD_SEND_AUX = 0xd4,
	CMD_PULSE = 0xf0, /* to 0xff: a 0 in bits 3..0 pulses that output line */
};

enum {
	SELF_TEST_PASSED = 0x55,
	TEST_CLOCK_LOW = 0x01, /* of an interface: nothing is plugged in */
	REPLY_ERROR = 0xfe,
	OUTPUT_RESET = 1, /* low: the CPU is held in reset */
	OUTPUT_A20 = 2,
	CONFIG_RESET = 0x74, /* system flag, both interfaces disabled, translation */
};

struct i8042 {
	void (*reset)(void *ctx); /* const */
	void *ctx;                /* const */
	pthread_mutex_t lock;
	/* lock: lock */
	uint8_t config, output_port;
	uint8_t wants_data; /* the command whose data byte comes next, or 0 */
	bool last_was_command;
	bool full; /* `reply` waits */
	uint8_t reply;
	unsigned noise; /* bytes of noise left */
};

int i8042_create(struct i8042 **out, void (*reset)(void *ctx), void *ctx, struct errmsg *why)
{
	assert(reset);
	struct i8042 *kbd = calloc(1, sizeof(*kbd));
	if (!kbd)
		return err_set(why, ENOMEM, "create the keyboard controller");
	kbd->reset = reset;
	kbd->ctx = ctx;
	kbd->config = CONFIG_RESET;
	kbd->output_port = OUTPUT_RESET | OUTPUT_A20;
	kbd->noise = I8042_NOISE;
	VERIFY(pthread_mutex_init(&kbd->lock, NULL) == 0);
	*out = kbd;
	return 0;
}

void i8042_destroy(struct i8042 *kbd)
{
	if (!kbd)
		return;
	pthread_mutex_destroy(&kbd->lock);
	free(kbd);
}

/* A reply displaces what was not read, noise too: who asks has stopped draining.  Lock held. */
static void answer(struct i8042 *kbd, uint8_t byte)
{
	kbd->reply = byte;
	kbd->full = true;
	kbd->noise = 0;
}

static uint8_t read_status(const struct i8042 *kbd)
{
	return (uint8_t)(STATUS_SYSTEM | STATUS_UNLOCKED |
			 (kbd->last_was_command ? STATUS_COMMAND : 0) |
			 (kbd->full || kbd->noise ? STATUS_OUTPUT_FULL : 0));
}

static uint8_t read_data(struct i8042 *kbd)
{
	if (kbd->full) {
		kbd->full = false;
		return kbd->reply;
	}
	if (kbd->noise)
		kbd->noise--;
	return 0xff;
}

/* Return: the machine is to be reset.  Lock held. */
static bool write_command(struct i8042 *kbd, uint8_t cmd)
{
	kbd->last_was_command = true;
	kbd->wants_data = 0;
	switch (cmd) {
	case CMD_READ_CONFIG: answer(kbd, kbd->config); break;
	case CMD_SELF_TEST: answer(kbd, SELF_TEST_PASSED); break;
	case CMD_TEST_AUX:
	case CMD_TEST_KEYBOARD: answer(kbd, TEST_CLOCK_LOW); break;
	case CMD_READ_OUTPUT: answer(kbd, kbd->output_port); break;
	case CMD_WRITE_CONFIG:
	case CMD_WRITE_OUTPUT:
	case CMD_LOOP_KEYBOARD:
	case CMD_LOOP_AUX:
	case CMD_SEND_AUX: kbd->wants_data = cmd; break;
	default: return cmd >= CMD_PULSE && !(cmd & OUTPUT_RESET);
	}
	return false;
}

/* Return: the machine is to be reset.  Lock held. */
static bool write_data(struct i8042 *kbd, uint8_t val)
{
	uint8_t cmd = kbd->wants_data;

	kbd->last_was_command = false;
	kbd->wants_data = 0;
	switch (cmd) {
	case CMD_WRITE_CONFIG: kbd->config = val; break;
	case CMD_WRITE_OUTPUT:
		if (!(val & OUTPUT_RESET))
			return true;
		kbd->output_port = val;
		break;
	case CMD_LOOP_KEYBOARD: answer(kbd, val); break;
	default: answer(kbd, REPLY_ERROR); break; /* for a keyboard or mouse: there is none */
	}
	return false;
}

void i8042_read(struct i8042 *kbd, uint64_t off, void *buf, uint32_t len)
{
	memset(buf, 0xff, len);
	if (!len)
		return;
	cleanup_unlock pthread_mutex_t *held = hold(&kbd->lock);
	if (off == OFF_DATA)
		*(uint8_t *)buf = read_data(kbd);
	else if (off == OFF_COMMAND)
		*(uint8_t *)buf = read_status(kbd);
}

static bool access_write(struct i8042 *kbd, uint64_t off, uint8_t val)
{
	cleanup_unlock pthread_mutex_t *held = hold(&kbd->lock);

	if (off == OFF_COMMAND)
		return write_command(kbd, val);
	return off == OFF_DATA && write_data(kbd, val);
}

void i8042_write(struct i8042 *kbd, uint64_t off, const void *buf, uint32_t len)
{
	if (len && access_write(kbd, off, *(const uint8_t *)buf))
		kbd->reset(kbd->ctx);
}

void i8042_save(struct i8042 *kbd, struct snap_i8042 *out)
{
	cleanup_unlock pthread_mutex_t *held = hold(&kbd->lock);
	unsigned flags = (kbd->last_was_command ? SNAP_I8042_COMMAND : 0) |
			 (kbd->full ? SNAP_I8042_FULL : 0);

	*out = (struct snap_i8042){.config = kbd->config,
				   .output_port = kbd->output_port,
				   .wants_data = kbd->wants_data,
				   .reply = kbd->reply,
				   .flags = (uint8_t)flags,
				   .noise = (uint8_t)kbd->noise};
}

static bool takes_data(uint8_t cmd)
{
	return cmd == CMD_WRITE_CONFIG || cmd == CMD_WRITE_OUTPUT || cmd == CMD_LOOP_KEYBOARD ||
	       cmd == CMD_LOOP_AUX || cmd == CMD_SEND_AUX;
}

static int check_saved(const struct snap_i8042 *in, struct errmsg *why)
{
	const char *bad = NULL;

	if (in->wants_data && !takes_data(in->wants_data))
		bad = "command";
	else if (!(in->output_port & OUTPUT_RESET))
		bad = "output port";
	else if (in->flags & ~(SNAP_I8042_COMMAND | SNAP_I8042_FULL))
		bad = "flag";
	else if (in->noise > I8042_NOISE)
		bad = "count";
	else if (in->rsvd)
		bad = "reserved field";
	if (!bad)
		return 0;
	err_set(why, 0, "saved keyboard controller has a bad %s", bad);
	return -EBADMSG;
}

int i8042_load(struct i8042 *kbd, const struct snap_i8042 *in, struct errmsg *why)
{
	int err = check_saved(in, why);
	if (err)
		return err;

	cleanup_unlock pthread_mutex_t *held = hold(&kbd->lock);
	kbd->config = in->config;
	kbd->output_port = in->output_port;
	kbd->wants_data = in->wants_data;
	kbd->reply = in->reply;
	kbd->last_was_command = in->flags & SNAP_I8042_COMMAND;
	kbd->full = in->flags & SNAP_I8042_FULL;
	kbd->noise = in->noise;
	return 0;
}
