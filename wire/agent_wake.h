/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent_wake.h - what a guest that was asleep, or that is a copy, must put right before it is used
 *
 * WAKE does what CLOCK, RESEED and IDENTITY do, as one operation, and answers when all of it is done.  The order:
 * names are checked; the wall clock is stepped (the monotonic clock never is); the entropy is credited and the random
 * number generator reseeded from it; the host name is set; the files of host name and machine-id are written.  After an
 * error the clock may have been stepped, and the operation may be repeated.
 */
#ifndef SPORE_WIRE_AGENT_WAKE_H
#define SPORE_WIRE_AGENT_WAKE_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define AGENT_WAKE_ENTROPY 64u /* bytes; random ones, known to nobody else */
#define AGENT_WAKE_NET     16u

struct agent_wake {
	int64_t realtime_ns;   /* the host's clock now; not before 1970 */
	uint64_t threshold_ns; /* step only when the difference is larger */
	uint64_t generation;   /* the host's count of copies; comes back in the answer */
	uint8_t entropy[AGENT_WAKE_ENTROPY];
	uint8_t rsvd[AGENT_WAKE_NET]; /* room for MAC and addresses */
}; /* + hostname, machine-id (32 hex digits); "" leaves one as it is (2 strings) */
static_assert(sizeof(struct agent_wake) == 104, "wire layout");
static_assert(offsetof(struct agent_wake, generation) == 16, "wire layout");
static_assert(offsetof(struct agent_wake, entropy) == 24, "wire layout");
static_assert(offsetof(struct agent_wake, rsvd) == 88, "wire layout");

/* What was done. */
#define AGENT_WOKE_STEPPED    0x01u /* the clock differed by more than threshold_ns */
#define AGENT_WOKE_RESEEDED   0x02u /* always */
#define AGENT_WOKE_HOSTNAME   0x04u
#define AGENT_WOKE_MACHINE_ID 0x08u
#define AGENT_WOKE_ALL        0x0fu

struct agent_wake_ok {
	int64_t before_ns; /* the guest's clock when the request came */
	int64_t after_ns;  /* and behind the step */
	uint64_t generation;
	uint32_t done; /* AGENT_WOKE_* */
	uint32_t rsvd;
};
static_assert(sizeof(struct agent_wake_ok) == 32, "wire layout");
static_assert(offsetof(struct agent_wake_ok, generation) == 16, "wire layout");
static_assert(offsetof(struct agent_wake_ok, done) == 24, "wire layout");
static_assert(offsetof(struct agent_wake_ok, rsvd) == 28, "wire layout");

#endif
