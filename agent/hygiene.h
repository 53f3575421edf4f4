/* SPDX-License-Identifier: Apache-2.0 */
/* hygiene.h - clock, random numbers, names: what a machine that woke or was copied must put right.  Thread: any. */
#ifndef SPORE_AGENT_HYGIENE_H
#define SPORE_AGENT_HYGIENE_H

#include <stddef.h>
#include <stdint.h>

#include "wire/agent.h"

/* CLOCK_REALTIME, ns. */
int64_t hygiene_now(void);

/* Steps the wall clock when it is further off than threshold_ns.  Return: 0, *ok filled; -EINVAL before 1970; -errno. */
int hygiene_clock(int64_t realtime_ns, uint64_t threshold_ns, struct agent_clock_ok *ok);

/* Credits `len` bytes, at most AGENT_ENTROPY_MAX, and reseeds from them at once.  Return: 0 or -errno. */
int hygiene_entropy(const void *data, size_t len);

/* Are these names that can be set?  "" is.  Return: 0; -EINVAL with a sentence in *why. */
int hygiene_check_names(const char *hostname, const char *machine_id, const char **why);

/*
 * hygiene_set_names() - host name, now and in etc/hostname; machine-id in etc/machine-id; "" leaves one as it is
 * May block on the file system.  A read-only one keeps its old hostname file: the name counts all the same.
 * Return: 0; -errno with what failed in *why.
 */
int hygiene_set_names(const char *etc, const char *hostname, const char *machine_id,
		      const char **why);

#endif
