/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl.h - the control socket of a VMM, version 1
 *
 * Transport: a unix SEQPACKET socket that the VMM is handed listening (--ctl-fd); who may connect is decided by
 * the permissions of the socket's folder.  One request, one reply, in order; a connection may stay open.
 *
 *   client                                   VMM
 *   [FDS, descriptors]...  request   --->
 *                                    <---    [FDS, descriptors]...  reply
 *
 * Every message is a head and the body that its type has.  Descriptors travel beside any message (SCM_RIGHTS, at
 * most CTL_FDS_PER_MESSAGE) and gather until the request or reply that they belong to; CTL_FDS carries nothing
 * else.  A reply has its request's type and `status` 0, or -errno with a sentence for people as its body.
 * The VMM acts on one request at a time; a client that does not take its replies is disconnected.
 * All numbers little-endian; `rsvd` is zero and checked.  Both sides treat the other's bytes as hostile.
 */
#ifndef SPORE_WIRE_CTL_H
#define SPORE_WIRE_CTL_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define CTL_MAGIC           0x4c544353u /* "SCTL" */
#define CTL_VERSION         1u
#define CTL_BODY_MAX        1024u
#define CTL_FDS_PER_MESSAGE 128u
#define CTL_FDS_MAX         768u /* of one request or reply */
#define CTL_TEXT_MAX        512u
#define CTL_DRIVES_MAX      8u

enum ctl_type {
	CTL_FDS = 1,
	CTL_STATUS = 2,       /* no body -> ctl_status */
	CTL_PAUSE = 3,        /* no body -> no body */
	CTL_RESUME = 4,       /* no body -> no body */
	CTL_STOP = 5,         /* no body -> no body; the process ends after the reply */
	CTL_CAPTURE = 6,      /* ctl_capture -> ctl_captured */
	CTL_SETTLE = 7,       /* ctl_settle -> no body */
	CTL_LOAD = 8,         /* ctl_load -> ctl_loaded */
	CTL_BALLOON = 9,      /* ctl_balloon -> no body */
	CTL_WORKING_SET = 10, /* no body -> ctl_working_set */
	CTL_PAGE_IN = 11, /* a VMM to its pager: ctl_page_in -> no body, when all pages are there */
	CTL_TYPES
};

struct ctl_head {
	uint32_t magic;
	uint16_t version;
	uint16_t type;  /* enum ctl_type */
	uint32_t len;   /* bytes of the body */
	int32_t status; /* replies: 0 or -errno; requests: 0 */
};
static_assert(sizeof(struct ctl_head) == 16, "struct ctl_head");
static_assert(offsetof(struct ctl_head, len) == 8, "ctl_head.len");

enum ctl_state {
	CTL_EMPTY = 1, /* waits for a load */
	CTL_RUNNING = 2,
	CTL_PAUSED = 3,
	CTL_ENDED = 4,
};

struct ctl_status {
	uint32_t state; /* enum ctl_state */
	uint32_t exit;  /* enum vmm_exit, when ended */
	uint32_t cpus;
	uint32_t generation; /* 0: memory is its own file; 1: private mappings */
	uint64_t mem_mib;
	uint64_t captures; /* taken so far */
	uint64_t sources;  /* descriptors that memory is mapped from */
	uint64_t exits;    /* of all vCPUs */
	uint64_t device_breaks;
};
static_assert(sizeof(struct ctl_status) == 56, "struct ctl_status");
static_assert(offsetof(struct ctl_status, mem_mib) == 16, "ctl_status.mem_mib");

/*
 * flags: the VM stays paused; else it runs on.  It stays so for this connection: when that ends, and the VM is paused
 * still, it runs on, so that no client that was killed leaves a VM standing.
 */
#define CTL_CAPTURE_STAY 1u
#define CTL_CAPTURE_LAST 2u /* the difference to the last settled capture, not to the base */

/*
 * Descriptors: for each drive that writes to a layer, in the drives' order, two: a fresh layer (an empty file, open for
 * reading and writing), and the present top opened for reading.  They are in use from then on unless the status is
 * -ENOTSUP, -EINVAL, -EBADMSG or -EBUSY.
 */
struct ctl_capture {
	uint32_t flags; /* CTL_CAPTURE_* */
	uint32_t rsvd;
};
static_assert(sizeof(struct ctl_capture) == 8, "struct ctl_capture");

#define CTL_NO_SOURCE UINT32_MAX

/*
 * Descriptors: the state (wire/snap.h), the runs (an array of struct snap_run, snapshot/plan.h), then the sources
 * of the plan.  All are memory files, sealed, or files opened for reading.
 */
struct ctl_captured {
	uint64_t sequence; /* names the capture in CTL_SETTLE */
	uint64_t pause_ns; /* how long the guest stood still for it; 0: it was paused before */
	uint64_t state_len;
	uint64_t run_count;
	uint64_t diff_pages; /* pages that the difference holds */
	uint32_t source_count;
	uint32_t diff_source; /* the source that holds the difference; CTL_NO_SOURCE: all is new */
	uint32_t rehomed;     /* 1: this capture moved the VM off its own file */
	uint32_t partial; /* 1: the runs are those written since the last kept capture, no more */
};
static_assert(sizeof(struct ctl_captured) == 56, "struct ctl_captured");
static_assert(offsetof(struct ctl_captured, source_count) == 40, "ctl_captured.source_count");

#define CTL_SETTLE_KEPT 1u /* what was captured is safe: its dirty bits may be forgotten */
#define CTL_SETTLE_LOST 2u /* it is not: the next capture holds them again */

struct ctl_settle {
	uint64_t sequence;
	uint32_t outcome; /* CTL_SETTLE_* */
	uint32_t rsvd;
};
static_assert(sizeof(struct ctl_settle) == 16, "struct ctl_settle");

#define CTL_LOAD_RUN 1u /* flags: the guest runs on at once */
#define CTL_LOAD_REALTIME \
	2u /* the guest's clocks jump to the host's; else they go on where they stood */
#define CTL_LOAD_CLONE 4u /* another machine: new generation id (VMGenID, VMClock) */

/*
 * Descriptors: the state, the runs, `source_count` sources; for each drive its base, then its layers from the bottom
 * to the top, the last open for writing (layers[i] of them; none: the base alone); the listening socket of the vsock
 * when CTL_HAS_VSOCK; a socket to the pager when CTL_HAS_PAGER (ctl_page_in), for runs that are SNAP_RUN_LAZY:
 * -ENOTSUP when the VMM has no userfaultfd, and it is still empty then.  A network back end is given to the VMM when it is started: each machine has its own.
 */
struct ctl_load {
	uint32_t flags; /* CTL_LOAD_* */
	uint32_t has;   /* CTL_HAS_* */
	uint64_t state_len;
	uint64_t run_count;
	uint32_t source_count;
	uint32_t drive_count;
	uint32_t layers[CTL_DRIVES_MAX];
};
#define CTL_HAS_VSOCK 1u
#define CTL_HAS_PAGER 4u
static_assert(sizeof(struct ctl_load) == 64, "struct ctl_load");
static_assert(offsetof(struct ctl_load, source_count) == 24, "ctl_load.source_count");
static_assert(offsetof(struct ctl_load, layers) == 32, "ctl_load.layers");

struct ctl_loaded {
	uint64_t load_ns; /* from the request to memory, devices and vCPUs in place */
};
static_assert(sizeof(struct ctl_loaded) == 8, "struct ctl_loaded");

struct ctl_balloon {
	uint64_t target_mib; /* what the guest is to give back */
};
static_assert(sizeof(struct ctl_balloon) == 8, "struct ctl_balloon");

/*
 * Which pages a loaded machine has touched.  Descriptor: `run_count` of ctl_page_run, a sealed memory file.
 * -ENOTSUP: the machine was booted here, or its memory came from a pager.
 */
struct ctl_working_set {
	uint64_t run_count;
	uint64_t pages, written; /* sums */
};
static_assert(sizeof(struct ctl_working_set) == 24, "struct ctl_working_set");

struct ctl_page_run {
	uint64_t page;
	uint32_t count;
	uint32_t
		written; /* 1: written; 0: only read, or a neighbour in the page cache of one that was */
};
static_assert(sizeof(struct ctl_page_run) == 16, "struct ctl_page_run");
static_assert(offsetof(struct ctl_page_run, count) == 8, "ctl_page_run.count");

/*
 * Over a SEQPACKET socket pair, of which a load takes one end (CTL_HAS_PAGER); the pager has the other
 * (snapshot/pager.h).  Descriptor: the userfaultfd that the pages are registered with.
 */
struct ctl_page_in {
	uint64_t base;  /* address in the VMM of its guest's page 0 */
	uint64_t pages; /* of the machine */
};
static_assert(sizeof(struct ctl_page_in) == 16, "struct ctl_page_in");

#endif
