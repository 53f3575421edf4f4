/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.c - control requests that the loop answers itself: short, and not on anybody's files
 *
 * ping, metrics, clock, entropy, power, signals.  /proc and statfs("/") do not block on a stalled
 * file system.  Thread: the agent's only one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "agent/client.h"
#include "agent/hygiene.h"
#include "agent/proc.h"
#include "base/cleanup.h"

static void ping(struct client *client)
{
	struct agent_pong pong = {.flags = client->agent->is_init ? AGENT_IS_INIT : 0,
				  .uptime_ms = now_ms(),
				  .agent_ms = client->agent->listen_ms};

	client_put(client, AGENT_PONG, 0, &pong, SPORE_VERSION, sizeof(SPORE_VERSION));
}

/* --- metrics ---------------------------------------------------------------------------------- */

/* The start of a small file as a string; "" when it cannot be read. */
static void slurp(const char *path, char *buf, size_t cap)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, cap - 1);

	buf[n > 0 ? n : 0] = '\0';
}

static void read_cpu(uint64_t *busy, uint64_t *total)
{
	char text[512];
	unsigned long long tick[8] = {0};

	*busy = *total = 0;
	slurp("/proc/stat", text, sizeof(text));
	if (sscanf(text, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &tick[0], &tick[1],
		   &tick[2], &tick[3], &tick[4], &tick[5], &tick[6], &tick[7]) < 4)
		return;
	for (unsigned i = 0; i < ARRAY_LEN(tick); i++)
		*total += tick[i];
	*busy = *total - tick[3] - tick[4]; /* idle, iowait */
}

static uint64_t meminfo(const char *text, const char *key)
{
	const char *at = strstr(text, key);
	return at ? strtoull(at + strlen(key), NULL, 10) * 1024 : 0;
}

static void metrics(struct client *client)
{
	struct agent *agent = client->agent;
	struct agent_metrics_ok m = {.uptime_ms = now_ms(),
				     .realtime_ns = hygiene_now(),
				     .proc_count = proc_alive(agent)};
	char text[4096];
	struct statvfs fs;
	uint64_t busy, total, hz = (uint64_t)sysconf(_SC_CLK_TCK);

	read_cpu(&busy, &total);
	m.cpu_count = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	m.cpu_busy_ms = busy * 1000 / hz;
	m.cpu_total_ms = total * 1000 / hz;
	if (total > agent->cpu_total && busy >= agent->cpu_busy)
		m.cpu_used_permille =
			(uint32_t)((busy - agent->cpu_busy) * 1000 / (total - agent->cpu_total));
	agent->cpu_busy = busy;
	agent->cpu_total = total;
	slurp("/proc/meminfo", text, sizeof(text));
	m.mem_total = meminfo(text, "MemTotal:");
	m.mem_used = m.mem_total - meminfo(text, "MemAvailable:");
	m.mem_cache = meminfo(text, "\nCached:") + meminfo(text, "Buffers:");
	if (statvfs("/", &fs) == 0) {
		m.disk_total = (uint64_t)fs.f_blocks * fs.f_frsize;
		m.disk_used = (uint64_t)(fs.f_blocks - fs.f_bfree) * fs.f_frsize;
	}
	client_put(client, AGENT_METRICS_OK, 0, &m, NULL, 0);
}

/* --- clock, entropy --------------------------------------------------------------------------- */

static void set_clock(struct client *client, const void *payload)
{
	struct agent_clock m;
	struct agent_clock_ok ok;

	memcpy(&m, payload, sizeof(m));
	int err = hygiene_clock(m.realtime_ns, m.threshold_ns, &ok);
	if (err < 0)
		client_error(client, err, AGENT_STAGE_SYSTEM, "clock: %s",
			     m.realtime_ns < 0 ? "a time before 1970" : strerror(-err));
	else
		client_put(client, AGENT_CLOCK_OK, 0, &ok, NULL, 0);
}

static void reseed(struct client *client, const struct agent_frame *frame, const uint8_t *payload)
{
	int err = hygiene_entropy(payload, frame->len);

	if (err < 0)
		client_error(client, err, AGENT_STAGE_SYSTEM, "reseed: %s", strerror(-err));
	else
		client_put_value(client, AGENT_OK, 0, frame->len);
}

/* --- power ------------------------------------------------------------------------------------ */

static void power(struct client *client, const void *payload)
{
	struct agent_power m;
	struct agent *agent = client->agent;

	memcpy(&m, payload, sizeof(m));
	if (!agent->is_init) {
		client_error(client, EPERM, AGENT_STAGE_SYSTEM,
			     "power: the agent is not init here; ask the machine's own init");
	} else {
		client_put_value(client, AGENT_OK, 0, 0);
		agent->power = m.mode;
		agent->power_grace_ms = m.grace_ms;
		agent->stop = true;
	}
	client_finish(client);
}

void machine_request(struct client *client, const struct agent_frame *frame, const uint8_t *payload)
{
	struct agent_proc_signal request;

	switch (frame->type) {
	case AGENT_PING: ping(client); break;
	case AGENT_METRICS: metrics(client); break;
	case AGENT_CLOCK: set_clock(client, payload); break;
	case AGENT_RESEED: reseed(client, frame, payload); break;
	case AGENT_POWER: power(client, payload); break;
	case AGENT_PROC_SIGNAL:
		memcpy(&request, payload, sizeof(request));
		proc_signal(client, &request, agent_msg_string(frame, payload, 0));
		break;
	default:
		client_error(client, ENOSYS, AGENT_STAGE_REQUEST, "%s is not served",
			     agent_msg_name(frame->type));
		break;
	}
}
