/* SPDX-License-Identifier: Apache-2.0 */
/* device_state.h - all devices of a machine in a snapshot (wire/snap_dev.h, wire/snap_irq.h).  Thread: ctl. */
#ifndef SPORE_VMM_DEVICE_STATE_H
#define SPORE_VMM_DEVICE_STATE_H

#include "base/err.h"
#include "snapshot/codec.h"
#include "vmm/machine.h"

/*
 * devices_save() - IOAPIC, serial port, keyboard controller, and every virtio device with its place
 * Paused.  Nothing changes; failures stick to `out`.
 */
void devices_save(struct vmm *m, struct snap_out *out);

/*
 * devices_load() - into the devices of a machine of the same configuration that no guest has touched
 * The guest's memory is in place.  No vCPU runs and the devices are quiesced, or the io thread has not been
 * started; they are quiesced afterwards.  Before they go on, what stands behind them is put there
 * (vblk_set_backend(), vsock_set_host()), and the local APICs are loaded: devices_resume() interrupts them.
 * After an error the machine can only be destroyed.
 * Return: 0; -EBADMSG the text names the device; -errno of KVM.
 */
int devices_load(struct vmm *m, const struct snap_in *in, struct errmsg *why)
	__attribute__((warn_unused_result));

/* io thread: devices go on; each looks at its rings, and each interrupt that is pending is raised again. */
void devices_resume(struct vmm *m);
/* io thread: afterwards no request is in flight. */
void devices_pause(struct vmm *m);

#endif
