/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Order on the virtio bus: drives as configured (the root drive first, so that it is vda), network
 * interfaces as configured, vsock, entropy, balloon.  Device n has page n, GSI 5 + n.
 */
#include "vmm/devices.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/vballoon.h"
#include "base/cleanup.h"
#include "devices/net_stream.h"
#include "devices/net_tap.h"
#include "devices/vblk.h"
#include "devices/vnet.h"
#include "devices/vrng.h"
#include "devices/vsock.h"
#include "vmm/acpi.h"
#include "vmm/drive.h"
#include "vmm/layout.h"

#define BOOT_TIMER_VALUE 123 /* what a guest writes to say "init has started" */
#define LOG_WARN         1

/* --- what the devices ask of the machine ----------------------------------------------------------- */

static void route_changed(void *ctx, unsigned pin, const struct ioapic_route *route)
{
	struct vmm *m = ctx;
	const struct kvm_route to = {
		.on = !route->masked, .address = route->msi_addr, .data = route->msi_data};

	int err = irq_route(&m->irq, pin, &to);
	if (err)
		machine_end(m, VMM_EXIT_ERROR, "KVM_SET_GSI_ROUTING for pin %u: %s", pin,
			    strerror(-err));
}

static void level_interrupt(void *ctx, const struct ioapic_route *route)
{
	struct vmm *m = ctx;
	kvm_vm_signal_msi(&m->kvm, route->msi_addr, route->msi_data);
}

/* Edges that came while the pin was masked are lost: who has one pending raises it again. */
static void pin_unmasked(void *ctx, unsigned pin)
{
	struct vmm *m = ctx;

	if (pin == LAYOUT_COM1_GSI)
		serial_reassert(m->serial);
	else if (pin == LAYOUT_GED_GSI)
		vmgenid_unmasked(m);
	else if (pin >= LAYOUT_GSI_VIRTIO && pin - LAYOUT_GSI_VIRTIO < m->dev_count)
		mmio_reassert(m->dev[pin - LAYOUT_GSI_VIRTIO]);
}

static const struct ioapic_ops ioapic_ops = {
	.set_route = route_changed,
	.inject = level_interrupt,
	.unmasked = pin_unmasked,
};

static void serial_sent(void *ctx, const uint8_t *bytes, size_t len)
{
	struct vmm *m = ctx;
	if (m->console)
		console_put(m->console, bytes, (uint32_t)len);
}

static const struct serial_ops serial_ops = {.tx = serial_sent};

static void reset_wanted(void *ctx)
{
	machine_end(ctx, VMM_EXIT_RESET, "the guest asked for a reset");
}

/* ACPI's sleep control register: the only sleep there is, is off. */
static void sleep_write(void *ctx, uint64_t off, const void *buf, uint32_t len)
{
	if (off == 0 && len && (*(const uint8_t *)buf & ACPI_SLEEP_ENABLE))
		machine_end(ctx, VMM_EXIT_RESET, "the guest powered off");
}

static void sleep_read(void *ctx, uint64_t off, void *buf, uint32_t len)
{
	(void)ctx;
	(void)off;
	memset(buf, 0, len);
}

static void device_log(void *ctx, const char *line)
{
	const struct vmm *m = ctx;
	if (m->log)
		m->log(m->log_ctx, LOG_WARN, line);
}

/* --- the buses: each device's own functions behind one signature ---------------------------------- */

#define BUS_DEVICE(name)                                                                    \
	static void name##_on_read(void *ctx, uint64_t off, void *buf, uint32_t len)        \
	{                                                                                   \
		name##_read(ctx, off, buf, len);                                            \
	}                                                                                   \
	static void name##_on_write(void *ctx, uint64_t off, const void *buf, uint32_t len) \
	{                                                                                   \
		name##_write(ctx, off, buf, len);                                           \
	}

BUS_DEVICE(mmio)
BUS_DEVICE(ioapic)
BUS_DEVICE(serial)
BUS_DEVICE(i8042)

static void boot_timer_write(void *ctx, uint64_t off, const void *buf, uint32_t len)
{
	struct vmm *m = ctx;

	if (off == 0 && len == 1 && *(const uint8_t *)buf == BOOT_TIMER_VALUE)
		machine_stamp(m, &m->timings.guest_boot);
}

static void devices_on_buses(struct vmm *m)
{
	bus_add(&m->port_bus, &(struct bus_range){LAYOUT_COM1, LAYOUT_COM1_SIZE, m->serial,
						  serial_on_read, serial_on_write});
	bus_add(&m->port_bus,
		&(struct bus_range){LAYOUT_I8042_DATA, LAYOUT_I8042_CMD - LAYOUT_I8042_DATA + 1,
				    m->i8042, i8042_on_read, i8042_on_write});
	bus_add(&m->port_bus,
		&(struct bus_range){LAYOUT_SLEEP, LAYOUT_SLEEP_SIZE, m, sleep_read, sleep_write});
	bus_add(&m->mmio_bus, &(struct bus_range){LAYOUT_IOAPIC, LAYOUT_IOAPIC_SIZE, m->ioapic,
						  ioapic_on_read, ioapic_on_write});
	if (m->boot_timer)
		bus_add(&m->mmio_bus, &(struct bus_range){LAYOUT_BOOT_TIMER, LAYOUT_PAGE, m, NULL,
							  boot_timer_write});
	for (unsigned i = 0; i < m->dev_count; i++)
		bus_add(&m->mmio_bus, &(struct bus_range){layout_virtio_addr(i), MMIO_SIZE,
							  m->dev[i], mmio_on_read, mmio_on_write});
}

/* --- assembly ------------------------------------------------------------------------------------------ */

static int devices_legacy(struct vmm *m, const struct vmm_config *cfg, struct errmsg *why)
{
	int err = 0;

	if (cfg->serial.out_fd >= 0)
		err = console_create(&m->console, m->loop, cfg->serial.out_fd,
				     cfg->serial_is_log ? CONSOLE_LOG : CONSOLE_STREAM, why);
	if (!err)
		err = ioapic_create(&m->ioapic, &ioapic_ops, m, why);
	if (!err)
		err = i8042_create(&m->i8042, reset_wanted, m, why);
	int line = err ? err : irq_line(&m->irq, LAYOUT_COM1_GSI, why);
	return line < 0 ? line : serial_create(&m->serial, &serial_ops, m, line, why);
}

/* Puts `dev` on the next page; it belongs to the machine from here on, whatever happens. */
static int devices_attach(struct vmm *m, struct dev *dev, struct errmsg *why)
{
	assert(m->dev_count < MACHINE_DEV_MAX);
	dev->log = device_log;
	dev->log_ctx = m;
	int line = irq_line(&m->irq, layout_virtio_gsi(m->dev_count), why);
	int err = line < 0 ? line
			   : mmio_create(&m->dev[m->dev_count], dev, &m->gm, m->loop, line, why);
	if (err) {
		dev->ops->destroy(dev);
		return err;
	}
	m->dev_count++;
	return 0;
}

static struct limiter_cfg limiter_cfg_of(const struct vmm_limit *limit)
{
	const struct vmm_bucket *bytes = &limit->bandwidth, *ops = &limit->ops;

	return (struct limiter_cfg){
		.bandwidth = {bytes->size, bytes->one_time_burst, bytes->refill_ms},
		.ops = {ops->size, ops->one_time_burst, ops->refill_ms}};
}

static int devices_drive(struct vmm *m, const struct vmm_drive *drive,
			 const struct vmm_limit *limit, struct errmsg *why)
{
	struct vblk_cfg cfg = {
		.id = drive->id,
		.read_only = drive->read_only,
		.writeback = drive->writeback,
		.limit = limiter_cfg_of(limit),
	};
	struct dev *dev;

	int err = drive->fd >= 0 ? drive_open(&cfg.backend, drive, m->loop, why) : 0;
	if (err)
		return err_wrap(why, err, "drive %s", drive->id);
	err = vblk_create(&dev, &cfg, why);
	if (err) {
		blk_destroy(cfg.backend);
		return err_wrap(why, err, "drive %s", drive->id);
	}
	m->layered[m->dev_count] = drive->overlay_fd >= 0 ? cfg.backend : NULL;
	return devices_attach(m, dev, why);
}

/* Return: the backend with a descriptor of its own, or an error. */
static int devices_net_backend(struct net_backend **out, const struct vmm_net *net,
			       struct errmsg *why)
{
	const struct net_egress rule = {
		.filter = net->egress.filter,
		.allow_private = net->egress.allow_private,
		.dns = net->egress.dns,
		.gateway = net->egress.gateway,
	};
	cleanup_close int fd = fcntl(net->fd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return err_set(why, errno, "descriptor %d", net->fd);
	int err = net->kind == VMM_NET_TAP ? net_tap_create(out, fd, why)
					   : net_stream_create(out, fd, &rule, why);
	if (!err)
		(void)steal_fd(&fd);
	return err;
}

static int devices_net(struct vmm *m, const struct vmm_net *net, struct errmsg *why)
{
	static const uint8_t none[NET_MAC_LEN];
	struct vnet_cfg cfg = {.id = net->id,
			       .mtu = net->mtu,
			       .rx = limiter_cfg_of(&net->rx),
			       .tx = limiter_cfg_of(&net->tx)};
	struct dev *dev;

	memcpy(cfg.mac, net->mac, sizeof(cfg.mac));
	if (!memcmp(net->mac, none, sizeof(none)) && vnet_random_mac(cfg.mac))
		return err_set(why, EIO, "network interface %s: getrandom", net->id);
	int err = devices_net_backend(&cfg.backend, net, why);
	if (err)
		return err_wrap(why, err, "network interface %s", net->id);
	err = vnet_create(&dev, &cfg, why);
	if (err) {
		net_destroy(cfg.backend);
		return err;
	}
	return devices_attach(m, dev, why);
}

static int devices_entropy(struct vmm *m, struct errmsg *why)
{
	struct dev *dev;
	int err = vrng_create(&dev, "entropy", why);
	return err ? err : devices_attach(m, dev, why);
}

static int devices_balloon(struct vmm *m, const struct vmm_balloon *balloon, struct errmsg *why)
{
	const struct vballoon_cfg cfg = {
		.id = "balloon",
		.target_pages = balloon->amount_mib * VBALLOON_PAGES_PER_MIB,
		.deflate_on_oom = balloon->deflate_on_oom,
		.reporting = balloon->reporting,
		.stats_interval_s = balloon->stats_interval_s,
	};
	struct dev *dev;

	int err = vballoon_create(&dev, &cfg, why);
	if (!err)
		err = devices_attach(m, dev, why);
	if (!err)
		m->balloon = dev;
	return err;
}

static void guest_ready(void *ctx)
{
	struct vmm *m = ctx;
	machine_stamp(m, &m->timings.ready);
}

static int devices_vsock(struct vmm *m, const struct vmm_vsock *vsock, struct errmsg *why)
{
	const struct vsock_cfg cfg = {
		.guest_cid = vsock->guest_cid,
		.listen_fd = vsock->listen_fd,
		.uds_path = vsock->uds_path,
		.ready_fd = vsock->ready_fd,
		.ready_port = vsock->ready_port,
		.ready = guest_ready,
		.ready_ctx = m,
	};
	struct dev *dev;

	int err = vsock_create(&dev, &cfg, why);
	if (!err)
		err = devices_attach(m, dev, why);
	if (!err)
		m->vsock = dev;
	return err;
}

static int devices_bind_queues(struct vmm *m, struct kvm_vm *kvm, unsigned index,
			       struct errmsg *why)
{
	const struct mmio *mmio = m->dev[index];
	gpa_t notify = gpa(layout_virtio_addr(index) + MMIO_REG_QUEUE_NOTIFY);

	for (unsigned q = 0; q < mmio_dev(mmio)->ops->queue_count; q++) {
		int err = kvm_vm_ioeventfd(kvm, notify, q, mmio_kick_fd(mmio, q), why);
		if (err)
			return err;
	}
	return 0;
}

int devices_bind_kicks(struct vmm *m, struct kvm_vm *kvm, struct errmsg *why)
{
	int err = 0;

	for (unsigned i = 0; !err && i < m->dev_count; i++)
		err = devices_bind_queues(m, kvm, i, why);
	return err;
}

void devices_set_lines(struct vmm *m)
{
	serial_set_line(m->serial, m->irq.fd[LAYOUT_COM1_GSI]);
	for (unsigned i = 0; i < m->dev_count; i++)
		mmio_set_line(m->dev[i], m->irq.fd[layout_virtio_gsi(i)]);
}

int devices_create(struct vmm *m, const struct vmm_config *cfg, struct errmsg *why)
{
	int err = devices_legacy(m, cfg, why);

	for (uint32_t i = 0; !err && i < cfg->drive_count; i++)
		err = devices_drive(m, &cfg->drive[i], &cfg->drive_limit[i], why);
	m->drive_count = m->dev_count;
	for (uint32_t i = 0; !err && i < cfg->net_count; i++)
		err = devices_net(m, &cfg->net[i], why);
	if (!err && cfg->has_vsock)
		err = devices_vsock(m, &cfg->vsock, why);
	if (!err && cfg->has_entropy)
		err = devices_entropy(m, why);
	if (!err && cfg->has_balloon)
		err = devices_balloon(m, &cfg->balloon, why);
	if (!err)
		err = vmgenid_line(m, why);
	if (!err)
		err = irq_bind(&m->irq, why);
	if (err)
		return err;
	devices_on_buses(m);
	return devices_bind_kicks(m, &m->kvm, why);
}

void devices_destroy(struct vmm *m)
{
	for (unsigned i = m->dev_count; i-- > 0;)
		mmio_destroy(m->dev[i]);
	m->dev_count = 0;
	serial_destroy(m->serial);
	i8042_destroy(m->i8042);
	ioapic_destroy(m->ioapic);
	console_destroy(m->console);
}
