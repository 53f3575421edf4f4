/* SPDX-License-Identifier: Apache-2.0 */
/* wake.c - a guest that was asleep, or is a copy, is made fit for use; see agentc.h */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "supervisor/agentc/call.h"

/* Two names, each with its NUL.  Return: bytes, or -ENAMETOOLONG. */
static int put_names(char *to, size_t cap, const struct agentc_wake *wake)
{
	const char *name[] = {wake->hostname ? wake->hostname : "",
			      wake->machine_id ? wake->machine_id : ""};
	size_t at = 0;

	for (size_t i = 0; i < ARRAY_LEN(name); i++) {
		size_t len = strlen(name[i]) + 1;
		if (len > AGENT_NAME_MAX || len > cap - at)
			return -ENAMETOOLONG;
		memcpy(to + at, name[i], len);
		at += len;
	}
	return (int)at;
}

/* The time of day is the last thing to go in before it goes out. */
static int send_wake(struct call *call, const struct agentc_wake *wake, const char *names,
		     size_t names_len)
{
	struct agent_wake m = {.threshold_ns = wake->threshold_ns, .generation = wake->generation};

	if (getrandom(m.entropy, sizeof(m.entropy), 0) != sizeof(m.entropy))
		return err_set(call->why, EIO, "random numbers for the guest");
	m.realtime_ns = (int64_t)clock_ns(CLOCK_REALTIME);
	int err = link_put(&call->link, AGENT_WAKE, 0, &m, names, names_len);
	explicit_bzero(&m, sizeof(m));
	return err < 0 ? err_set(call->why, err, "request WAKE") : 0;
}

int agentc_wake(struct agentc *at, const struct agentc_wake *wake, struct agentc_woke *out,
		struct errmsg *why)
{
	cleanup_call struct call call = {.link.fd = -1};
	char names[2 * AGENT_NAME_MAX];
	struct agent_wake_ok ok;

	int len = put_names(names, sizeof(names), wake);
	if (len < 0)
		return err_set(why, len, "names for the guest");
	/* As agentc_clock(): a ping first, so that the clock is late by one way only. */
	int err = call_open(&call, at, AGENT_PING, NULL, NULL, 0, why);
	if (!err)
		err = call_expect(&call, AGENT_PONG);
	uint64_t begin = clock_now();
	if (!err)
		err = send_wake(&call, wake, names, (size_t)len);
	if (!err)
		err = call_expect(&call, AGENT_WAKE_OK);
	if (err)
		return err;
	memcpy(&ok, call.payload, sizeof(ok));
	if (ok.generation != wake->generation || !(ok.done & AGENT_WOKE_RESEEDED))
		return err_set(why, EPROTO, "the agent confirms another wake than was asked for");
	*out = (struct agentc_woke){.done = ok.done,
				    .before_ns = ok.before_ns,
				    .after_ns = ok.after_ns,
				    .round_trip_ns = clock_now() - begin};
	return 0;
}
