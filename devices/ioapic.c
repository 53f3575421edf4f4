/* SPDX-License-Identifier: Apache-2.0 */
/* ioapic.c - see ioapic.h for the theory */
#include "devices/ioapic.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/cleanup.h"

static_assert(IOAPIC_PINS == SNAP_IOAPIC_PINS, "pins");

/* Memory-mapped registers, and the indirect ones behind them. */
enum { OFF_SELECT = 0x00, OFF_WINDOW = 0x10, OFF_EOI = 0x40 };
enum { REG_ID = 0, REG_VERSION = 1, REG_ARBITRATION = 2, REG_RTE = 0x10 };

#define ID_MASK       0x0f000000u
#define VERSION       0x20u
#define VERSION_VALUE (VERSION | (IOAPIC_PINS - 1) << 16)

#define RTE_VECTOR     UINT64_C(0xff)
#define RTE_DELIVERY   UINT64_C(0x700)
#define RTE_LOGICAL    (UINT64_C(1) << 11)
#define RTE_STATUS     (UINT64_C(1) << 12) /* delivery status: messages leave at once, reads 0 */
#define RTE_POLARITY   (UINT64_C(1) << 13) /* kept, without effect: lines here are abstract */
#define RTE_REMOTE_IRR (UINT64_C(1) << 14)
#define RTE_LEVEL      (UINT64_C(1) << 15)
#define RTE_MASKED     (UINT64_C(1) << 16)
#define RTE_DEST_SHIFT 56
#define RTE_DEST       (UINT64_C(0xff) << RTE_DEST_SHIFT)
#define RTE_WRITABLE \
	(RTE_VECTOR | RTE_DELIVERY | RTE_LOGICAL | RTE_POLARITY | RTE_LEVEL | RTE_MASKED | RTE_DEST)

#define MSI_ADDR       UINT64_C(0xfee00000)
#define MSI_DEST_SHIFT 12
#define MSI_LOGICAL    (UINT64_C(1) << 2)

struct ioapic {
	const struct ioapic_ops *ops; /* const */
	void *ctx;                    /* const */
	pthread_mutex_t lock;
	/* lock: lock */
	uint32_t id, select;
	uint64_t rte[IOAPIC_PINS];
	uint32_t lines;
	struct ioapic_route route[IOAPIC_PINS]; /* as last reported */
};

int ioapic_create(struct ioapic **out, const struct ioapic_ops *ops, void *ctx, struct errmsg *why)
{
	assert(ops->set_route && ops->inject && ops->unmasked);
	struct ioapic *io = calloc(1, sizeof(*io));
	if (!io)
		return err_set(why, ENOMEM, "create the I/O APIC");
	io->ops = ops;
	io->ctx = ctx;
	VERIFY(pthread_mutex_init(&io->lock, NULL) == 0);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		io->rte[pin] = RTE_MASKED;
		io->route[pin].masked = true;
	}
	*out = io;
	return 0;
}

void ioapic_destroy(struct ioapic *io)
{
	if (!io)
		return;
	pthread_mutex_destroy(&io->lock);
	free(io);
}

static struct ioapic_route route_of(uint64_t rte)
{
	if (rte & RTE_MASKED)
		return (struct ioapic_route){.masked = true};
	return (struct ioapic_route){
		.msi_addr = MSI_ADDR | (rte >> RTE_DEST_SHIFT) << MSI_DEST_SHIFT |
			    (rte & RTE_LOGICAL ? MSI_LOGICAL : 0),
		.msi_data = (uint32_t)(rte & (RTE_VECTOR | RTE_DELIVERY | RTE_LEVEL)),
	};
}

static bool same_route(const struct ioapic_route *a, const struct ioapic_route *b)
{
	return a->masked == b->masked && a->msi_addr == b->msi_addr && a->msi_data == b->msi_data;
}

/* Reports where `pin` leads when that has changed.  Lock held. */
static void update_route(struct ioapic *io, unsigned pin)
{
	struct ioapic_route route = route_of(io->rte[pin]);

	if (same_route(&route, &io->route[pin]))
		return;
	io->route[pin] = route;
	io->ops->set_route(io->ctx, pin, &route);
}

/* Sends a level interrupt that is due: line high, not masked, the last one acknowledged.  Lock held. */
static void serve_level(struct ioapic *io, unsigned pin)
{
	uint64_t rte = io->rte[pin];

	if (!(rte & RTE_LEVEL) || rte & (RTE_MASKED | RTE_REMOTE_IRR) || !(io->lines >> pin & 1))
		return;
	io->rte[pin] |= RTE_REMOTE_IRR;
	io->ops->inject(io->ctx, &io->route[pin]);
}

/* Takes a new value for an entry, keeping what is read-only.  Return: it was masked and is not now. */
static bool write_rte(struct ioapic *io, unsigned pin, uint64_t val)
{
	uint64_t old = io->rte[pin];

	val &= RTE_WRITABLE;
	if (val & RTE_LEVEL) /* an edge pin has no remote IRR */
		val |= old & RTE_REMOTE_IRR;
	io->rte[pin] = val;
	update_route(io, pin);
	serve_level(io, pin);
	return old & RTE_MASKED && !(val & RTE_MASKED);
}

static uint32_t read_window(const struct ioapic *io)
{
	uint32_t reg = io->select;

	if (reg == REG_ID || reg == REG_ARBITRATION)
		return io->id;
	if (reg == REG_VERSION)
		return VERSION_VALUE;
	if (reg < REG_RTE || reg >= REG_RTE + 2 * IOAPIC_PINS)
		return 0;
	uint64_t rte = io->rte[(reg - REG_RTE) / 2];
	return (uint32_t)(reg & 1 ? rte >> 32 : rte);
}

/* Return: the pin that was unmasked by this, or IOAPIC_PINS. */
static unsigned write_window(struct ioapic *io, uint32_t val)
{
	uint32_t reg = io->select;

	if (reg == REG_ID)
		io->id = val & ID_MASK;
	if (reg < REG_RTE || reg >= REG_RTE + 2 * IOAPIC_PINS)
		return IOAPIC_PINS;
	unsigned pin = (reg - REG_RTE) / 2;
	uint64_t rte = io->rte[pin];
	rte = reg & 1 ? (rte & UINT32_MAX) | (uint64_t)val << 32
		      : (rte & ~(uint64_t)UINT32_MAX) | val;
	return write_rte(io, pin, rte) ? pin : IOAPIC_PINS;
}

static bool is_register_len(uint32_t len)
{
	return len == 1 || len == 2 || len == 4 || len == 8;
}

void ioapic_read(struct ioapic *io, uint64_t off, void *buf, uint32_t len)
{
	uint8_t val[4] = {0};

	memset(buf, 0, len);
	if (!is_register_len(len))
		return;
	cleanup_unlock pthread_mutex_t *held = hold(&io->lock);
	if (off == OFF_SELECT)
		le32_store(val, io->select);
	else if (off == OFF_WINDOW)
		le32_store(val, read_window(io));
	memcpy(buf, val, len < sizeof(val) ? len : sizeof(val));
}

/* Ends the level interrupts of `vector`; a line that is still high raises the next.  Lock held. */
static void end_of_interrupt(struct ioapic *io, uint8_t vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint64_t rte = io->rte[pin];
		if ((rte & RTE_VECTOR) != vector || !(rte & RTE_REMOTE_IRR))
			continue;
		io->rte[pin] = rte & ~RTE_REMOTE_IRR;
		serve_level(io, pin);
	}
}

static unsigned write_register(struct ioapic *io, uint64_t off, uint32_t val)
{
	cleanup_unlock pthread_mutex_t *held = hold(&io->lock);

	if (off == OFF_SELECT)
		io->select = val & 0xff;
	else if (off == OFF_EOI)
		end_of_interrupt(io, (uint8_t)val);
	else if (off == OFF_WINDOW)
		return write_window(io, val);
	return IOAPIC_PINS;
}

void ioapic_write(struct ioapic *io, uint64_t off, const void *buf, uint32_t len)
{
	uint8_t val[4] = {0};

	if (!is_register_len(len))
		return;
	memcpy(val, buf, len < sizeof(val) ? len : sizeof(val));
	unsigned pin = write_register(io, off, le32_load(val));
	if (pin < IOAPIC_PINS)
		io->ops->unmasked(io->ctx, pin);
}

void ioapic_eoi(struct ioapic *io, uint8_t vector)
{
	cleanup_unlock pthread_mutex_t *held = hold(&io->lock);
	end_of_interrupt(io, vector);
}

void ioapic_set_line(struct ioapic *io, unsigned pin, bool high)
{
	assert(pin < IOAPIC_PINS);
	cleanup_unlock pthread_mutex_t *held = hold(&io->lock);
	bool was = io->lines >> pin & 1;
	uint64_t rte = io->rte[pin];

	io->lines = high ? io->lines | 1u << pin : io->lines & ~(1u << pin);
	if (rte & RTE_LEVEL)
		serve_level(io, pin);
	else if (high && !was && !(rte & RTE_MASKED))
		io->ops->inject(io->ctx, &io->route[pin]);
}

void ioapic_save(struct ioapic *io, struct snap_ioapic *out)
{
	cleanup_unlock pthread_mutex_t *held = hold(&io->lock);
	*out = (struct snap_ioapic){
		.id = htole32(io->id), .select = htole32(io->select), .lines = htole32(io->lines)};
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		out->rte[pin] = htole64(io->rte[pin]);
}

static int check_saved(const struct snap_ioapic *in, struct errmsg *why)
{
	const char *bad = NULL;

	if (le32toh(in->id) & ~ID_MASK)
		bad = "id";
	else if (le32toh(in->select) > 0xff)
		bad = "select";
	else if (le32toh(in->lines) >> IOAPIC_PINS)
		bad = "lines";
	else if (in->rsvd)
		bad = "reserved field";
	for (unsigned pin = 0; !bad && pin < IOAPIC_PINS; pin++) {
		uint64_t rte = le64toh(in->rte[pin]);
		if (rte & ~(RTE_WRITABLE | RTE_REMOTE_IRR) ||
		    (rte & RTE_REMOTE_IRR && !(rte & RTE_LEVEL)))
			bad = "redirection entry";
	}
	if (!bad)
		return 0;
	err_set(why, 0, "saved I/O APIC state has a bad %s", bad);
	return -EBADMSG;
}

int ioapic_load(struct ioapic *io, const struct snap_ioapic *in, struct errmsg *why)
{
	int err = check_saved(in, why);
	if (err)
		return err;

	cleanup_unlock pthread_mutex_t *held = hold(&io->lock);
	io->id = le32toh(in->id);
	io->select = le32toh(in->select);
	io->lines = le32toh(in->lines);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		io->rte[pin] = le64toh(in->rte[pin]);
		update_route(io, pin);
	}
	return 0;
}
