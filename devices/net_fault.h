/* SPDX-License-Identifier: Apache-2.0 */
/* net_fault.h - a filter over a network backend that misbehaves as planned.  For tests. */
#ifndef SPORE_DEVICES_NET_FAULT_H
#define SPORE_DEVICES_NET_FAULT_H

#include "devices/net.h"

/* The test's, changed at will between turns. */
struct net_fault_plan {
	unsigned drop_out, drop_in; /* so many of the next frames are lost */
	unsigned full;              /* so many sends say -EAGAIN */
	uint32_t cut_in;            /* frames come in no longer than that; 0: whole */
	int dead;                   /* -errno that everything answers; 0: alive */
};

/* Owns `below` from success on.  0 or -ENOMEM. */
int net_fault_create(struct net_backend **out, struct net_backend *below,
		     struct net_fault_plan *plan);

#endif
