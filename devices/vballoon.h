/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vballoon.h - virtio-balloon: memory that the guest does not need leaves the host
 *
 * Three ways, each a queue: the host names a target and the driver gives up pages until it is reached (inflate);
 * the driver reports what is free by itself and goes on owning it (free page reporting); and statistics, which say
 * how much could be asked for.  What happens to a page is gm_discard()'s matter.
 *
 * Queues beyond the first two have no fixed number: the specification gives them one (5.5.2), but Linux numbers
 * those of the features it has agreed to, without gaps, and every hypervisor follows it.  So do we.
 * Free page hinting is not offered: reporting does what it does, all the time.  Page poisoning is not offered
 * either: a driver that depends on what stands in a page given back does then not report it (5.5.6.7).
 * Source: virtio 1.2, 5.5.
 */
#ifndef SPORE_DEVICES_VBALLOON_H
#define SPORE_DEVICES_VBALLOON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "devices/dev.h"

#define VBALLOON_PAGES_PER_MIB 256u
#define VBALLOON_QUEUE_MAX     128
#define VBALLOON_PFNS_MAX      1024u /* page numbers taken from one request; more are left as they are */
#define VBALLOON_REPORT_MAX    (UINT64_C(256) << 20) /* bytes of one report; likewise */
#define VBALLOON_TURN_MAX \
	(UINT64_C(64) << 20)      /* bytes in one turn of the loop; then the others' turn */
#define VBALLOON_PAUSE_NS  50000u /* and so long until the next */
#define VBALLOON_STATS_MAX 64u    /* statistics looked at in one answer; Linux 6.12 sends 16 */

/* Feature bits, 5.5.3. */
#define VBALLOON_F_STATS     (UINT64_C(1) << 1)
#define VBALLOON_F_OOM       (UINT64_C(1) << 2)
#define VBALLOON_F_REPORTING (UINT64_C(1) << 5)

/* Statistics by their tag, 5.5.6.4; those from 10 on are Linux's (6.12, uapi/linux/virtio_balloon.h). */
enum vballoon_stat {
	VBALLOON_SWAP_IN,
	VBALLOON_SWAP_OUT,
	VBALLOON_MAJOR_FAULTS,
	VBALLOON_MINOR_FAULTS,
	VBALLOON_FREE,
	VBALLOON_TOTAL,
	VBALLOON_AVAILABLE,
	VBALLOON_CACHES,
	VBALLOON_HUGETLB_ALLOCS,
	VBALLOON_HUGETLB_FAILURES,
	VBALLOON_OOM_KILLS,
	VBALLOON_ALLOC_STALLS,
	VBALLOON_ASYNC_SCANS,
	VBALLOON_DIRECT_SCANS,
	VBALLOON_ASYNC_RECLAIMS,
	VBALLOON_DIRECT_RECLAIMS,
	VBALLOON_STAT_COUNT,
};

struct vballoon_cfg {
	const char *id;        /* names the device in messages; cut at DEV_ID_MAX */
	uint32_t target_pages; /* of 4096 bytes, that the guest is to give up */
	bool deflate_on_oom;   /* the driver may take pages back rather than kill a process */
	bool reporting;
	uint32_t stats_interval_s; /* 0: no statistics */
};

struct vballoon_info {
	uint32_t target_pages, actual_pages; /* asked for; given up, as the driver says */
	uint64_t inflated_bytes;             /* taken by inflating, counted once each time */
	uint64_t reported_bytes;             /* likewise, by reporting */
	uint64_t given_back_bytes;           /* of both, what left host memory */
	uint32_t stat_mask;                  /* bit n: stat[n] is known */
	uint64_t stat[VBALLOON_STAT_COUNT];  /* bytes, or how often */
	uint64_t stat_count;                 /* answers so far; 0: there are no statistics yet */
};

extern const struct dev_ops vballoon_ops;

/* ctl thread.  Return: 0, -ENOMEM. */
int vballoon_create(struct dev **out, const struct vballoon_cfg *cfg, struct errmsg *why);

/* Any thread, while attached: what the guest is to give up from now on. */
void vballoon_set_target(struct dev *dev, uint32_t pages);
/* Any thread. */
void vballoon_info(const struct dev *dev, struct vballoon_info *out);

#endif
