/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.c - the gate of the agent's protocol: one table says what each message must look like
 *
 * Both ends use it, so that a message which one end may send is exactly one which the other accepts.
 * No state, no allocation; any thread.
 */
#include "wire/agent.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

enum tail {
	TAIL_NONE,
	TAIL_BYTES,   /* raw, not empty */
	TAIL_STRINGS, /* exactly `strings` of them */
	TAIL_LIST,    /* 1..AGENT_FREEZE_MAX strings */
	TAIL_PROC,    /* 3 + argc + envc strings */
};

struct msg_shape {
	const char *name;
	uint16_t type;
	uint8_t from; /* enum agent_from */
	uint8_t tail; /* enum tail */
	uint16_t fixed;
	uint8_t strings;
	bool streams; /* frame.stream counts */
	bool request;
	bool repeats;
	int (*check)(const void *payload); /* ranges of the fixed struct */
};

static bool zero(const void *p, size_t len)
{
	static const uint8_t none[16];
	return len <= sizeof(none) && memcmp(p, none, len) == 0;
}

static int verdict(bool ok)
{
	return ok ? 0 : -EPROTO;
}

static int check_hello(const void *payload)
{
	struct agent_hello m;
	memcpy(&m, payload, sizeof(m));
	return verdict(m.magic == AGENT_MAGIC && m.version_min <= m.version_max && !m.rsvd);
}

static int check_hello_ok(const void *payload)
{
	struct agent_hello_ok m;
	memcpy(&m, payload, sizeof(m));
	return verdict(m.magic == AGENT_MAGIC && !m.rsvd && !m.rsvd2);
}

static int check_error(const void *payload)
{
	struct agent_error m;
	memcpy(&m, payload, sizeof(m));
	return verdict(m.err > 0 && m.err < 4096 && !m.rsvd);
}

static int check_credit(const void *payload)
{
	struct agent_credit m;
	memcpy(&m, payload, sizeof(m));
	return verdict(m.bytes > 0 && m.bytes <= AGENT_CREDIT_MAX);
}

static int check_exec(const void *payload)
{
	struct agent_exec m;
	memcpy(&m, payload, sizeof(m));
	for (unsigned i = 0; i < AGENT_LIMITS_MAX; i++) {
		if (m.limit[i].rsvd || (i >= m.limit_count && !zero(&m.limit[i], 16)))
			return -EPROTO;
	}
	if (m.flags & ~AGENT_EXEC_ALL || m.limit_count > AGENT_LIMITS_MAX || m.umask > 0777)
		return -EPROTO;
	if (m.argc < 1 || m.argc > AGENT_ARGS_MAX || m.envc > AGENT_ARGS_MAX - m.argc)
		return -EPROTO;
	if (m.window[0] > AGENT_CREDIT_MAX || m.window[1] > AGENT_CREDIT_MAX)
		return -EPROTO;
	return verdict(m.blob_len >= 3 + m.argc + m.envc && m.blob_len <= AGENT_BLOB_MAX &&
		       m.timeout_signal <= 64);
}

static bool by_ok(uint32_t by)
{
	return by == AGENT_BY_ID || by == AGENT_BY_PID || by == AGENT_BY_TAG;
}

static int check_attach(const void *payload)
{
	struct agent_attach m;
	memcpy(&m, payload, sizeof(m));
	return verdict(by_ok(m.by) && !(m.flags & ~AGENT_ATTACH_ALL) &&
		       m.window[0] <= AGENT_CREDIT_MAX && m.window[1] <= AGENT_CREDIT_MAX);
}

static int check_started(const void *payload)
{
	struct agent_started m;
	memcpy(&m, payload, sizeof(m));
	return verdict(!m.rsvd && m.stdin_window <= AGENT_CREDIT_MAX);
}

static int check_exit(const void *payload)
{
	struct agent_exit m;
	memcpy(&m, payload, sizeof(m));
	if (m.rsvd || m.timed_out > 1)
		return -EPROTO;
	if (m.how == AGENT_EXITED)
		return verdict(m.status >= 0 && m.status <= 255);
	return verdict(m.how == AGENT_SIGNALED && m.status >= 1 && m.status <= 127);
}

static bool signal_ok(uint32_t signo, uint32_t scope)
{
	return signo <= 64 && scope <= AGENT_TO_GROUP;
}

static int check_signal(const void *payload)
{
	struct agent_signal m;
	memcpy(&m, payload, sizeof(m));
	return verdict(signal_ok(m.signo, m.scope));
}

static int check_proc_signal(const void *payload)
{
	struct agent_proc_signal m;
	memcpy(&m, payload, sizeof(m));
	return verdict(by_ok(m.by) && !m.rsvd && signal_ok(m.signo, m.scope));
}

static int check_resize(const void *payload)
{
	struct agent_resize m;
	memcpy(&m, payload, sizeof(m));
	return verdict(!m.rsvd);
}

static int check_proc(const void *payload)
{
	struct agent_proc m;
	memcpy(&m, payload, sizeof(m));
	return verdict(zero(m.rsvd, sizeof(m.rsvd)) && m.how <= AGENT_SIGNALED && m.status >= 0 &&
		       m.argc <= AGENT_LIST_STRINGS_MAX && m.envc <= AGENT_LIST_STRINGS_MAX);
}

static int check_file(const void *payload)
{
	struct agent_file m;
	memcpy(&m, payload, sizeof(m));
	return verdict(!m.rsvd && !(m.flags & ~AGENT_FILE_ALL) &&
		       (m.mode == AGENT_MODE_KEEP || m.mode <= 07777));
}

static int check_entry(const void *payload)
{
	struct agent_entry m;
	memcpy(&m, payload, sizeof(m));
	return verdict(!m.rsvd && m.type >= AGENT_TYPE_FILE && m.type <= AGENT_TYPE_OTHER &&
		       m.target_type <= AGENT_TYPE_OTHER);
}

static int check_event(const void *payload)
{
	struct agent_event m;
	memcpy(&m, payload, sizeof(m));
	return verdict(!m.rsvd && m.kind >= AGENT_EV_CREATE && m.kind <= AGENT_EV_GONE &&
		       m.is_dir <= 1);
}

static int check_forward(const void *payload)
{
	struct agent_forward m;
	memcpy(&m, payload, sizeof(m));
	return verdict(m.port > 0 && (m.family == 0 || m.family == 4 || m.family == 6));
}

static int check_pong(const void *payload)
{
	struct agent_pong m;
	memcpy(&m, payload, sizeof(m));
	return verdict(!m.rsvd);
}

static int check_metrics(const void *payload)
{
	struct agent_metrics_ok m;
	memcpy(&m, payload, sizeof(m));
	return verdict(!m.rsvd);
}

static int check_clock_ok(const void *payload)
{
	struct agent_clock_ok m;
	memcpy(&m, payload, sizeof(m));
	return verdict(m.stepped <= 1 && !m.rsvd);
}

static int check_freeze(const void *payload)
{
	struct agent_freeze m;
	memcpy(&m, payload, sizeof(m));
	return verdict(!m.rsvd && m.timeout_ms >= 1 && m.timeout_ms <= AGENT_FREEZE_MS_MAX);
}

static int check_wake(const void *payload)
{
	struct agent_wake m;
	memcpy(&m, payload, sizeof(m));
	return verdict(m.realtime_ns >= 0 && zero(m.rsvd, sizeof(m.rsvd)));
}

static int check_wake_ok(const void *payload)
{
	struct agent_wake_ok m;
	memcpy(&m, payload, sizeof(m));
	return verdict(!(m.done & ~AGENT_WOKE_ALL) && !m.rsvd);
}

static int check_power(const void *payload)
{
	struct agent_power m;
	memcpy(&m, payload, sizeof(m));
	return verdict(m.mode == AGENT_POWER_OFF || m.mode == AGENT_POWER_REBOOT);
}

/* clang-format off */
#define SHAPE(n, ...) { .name = #n, .type = AGENT_##n, __VA_ARGS__ }
#define CLIENT  .from = AGENT_FROM_CLIENT
#define AGENT   .from = AGENT_FROM_AGENT
#define BOTH    .from = AGENT_FROM_BOTH
#define FIXED(t, c) .fixed = sizeof(struct t), .check = (c)
#define STRINGS(n) .tail = TAIL_STRINGS, .strings = (n)
#define FILE_REQUEST(n) SHAPE(n, CLIENT, FIXED(agent_file, check_file), STRINGS(3), .request = true)
#define CONTROL .request = true, .repeats = true

static const struct msg_shape shapes[] = {
	SHAPE(HELLO, CLIENT, FIXED(agent_hello, check_hello)),
	SHAPE(HELLO_OK, AGENT, FIXED(agent_hello_ok, check_hello_ok)),
	SHAPE(ERROR, AGENT, FIXED(agent_error, check_error), STRINGS(1)),
	SHAPE(OK, AGENT, FIXED(agent_value, NULL)),
	SHAPE(END, AGENT, FIXED(agent_value, NULL)),
	SHAPE(DATA, BOTH, .tail = TAIL_BYTES, .streams = true),
	SHAPE(EOF, BOTH, .streams = true),
	SHAPE(CREDIT, BOTH, FIXED(agent_credit, check_credit), .streams = true),
	SHAPE(EXEC, CLIENT, FIXED(agent_exec, check_exec), .request = true),
	SHAPE(BLOB, CLIENT, .tail = TAIL_BYTES),
	SHAPE(ATTACH, CLIENT, FIXED(agent_attach, check_attach), STRINGS(1), .request = true),
	SHAPE(STARTED, AGENT, FIXED(agent_started, check_started)),
	SHAPE(EXIT, AGENT, FIXED(agent_exit, check_exit)),
	SHAPE(LOST, AGENT, FIXED(agent_value, NULL), .streams = true),
	SHAPE(SIGNAL, CLIENT, FIXED(agent_signal, check_signal)),
	SHAPE(RESIZE, CLIENT, FIXED(agent_resize, check_resize)),
	SHAPE(DETACH, CLIENT, .tail = TAIL_NONE),
	SHAPE(PROC_LIST, CLIENT, CONTROL),
	SHAPE(PROC, AGENT, FIXED(agent_proc, check_proc), .tail = TAIL_PROC),
	SHAPE(PROC_SIGNAL, CLIENT, FIXED(agent_proc_signal, check_proc_signal), STRINGS(1), CONTROL),
	FILE_REQUEST(FILE_READ),
	FILE_REQUEST(FILE_WRITE),
	FILE_REQUEST(STAT),
	FILE_REQUEST(LIST_DIR),
	FILE_REQUEST(MKDIR),
	FILE_REQUEST(MOVE),
	FILE_REQUEST(REMOVE),
	FILE_REQUEST(CHMOD),
	FILE_REQUEST(CHOWN),
	FILE_REQUEST(XATTR_GET),
	FILE_REQUEST(XATTR_SET),
	FILE_REQUEST(XATTR_LIST),
	FILE_REQUEST(XATTR_REMOVE),
	FILE_REQUEST(READLINK),
	FILE_REQUEST(SYMLINK),
	FILE_REQUEST(WATCH),
	SHAPE(ENTRY, AGENT, FIXED(agent_entry, check_entry), STRINGS(4)),
	SHAPE(EVENT, AGENT, FIXED(agent_event, check_event), STRINGS(1)),
	SHAPE(FORWARD, CLIENT, FIXED(agent_forward, check_forward), .request = true),
	SHAPE(PING, CLIENT, CONTROL),
	SHAPE(PONG, AGENT, FIXED(agent_pong, check_pong), STRINGS(1)),
	SHAPE(METRICS, CLIENT, CONTROL),
	SHAPE(METRICS_OK, AGENT, FIXED(agent_metrics_ok, check_metrics)),
	SHAPE(CLOCK, CLIENT, FIXED(agent_clock, NULL), CONTROL),
	SHAPE(CLOCK_OK, AGENT, FIXED(agent_clock_ok, check_clock_ok)),
	SHAPE(RESEED, CLIENT, .tail = TAIL_BYTES, CONTROL),
	SHAPE(IDENTITY, CLIENT, STRINGS(2), .request = true),
	SHAPE(FREEZE, CLIENT, FIXED(agent_freeze, check_freeze), .tail = TAIL_LIST, .request = true),
	SHAPE(THAW, CLIENT, .request = true),
	SHAPE(POWER, CLIENT, FIXED(agent_power, check_power), .request = true),
	SHAPE(WAKE, CLIENT, FIXED(agent_wake, check_wake), STRINGS(2), .request = true),
	SHAPE(WAKE_OK, AGENT, FIXED(agent_wake_ok, check_wake_ok)),
};
/* clang-format on */

static const struct msg_shape *shape_of(uint16_t type)
{
	for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
		if (shapes[i].type == type)
			return &shapes[i];
	}
	return NULL;
}

int agent_frame_check(const struct agent_frame *frame, enum agent_from from)
{
	const struct msg_shape *shape = shape_of(frame->type);

	if (!shape || !(shape->from & from))
		return -EPROTO;
	if (frame->stream > (shape->streams ? AGENT_STDERR : 0))
		return -EPROTO;
	return frame->len > AGENT_FRAME_MAX ? -E2BIG : 0;
}

static uint32_t count_strings(const char *tail, size_t len, size_t *longest)
{
	uint32_t count = 0;
	size_t start = 0;

	*longest = 0;
	for (size_t i = 0; i < len; i++) {
		if (tail[i])
			continue;
		if (i - start > *longest)
			*longest = i - start;
		start = i + 1;
		count++;
	}
	return count;
}

int agent_blob_check(const void *blob, size_t len, uint32_t count)
{
	const char *text = blob;
	size_t longest;

	if (len == 0 || text[len - 1] != '\0')
		return -EPROTO;
	return verdict(count_strings(text, len, &longest) == count);
}

static int check_tail(const struct msg_shape *shape, const uint8_t *payload, size_t len)
{
	const char *tail = (const char *)payload + shape->fixed;
	size_t left = len - shape->fixed;
	size_t longest;
	struct agent_proc proc;

	if (shape->tail == TAIL_NONE)
		return verdict(left == 0);
	if (left == 0)
		return -EPROTO;
	if (shape->tail == TAIL_BYTES)
		return verdict(shape->type != AGENT_RESEED || left <= AGENT_ENTROPY_MAX);
	if (tail[left - 1] != '\0')
		return -EPROTO;

	uint32_t count = count_strings(tail, left, &longest);
	if (shape->tail == TAIL_PROC) {
		memcpy(&proc, payload, sizeof(proc));
		return verdict(count == 3 + proc.argc + proc.envc);
	}
	if (longest >= AGENT_PATH_MAX)
		return -EPROTO;
	if (shape->tail == TAIL_LIST)
		return verdict(count <= AGENT_FREEZE_MAX);
	return verdict(count == shape->strings);
}

int agent_msg_check(const struct agent_frame *frame, const void *payload)
{
	const struct msg_shape *shape = shape_of(frame->type);

	if (!shape || frame->len < shape->fixed)
		return -EPROTO;
	if (shape->check && shape->check(payload) < 0)
		return -EPROTO;
	return check_tail(shape, payload, frame->len);
}

const uint8_t *agent_msg_tail(const struct agent_frame *frame, const void *payload, size_t *len)
{
	const struct msg_shape *shape = shape_of(frame->type);

	assert(shape);
	assert(frame->len >= shape->fixed);
	*len = frame->len - shape->fixed;
	return (const uint8_t *)payload + shape->fixed;
}

const char *agent_msg_string(const struct agent_frame *frame, const void *payload, unsigned i)
{
	size_t len;
	const char *text = (const char *)agent_msg_tail(frame, payload, &len);
	const char *end = text + len;

	while (i-- > 0 && text < end)
		text += strlen(text) + 1;
	return text < end ? text : "";
}

int agent_msg_repeats(uint16_t type)
{
	const struct msg_shape *shape = shape_of(type);
	return shape && shape->repeats;
}

int agent_msg_is_request(uint16_t type)
{
	const struct msg_shape *shape = shape_of(type);
	return shape && shape->request;
}

const char *agent_msg_name(uint16_t type)
{
	const struct msg_shape *shape = shape_of(type);
	return shape ? shape->name : "?";
}

long agent_msg_put(void *out, size_t cap, uint16_t type, uint16_t stream, const void *fixed,
		   const void *tail, size_t tail_len)
{
	const struct msg_shape *shape = shape_of(type);
	uint8_t *at = out;

	if (!shape || tail_len > AGENT_FRAME_MAX - shape->fixed)
		return -EPROTO;

	struct agent_frame frame = {
		.len = (uint32_t)(shape->fixed + tail_len), .type = type, .stream = stream};
	if (cap < sizeof(frame) + frame.len)
		return -ENOSPC;
	memcpy(at, &frame, sizeof(frame));
	if (shape->fixed)
		memcpy(at + sizeof(frame), fixed, shape->fixed);
	if (tail_len)
		memcpy(at + sizeof(frame) + shape->fixed, tail, tail_len);
	if (agent_frame_check(&frame, AGENT_FROM_BOTH) < 0 ||
	    agent_msg_check(&frame, at + sizeof(frame)) < 0)
		return -EPROTO;
	return (long)(sizeof(frame) + frame.len);
}
