/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect.h - what stands behind the devices: put there by a load, exchanged by a capture
 *
 * Thread: io, by loop_call(); all devices are quiesced.
 */
#ifndef SPORE_VMM_CONNECT_H
#define SPORE_VMM_CONNECT_H

#include "base/err.h"
#include "vmm/machine.h"

/* Disks, the vsock's socket and the network of a load, behind the devices of an empty machine. */
int devices_connect(struct vmm *m, const struct vmm_load_cfg *cfg, struct errmsg *why);

/*
 * devices_push_layers() - seal the top layer of every disk that has one, and put a fresh one on it
 * Return: 0; -EINVAL not as many layers as there are such disks; -errno.
 */
int devices_push_layers(struct vmm *m, const struct vmm_capture_cfg *cfg, struct errmsg *why);

#endif
