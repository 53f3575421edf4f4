/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vrng.h - virtio-rng: the host's random bytes for the guest's pool
 * Source: virtio 1.2, 5.4.
 */
#ifndef SPORE_DEVICES_VRNG_H
#define SPORE_DEVICES_VRNG_H

#include "base/err.h"
#include "devices/dev.h"

#define VRNG_REQ_MAX   4096u    /* bytes answered to one request, however long it is */
#define VRNG_TURN_MAX  65536u   /* bytes in one turn of the loop; then the others' turn */
#define VRNG_PAUSE_NS  1000000u /* and so long until the next: at most 64 MiB/s */
#define VRNG_QUEUE_MAX 64

extern const struct dev_ops vrng_ops;

/* ctl thread.  @id: names the device in messages; cut at DEV_ID_MAX.  Return: 0, -ENOMEM. */
int vrng_create(struct dev **out, const char *id, struct errmsg *why);

#endif
