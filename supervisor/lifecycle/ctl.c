/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "wire/snap.h"

int ctl_open(struct ctl_client *out, const char *path, struct errmsg *why)
{
	const struct timeval wait = {.tv_sec = CTL_WAIT_MS / 1000};
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	cleanup_close int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	cleanup_free struct ctl_msg *msg = calloc(1, sizeof(*msg));

	if (fd < 0 || !msg)
		return err_set(why, msg ? errno : ENOMEM, "control socket");
	if (snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path) >=
	    (int)sizeof(addr.sun_path))
		return err_set(why, ENAMETOOLONG, "control socket");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait)) ||
	    connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return err_set(why, errno, "control socket");
	*out = (struct ctl_client){.fd = steal_fd(&fd), .msg = steal_ptr(&msg)};
	return 0;
}

void ctl_close(struct ctl_client *client)
{
	if (client->msg)
		ctl_msg_clear(client->msg);
	free(client->msg);
	cleanup_close_fn(&client->fd);
	*client = (struct ctl_client){.fd = -1};
}

/* The VMM's own words are another zone's: what a terminal would act on is taken out. */
static int refused(const struct ctl_msg *msg, struct errmsg *why)
{
	char text[CTL_TEXT_MAX];

	snprintf(text, sizeof(text), "%.*s", (int)CTL_TEXT_MAX - 1, (const char *)msg->body);
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
			*c = '?';
	err_set(why, 0, "%s", *text ? text : "the VMM refuses");
	return msg->head.status;
}

static int receive(struct ctl_client *c, uint16_t type, uint32_t reply_len, struct errmsg *why)
{
	int got;

	ctl_msg_clear(c->msg);
	do
		got = ctl_msg_recv(c->fd, c->msg, why);
	while (!got || got == -EINTR);
	if (got == -EAGAIN)
		return err_set(why, ETIMEDOUT, "the VMM does not answer");
	if (got == -EPIPE)
		err_set(why, 0, "the VMM has ended");
	if (got < 0)
		return got;
	if (c->msg->head.type != type || c->msg->head.status > 0)
		return err_set(why, EBADMSG, "the VMM's answer");
	if (c->msg->head.status)
		return refused(c->msg, why);
	return c->msg->head.len == reply_len ? 0 : err_set(why, EBADMSG, "the VMM's answer");
}

struct request {
	uint16_t type;
	const void *body;
	uint32_t len, reply_len;
	const int *fd;
	unsigned fd_count;
};

static int ask(struct ctl_client *c, const struct request *r, struct errmsg *why)
{
	int err = ctl_msg_send(c->fd, r->type, 0, r->body, r->len, r->fd, r->fd_count, why);

	return err ? err : receive(c, r->type, r->reply_len, why);
}

int ctl_status(struct ctl_client *client, struct ctl_status *out, struct errmsg *why)
{
	const struct request r = {.type = CTL_STATUS, .reply_len = sizeof(*out)};
	int err = ask(client, &r, why);

	if (!err)
		memcpy(out, client->msg->body, sizeof(*out));
	return err;
}

int ctl_order(struct ctl_client *client, uint16_t type, struct errmsg *why)
{
	return ask(client, &(struct request){.type = type}, why);
}

int ctl_settle(struct ctl_client *client, uint64_t sequence, uint32_t outcome, struct errmsg *why)
{
	const struct ctl_settle body = {.sequence = sequence, .outcome = outcome};

	return ask(client,
		   &(struct request){.type = CTL_SETTLE, .body = &body, .len = sizeof(body)}, why);
}

int ctl_load_machine(struct ctl_client *client, const struct ctl_load *load, const int *fd,
		     unsigned fd_count, struct ctl_loaded *out, struct errmsg *why)
{
	const struct request r = {.type = CTL_LOAD,
				  .body = load,
				  .len = sizeof(*load),
				  .reply_len = sizeof(*out),
				  .fd = fd,
				  .fd_count = fd_count};
	int err = ask(client, &r, why);

	if (!err)
		memcpy(out, client->msg->body, sizeof(*out));
	return err;
}

/* --- capture -------------------------------------------------------------------------------------- */

enum { CAPTURE_STATE, CAPTURE_RUNS, CAPTURE_SOURCES }; /* the reply's descriptors */

static int read_state(struct ctl_machine *to, int fd, struct errmsg *why)
{
	size_t len = to->said.state_len;
	cleanup_free uint8_t *bytes = malloc(len + 1);

	if (!bytes)
		return err_set(why, ENOMEM, "state of the machine");
	ssize_t n = pread(fd, bytes, len, 0);
	if (n != (ssize_t)len)
		return err_set(why, n < 0 ? errno : EBADMSG, "state of the machine");
	to->state = steal_ptr(&bytes);
	return 0;
}

static int take_sources(struct ctl_machine *to, struct ctl_msg *msg, struct errmsg *why)
{
	uint32_t count = to->said.source_count;

	to->plan.fd = calloc(count + 1, sizeof(*to->plan.fd));
	if (!to->plan.fd)
		return err_set(why, ENOMEM, "memory of the machine");
	for (uint32_t i = 0; i < count; i++)
		to->plan.fd[i] = ctl_msg_take(msg, CAPTURE_SOURCES + i);
	to->plan.source_count = count;
	return 0;
}

static int take_machine(struct ctl_machine *to, struct ctl_msg *msg, struct errmsg *why)
{
	memcpy(&to->said, msg->body, sizeof(to->said));
	if (to->said.state_len > SNAP_STATE_MAX || to->said.run_count > SNAP_RUNS_MAX ||
	    to->said.source_count > SNAP_SOURCES_MAX ||
	    msg->fd_count != CAPTURE_SOURCES + to->said.source_count)
		return err_set(why, EBADMSG, "the VMM's capture");
	int err = read_state(to, msg->fd[CAPTURE_STATE], why);
	if (!err)
		err = snap_runs_read(&to->plan.runs, msg->fd[CAPTURE_RUNS], to->said.run_count,
				     why);
	return err ? err : take_sources(to, msg, why);
}

int ctl_capture(struct ctl_client *client, uint32_t flags, const int *layer, unsigned layer_count,
		struct ctl_machine *out, struct errmsg *why)
{
	const struct ctl_capture body = {.flags = flags};
	const struct request r = {.type = CTL_CAPTURE,
				  .body = &body,
				  .len = sizeof(body),
				  .reply_len = sizeof(struct ctl_captured),
				  .fd = layer,
				  .fd_count = layer_count};
	struct ctl_machine made = {.state = NULL};
	int err = ask(client, &r, why);

	if (!err)
		err = take_machine(&made, client->msg, why);
	ctl_msg_clear(client->msg);
	if (err)
		ctl_capture_free(&made);
	else
		*out = made;
	return err;
}

void ctl_capture_free(struct ctl_machine *machine)
{
	free(machine->state);
	snap_plan_free(&machine->plan);
	*machine = (struct ctl_machine){.state = NULL};
}
