/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/device_state.h"

#include <errno.h>

#include "wire/snap_dev.h"
#include "wire/snap_irq.h"

/* --- save --------------------------------------------------------------------------------------- */
static void platform_save(struct vmm *m, struct snap_out *out)
{
	struct snap_ioapic *ioapic =
		snap_put(out, SNAP_IOAPIC, SNAP_DEV_VERSION, 0, sizeof(*ioapic));
	if (ioapic)
		ioapic_save(m->ioapic, ioapic);
	struct snap_serial *serial =
		snap_put(out, SNAP_SERIAL, SNAP_DEV_VERSION, 0, sizeof(*serial));
	if (serial)
		serial_save(m->serial, serial);
	struct snap_i8042 *i8042 = snap_put(out, SNAP_I8042, SNAP_DEV_VERSION, 0, sizeof(*i8042));
	if (i8042)
		i8042_save(m->i8042, i8042);
}

void devices_save(struct vmm *m, struct snap_out *out)
{
	platform_save(m, out);
	for (unsigned i = 0; i < m->dev_count; i++)
		mmio_save(m->dev[i], out, i);
}

/* --- load --------------------------------------------------------------------------------------- */
/* Every pin is a change of KVM's routes, and each change waits for readers: one for all of them. */
static int ioapic_restore(struct vmm *m, const struct snap_in *in, struct errmsg *why)
{
	struct snap_ioapic saved;

	int err = snap_take(in, SNAP_IOAPIC, SNAP_DEV_VERSION, 0, &saved, sizeof(saved), why);
	if (err)
		return err;
	if (saved.lines)
		return err_set(why, EBADMSG,
			       "the saved I/O APIC has inputs raised that nothing here drives");
	irq_hold(&m->irq);
	err = ioapic_load(m->ioapic, &saved, why);
	int routed = irq_release(&m->irq);
	if (!err && routed)
		err = err_set(why, routed, "KVM_SET_GSI_ROUTING");
	return err;
}

static int platform_load(struct vmm *m, const struct snap_in *in, struct errmsg *why)
{
	struct snap_serial serial;
	struct snap_i8042 i8042;

	int err = ioapic_restore(m, in, why);
	if (!err)
		err = snap_take(in, SNAP_SERIAL, SNAP_DEV_VERSION, 0, &serial, sizeof(serial), why);
	if (!err)
		err = serial_load(m->serial, &serial, why);
	if (!err)
		err = snap_take(in, SNAP_I8042, SNAP_DEV_VERSION, 0, &i8042, sizeof(i8042), why);
	if (!err)
		err = i8042_load(m->i8042, &i8042, why);
	return err;
}

int devices_load(struct vmm *m, const struct snap_in *in, struct errmsg *why)
{
	uint32_t count = snap_count(in, SNAP_MMIO);

	if (count != m->dev_count)
		return err_set(why, EBADMSG, "the saved machine has %u virtio devices, this one %u",
			       count, m->dev_count);
	int err = platform_load(m, in, why);
	for (unsigned i = 0; !err && i < m->dev_count; i++)
		err = mmio_load(m->dev[i], in, i, why);
	return err;
}

/* --- pause and resume --------------------------------------------------------------------------- */
void devices_resume(struct vmm *m)
{
	for (unsigned i = 0; i < m->dev_count; i++)
		mmio_unquiesce(m->dev[i]);
	serial_reassert(m->serial);
}

void devices_pause(struct vmm *m)
{
	for (unsigned i = 0; i < m->dev_count; i++)
		mmio_quiesce(m->dev[i]);
}
