/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect.h - what stands behind the devices: put there by a load, exchanged by a capture
 *
 * Thread: ctl; files are opened and looked at there, devices get them on the io thread (loop_call()).
 */
#ifndef SPORE_VMM_CONNECT_H
#define SPORE_VMM_CONNECT_H

#include "base/err.h"
#include "devices/blk_cow.h"
#include "vmm/machine.h"

/* Disks and the vsock's socket of a load, behind the devices of an empty machine, which are quiesced. */
int devices_connect(struct vmm *m, const struct vmm_load_cfg *cfg, struct errmsg *why);

/*
 * The layers of a capture.  ctl: layers_prepare() before the pause, layers_push() in it, layers_seal() behind it.
 * What has been prepared and not pushed is layers_drop()ped.
 */
struct layers {
	unsigned count;
	struct blk_cow_next *next[VMM_DRIVES_MAX];
};

/*
 * layers_prepare() - open and check a fresh layer for every disk that writes to one
 * Return: 0; -EINVAL not as many layers as there are such disks; -EBADMSG, -EBUSY a layer that does not fit; -errno of
 * sealing what an earlier capture has closed.
 */
int layers_prepare(struct layers *layers, struct vmm *m, const struct vmm_capture_cfg *cfg,
		   struct errmsg *why);
/* Paused.  Cannot fail: everything that could has been done. */
void layers_push(struct layers *layers, struct vmm *m);
/* Makes durable what was pushed down.  Return: 0; -errno: the next capture tries again. */
int layers_seal(struct vmm *m, struct errmsg *why);
void layers_drop(struct layers *layers);

#endif
