/* SPDX-License-Identifier: Apache-2.0 */
/* serial.c - see serial.h for the theory */
#include "devices/serial.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"

static_assert(SERIAL_RX_SIZE == SNAP_SERIAL_RX, "input");

enum reg { DATA, IER, IIR_FCR, LCR, MCR, LSR, MSR, SCR };

enum { IER_RX = 1, IER_TX = 2, IER_LINE = 4, IER_MODEM = 8, IER_MASK = 0xf };
enum { IIR_NONE = 1, IIR_TX = 2, IIR_RX = 4, IIR_LINE = 6, IIR_TIMEOUT = 0xc, IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2, FCR_TRIGGER_SHIFT = 6 };
enum { LCR_DLAB = 0x80 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 0x10, MCR_MASK = 0x1f };
enum { LSR_DATA = 1, LSR_OVERRUN = 2, LSR_THR_EMPTY = 0x20, LSR_TX_EMPTY = 0x40 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };

#define DIVISOR_RESET 12u /* 9600 baud, what firmware leaves behind */

struct serial {
	const struct serial_ops *ops; /* const */
	void *ctx;                    /* const */
	int irq_fd;                   /* lock; borrowed */
	pthread_mutex_t lock;
	/* lock: lock */
	uint8_t ier, lcr, mcr, scr, fcr;
	uint16_t divisor;
	bool overrun;    /* LSR bit, until LSR is read */
	bool tx_pending; /* the transmitter ran empty and IIR has not said so yet */
	bool refused;    /* serial_feed() is owed an rx_room() */
	uint8_t raised;  /* IER bits of the sources pending when the line was last looked at */
	uint8_t rx[SERIAL_RX_SIZE];
	unsigned rx_head, rx_count;
};

/* What an access leads to once the lock is released. */
struct after {
	uint8_t tx;
	bool has_tx, room;
};

int serial_create(struct serial **out, const struct serial_ops *ops, void *ctx, int irq_fd,
		  struct errmsg *why)
{
	assert(ops->tx);
	struct serial *s = calloc(1, sizeof(*s));
	if (!s)
		return err_set(why, ENOMEM, "create the serial port");
	s->ops = ops;
	s->ctx = ctx;
	s->irq_fd = irq_fd;
	s->divisor = DIVISOR_RESET;
	VERIFY(pthread_mutex_init(&s->lock, NULL) == 0);
	*out = s;
	return 0;
}

void serial_destroy(struct serial *s)
{
	if (!s)
		return;
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* --- interrupts: lock held ------------------------------------------------------------------------- */

/* IER bits of the sources that are pending and enabled. */
static uint8_t pending(const struct serial *s)
{
	unsigned p = (s->rx_count ? IER_RX : 0) | (s->tx_pending ? IER_TX : 0) |
		     (s->overrun ? IER_LINE : 0);
	return (uint8_t)(p & s->ier);
}

static void raise_line(const struct serial *s)
{
	uint64_t one = 1;

	/* Full is fine: an interrupt is on its way then. */
	if (write(s->irq_fd, &one, sizeof(one)) < 0)
		assert(errno == EAGAIN);
}

static void update_line(struct serial *s)
{
	uint8_t now = pending(s);

	if (now & ~s->raised)
		raise_line(s);
	s->raised = now;
}

void serial_set_line(struct serial *s, int irq_fd)
{
	cleanup_unlock pthread_mutex_t *held = hold(&s->lock);
	s->irq_fd = irq_fd;
}

void serial_reassert(struct serial *s)
{
	cleanup_unlock pthread_mutex_t *held = hold(&s->lock);
	if (pending(s))
		raise_line(s);
}

/* --- input: lock held --------------------------------------------------------------------------------- */
static void rx_push(struct serial *s, uint8_t byte)
{
	if (s->rx_count == SERIAL_RX_SIZE) {
		s->overrun = true;
		return;
	}
	s->rx[(s->rx_head + s->rx_count++) % SERIAL_RX_SIZE] = byte;
}

static uint8_t rx_pop(struct serial *s)
{
	if (!s->rx_count)
		return 0;
	uint8_t byte = s->rx[s->rx_head];
	s->rx_head = (s->rx_head + 1) % SERIAL_RX_SIZE;
	s->rx_count--;
	return byte;
}

/* True once after bytes were refused, when there is room for all of the FIFO again. */
static bool owes_room(struct serial *s)
{
	if (!s->refused || s->rx_count || s->mcr & MCR_LOOP)
		return false;
	s->refused = false;
	return true;
}

size_t serial_feed(struct serial *s, const uint8_t *bytes, size_t len)
{
	cleanup_unlock pthread_mutex_t *held = hold(&s->lock);
	size_t room = s->mcr & MCR_LOOP ? 0 : SERIAL_RX_SIZE - s->rx_count;
	size_t taken = len < room ? len : room;

	for (size_t i = 0; i < taken; i++)
		rx_push(s, bytes[i]);
	if (taken < len)
		s->refused = true;
	update_line(s);
	return taken;
}

/* --- registers: lock held ----------------------------------------------------------------------------- */
static uint8_t read_iir(struct serial *s)
{
	static const uint8_t trigger[] = {1, 4, 8, 14};
	uint8_t p = pending(s);
	unsigned iir = IIR_NONE;

	if (p & IER_LINE) {
		iir = IIR_LINE;
	} else if (p & IER_RX) {
		bool few =
			s->fcr & FCR_ENABLE && s->rx_count < trigger[s->fcr >> FCR_TRIGGER_SHIFT];
		iir = few ? IIR_TIMEOUT : IIR_RX;
	} else if (p & IER_TX) {
		iir = IIR_TX;
		s->tx_pending = false; /* told once */
	}
	return (uint8_t)(iir | (s->fcr & FCR_ENABLE ? IIR_FIFO : 0));
}

static uint8_t read_lsr(struct serial *s)
{
	unsigned lsr = LSR_THR_EMPTY | LSR_TX_EMPTY | (s->rx_count ? LSR_DATA : 0) |
		       (s->overrun ? LSR_OVERRUN : 0);
	s->overrun = false;
	return (uint8_t)lsr;
}

static uint8_t read_msr(const struct serial *s)
{
	if (!(s->mcr & MCR_LOOP))
		return MSR_DCD | MSR_DSR | MSR_CTS;
	return (uint8_t)((s->mcr & MCR_RTS ? MSR_CTS : 0) | (s->mcr & MCR_DTR ? MSR_DSR : 0) |
			 (s->mcr & MCR_OUT1 ? MSR_RI : 0) | (s->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static uint8_t read_reg(struct serial *s, uint64_t reg)
{
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case DATA: return dlab ? (uint8_t)s->divisor : rx_pop(s);
	case IER: return dlab ? (uint8_t)(s->divisor >> 8) : s->ier;
	case IIR_FCR: return read_iir(s);
	case LCR: return s->lcr;
	case MCR: return s->mcr;
	case LSR: return read_lsr(s);
	case MSR: return read_msr(s);
	case SCR: return s->scr;
	default: return 0xff;
	}
}

/* The byte is gone at once, and the transmitter empty again: a new reason to interrupt. */
static void write_thr(struct serial *s, uint8_t val, struct after *after)
{
	s->tx_pending = true;
	if (s->mcr & MCR_LOOP)
		rx_push(s, val);
	else
		*after = (struct after){.tx = val, .has_tx = true};
}

static void write_ier(struct serial *s, uint8_t val)
{
	if (val & ~s->ier & IER_TX) /* switched on while the transmitter is empty */
		s->tx_pending = true;
	s->ier = val & IER_MASK;
}

static void write_fcr(struct serial *s, uint8_t val)
{
	if (val & FCR_CLEAR_RX || (val ^ s->fcr) & FCR_ENABLE)
		s->rx_count = 0;
	/* Without the enable bit the others are not programmed. */
	s->fcr = val & FCR_ENABLE ? val : 0;
}

static void write_reg(struct serial *s, uint64_t reg, uint8_t val, struct after *after)
{
	bool dlab = s->lcr & LCR_DLAB;

	switch (reg) {
	case DATA:
		if (dlab)
			s->divisor = (uint16_t)((s->divisor & 0xff00) | val);
		else
			write_thr(s, val, after);
		break;
	case IER:
		if (dlab)
			s->divisor = (uint16_t)((s->divisor & 0xff) | val << 8);
		else
			write_ier(s, val);
		break;
	case IIR_FCR: write_fcr(s, val); break;
	case LCR: s->lcr = val; break;
	case MCR: s->mcr = val & MCR_MASK; break;
	case SCR: s->scr = val; break;
	default: break; /* LSR and MSR are read-only, the rest is nobody's */
	}
}

static struct after access_read(struct serial *s, uint64_t reg, uint8_t *val)
{
	cleanup_unlock pthread_mutex_t *held = hold(&s->lock);

	*val = read_reg(s, reg);
	update_line(s);
	return (struct after){.room = owes_room(s)};
}

static struct after access_write(struct serial *s, uint64_t reg, uint8_t val)
{
	cleanup_unlock pthread_mutex_t *held = hold(&s->lock);
	struct after after = {0};

	write_reg(s, reg, val, &after);
	update_line(s);
	after.room = owes_room(s);
	return after;
}

static void carry_out(struct serial *s, const struct after *after)
{
	if (after->has_tx)
		s->ops->tx(s->ctx, &after->tx, 1);
	if (after->room && s->ops->rx_room)
		s->ops->rx_room(s->ctx);
}

void serial_read(struct serial *s, uint64_t off, void *buf, uint32_t len)
{
	uint8_t *to = buf;

	for (uint32_t i = 0; i < len; i++) {
		struct after after = access_read(s, off + i, &to[i]);
		carry_out(s, &after);
	}
}

void serial_write(struct serial *s, uint64_t off, const void *buf, uint32_t len)
{
	const uint8_t *from = buf;

	for (uint32_t i = 0; i < len; i++) {
		struct after after = access_write(s, off + i, from[i]);
		carry_out(s, &after);
	}
}

/* --- snapshot ---------------------------------------------------------------------------------------- */
void serial_save(struct serial *s, struct snap_serial *out)
{
	cleanup_unlock pthread_mutex_t *held = hold(&s->lock);
	unsigned flags =
		(s->overrun ? SNAP_SERIAL_OVERRUN : 0) | (s->tx_pending ? SNAP_SERIAL_THRE : 0);

	*out = (struct snap_serial){.ier = s->ier,
				    .lcr = s->lcr,
				    .mcr = s->mcr,
				    .scr = s->scr,
				    .fcr = s->fcr,
				    .flags = (uint8_t)flags,
				    .divisor = s->divisor,
				    .rx_count = (uint8_t)s->rx_count};
	for (unsigned i = 0; i < s->rx_count; i++)
		out->rx[i] = s->rx[(s->rx_head + i) % SERIAL_RX_SIZE];
}

static int check_saved(const struct snap_serial *in, struct errmsg *why)
{
	const char *bad = NULL;

	if (in->ier & ~IER_MASK)
		bad = "IER";
	else if (in->mcr & ~MCR_MASK)
		bad = "MCR";
	else if (in->fcr && !(in->fcr & FCR_ENABLE))
		bad = "FCR";
	else if (in->flags & ~(SNAP_SERIAL_OVERRUN | SNAP_SERIAL_THRE))
		bad = "flag";
	else if (in->rx_count > SERIAL_RX_SIZE ||
		 !bytes_zero(in->rx + in->rx_count, SERIAL_RX_SIZE - in->rx_count))
		bad = "input";
	else if (!bytes_zero(in->rsvd, sizeof(in->rsvd)))
		bad = "reserved field";
	if (!bad)
		return 0;
	err_set(why, 0, "saved serial port has a bad %s", bad);
	return -EBADMSG;
}

int serial_load(struct serial *s, const struct snap_serial *in, struct errmsg *why)
{
	int err = check_saved(in, why);
	if (err)
		return err;

	cleanup_unlock pthread_mutex_t *held = hold(&s->lock);
	s->ier = in->ier;
	s->lcr = in->lcr;
	s->mcr = in->mcr;
	s->scr = in->scr;
	s->fcr = in->fcr;
	s->divisor = in->divisor;
	s->overrun = in->flags & SNAP_SERIAL_OVERRUN;
	s->tx_pending = in->flags & SNAP_SERIAL_THRE;
	memcpy(s->rx, in->rx, sizeof(s->rx));
	s->rx_head = 0;
	s->rx_count = in->rx_count;
	s->raised = pending(s);
	return 0;
}
