/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "vmm/ctl_load.h"

static struct vmm_error *error_of(struct errmsg *why)
{
	return (struct vmm_error *)why;
}

int ctl_create(struct ctl *ctl, struct vmm *vmm, int listen_fd, struct errmsg *why)
{
	*ctl = (struct ctl){.vmm = vmm, .listen_fd = listen_fd};
	for (unsigned i = 0; i < CTL_CONN_MAX; i++) {
		ctl->conn[i].fd = -1;
		ctl->conn[i].msg = calloc(1, sizeof(*ctl->conn[i].msg));
		if (!ctl->conn[i].msg)
			return err_set(why, ENOMEM, "control socket");
	}
	return 0;
}

/* --- replies ---------------------------------------------------------------------------------------- */

/* What a handler makes. */
struct reply {
	uint8_t body[CTL_BODY_MAX] __attribute__((aligned(8)));
	uint32_t len;
	int fd[CTL_FDS_MAX];
	unsigned fd_count;
	unsigned own_count; /* the first so many are closed once they are sent */
};

/* The handlers: 0 or -errno with *why; a reply without body otherwise. */
typedef int handler(struct ctl *ctl, struct ctl_msg *msg, struct reply *reply, struct errmsg *why);

static int on_status(struct ctl *ctl, struct ctl_msg *msg, struct reply *reply, struct errmsg *why)
{
	static const uint32_t states[] = {[VMM_CREATED] = CTL_EMPTY,
					  [VMM_EMPTY] = CTL_EMPTY,
					  [VMM_RUNNING] = CTL_RUNNING,
					  [VMM_PAUSED] = CTL_PAUSED,
					  [VMM_ENDED] = CTL_ENDED};
	struct vmm_counters count;
	struct vmm_shape shape;

	(void)msg;
	(void)why;
	vmm_counters(ctl->vmm, &count);
	vmm_shape(ctl->vmm, &shape);
	struct ctl_status status = {
		.state = states[vmm_state(ctl->vmm)],
		.exit = (uint32_t)vmm_exit_reason(ctl->vmm, NULL),
		.cpus = shape.cpus,
		.generation = shape.generation,
		.mem_mib = shape.mem_mib,
		.captures = shape.captures,
		.sources = shape.sources,
		.exits = count.exits_io + count.exits_mmio + count.exits_other,
		.device_breaks = count.device_breaks,
	};
	memcpy(reply->body, &status, reply->len = sizeof(status));
	return 0;
}

static int on_pause(struct ctl *ctl, struct ctl_msg *msg, struct reply *reply, struct errmsg *why)
{
	(void)msg;
	(void)reply;
	return vmm_pause(ctl->vmm, error_of(why));
}

static int on_resume(struct ctl *ctl, struct ctl_msg *msg, struct reply *reply, struct errmsg *why)
{
	(void)msg;
	(void)reply;
	return vmm_resume(ctl->vmm, error_of(why));
}

static int on_stop(struct ctl *ctl, struct ctl_msg *msg, struct reply *reply, struct errmsg *why)
{
	(void)msg;
	(void)reply;
	(void)why;
	ctl->stop = true;
	return 0;
}

/* Bytes as a sealed file in memory.  Return: a descriptor, or -errno. */
static int bytes_fd(const char *name, const void *bytes, size_t len)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
	cleanup_close int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || write(fd, bytes, len) != (ssize_t)len || fcntl(fd, F_ADD_SEALS, seals))
		return errno ? -errno : -EIO;
	return steal_fd(&fd);
}

static int reply_file(struct reply *reply, const char *name, const void *bytes, size_t len,
		      struct errmsg *why)
{
	int fd = bytes_fd(name, bytes, len);

	if (fd < 0)
		return err_set(why, fd, "reply: %zu bytes", len);
	reply->fd[reply->fd_count++] = fd;
	reply->own_count++;
	return 0;
}

static int capture_reply(const struct vmm_captured *got, struct reply *reply, struct errmsg *why)
{
	const struct vmm_memory *mem = &got->memory;
	struct ctl_captured body = {
		.sequence = got->sequence,
		.pause_ns = got->pause_ns,
		.state_len = got->state_len,
		.run_count = mem->run_count,
		.diff_pages = got->diff_pages,
		.source_count = mem->fd_count,
		.diff_source = got->diff_source,
		.rehomed = got->rehomed,
		.partial = got->partial,
	};

	int err = reply_file(reply, "machine-state", got->state, got->state_len, why);
	if (!err)
		err = reply_file(reply, "memory-plan", mem->run, mem->run_count * sizeof(*mem->run),
				 why);
	if (err)
		return err;
	for (uint32_t i = 0; i < mem->fd_count; i++)
		reply->fd[reply->fd_count++] = mem->fd[i];
	memcpy(reply->body, &body, reply->len = sizeof(body));
	return 0;
}

static int on_capture(struct ctl *ctl, struct ctl_msg *msg, struct reply *reply, struct errmsg *why)
{
	struct ctl_capture asked;
	struct vmm_captured got;
	struct vmm_capture_cfg cfg = {.size = sizeof(cfg)};

	memcpy(&asked, msg->body, sizeof(asked));
	if (asked.rsvd || msg->fd_count > 2 * VMM_DRIVES_MAX || msg->fd_count % 2)
		return err_set(why, EINVAL, "capture: bad request");
	cfg.flags = (asked.flags & CTL_CAPTURE_STAY ? VMM_CAPTURE_STAY : 0) |
		    (asked.flags & CTL_CAPTURE_LAST ? VMM_CAPTURE_SINCE : 0);
	if (asked.flags & ~(CTL_CAPTURE_STAY | CTL_CAPTURE_LAST))
		return err_set(why, EINVAL, "capture: unknown flags 0x%x", asked.flags);
	cfg.layer_count = msg->fd_count / 2;
	for (uint32_t i = 0; i < cfg.layer_count; i++) {
		cfg.layer_fd[i] = msg->fd[2 * i];
		cfg.below_fd[i] = msg->fd[2 * i + 1];
	}
	int err = vmm_capture(ctl->vmm, &cfg, &got, error_of(why));
	return err ? err : capture_reply(&got, reply, why);
}

static int on_settle(struct ctl *ctl, struct ctl_msg *msg, struct reply *reply, struct errmsg *why)
{
	struct ctl_settle asked;

	(void)reply;
	memcpy(&asked, msg->body, sizeof(asked));
	if (asked.rsvd || (asked.outcome != CTL_SETTLE_KEPT && asked.outcome != CTL_SETTLE_LOST))
		return err_set(why, EINVAL, "settle: bad request");
	return vmm_settle(ctl->vmm, asked.sequence,
			  asked.outcome == CTL_SETTLE_KEPT ? VMM_KEPT : VMM_LOST, error_of(why));
}

static int on_load(struct ctl *ctl, struct ctl_msg *msg, struct reply *reply, struct errmsg *why)
{
	struct ctl_loaded body;

	int err = ctl_load(ctl->vmm, msg, &body, why);
	if (!err)
		memcpy(reply->body, &body, reply->len = sizeof(body));
	return err;
}

_Static_assert(sizeof(struct vmm_page_run) == sizeof(struct ctl_page_run) &&
		       offsetof(struct vmm_page_run, count) == offsetof(struct ctl_page_run, count),
	       "ctl_page_run");

static int on_working_set(struct ctl *ctl, struct ctl_msg *msg, struct reply *reply,
			  struct errmsg *why)
{
	struct vmm_working_set got = {.run_count = 0};

	(void)msg;
	int err = vmm_working_set(ctl->vmm, &got, error_of(why));
	if (!err)
		err = reply_file(reply, "working-set", got.run, got.run_count * sizeof(*got.run),
				 why);
	const struct ctl_working_set body = {
		.run_count = got.run_count, .pages = got.pages, .written = got.written};
	if (!err)
		memcpy(reply->body, &body, reply->len = sizeof(body));
	return err;
}

static const struct {
	handler *run;
	uint32_t len; /* of the request's body */
	bool takes_fds;
} handlers[CTL_TYPES] = {
	[CTL_STATUS] = {on_status, 0, false},
	[CTL_PAUSE] = {on_pause, 0, false},
	[CTL_RESUME] = {on_resume, 0, false},
	[CTL_STOP] = {on_stop, 0, false},
	[CTL_CAPTURE] = {on_capture, sizeof(struct ctl_capture), true},
	[CTL_SETTLE] = {on_settle, sizeof(struct ctl_settle), false},
	[CTL_LOAD] = {on_load, sizeof(struct ctl_load), true},
	[CTL_WORKING_SET] = {on_working_set, 0, false},
};

/* --- connections -------------------------------------------------------------------------------------- */

static void drop(struct ctl *ctl, struct ctl_conn *conn)
{
	ctl_msg_clear(conn->msg);
	close(conn->fd);
	conn->fd = -1;
	if (conn->holds && !ctl->stop && vmm_state(ctl->vmm) == VMM_PAUSED)
		vmm_resume(ctl->vmm, NULL);
	conn->holds = false;
}

/* Who holds the VM paused after a request of this connection. */
static bool holds_after(const struct ctl_conn *conn, unsigned type, const struct ctl_msg *msg,
			int err)
{
	struct ctl_capture asked;

	if (err || type == CTL_STATUS || type == CTL_SETTLE)
		return conn->holds;
	if (type != CTL_CAPTURE)
		return false;
	memcpy(&asked, msg->body, sizeof(asked));
	return asked.flags & CTL_CAPTURE_STAY;
}

static int carry_out(struct ctl *ctl, struct ctl_msg *msg, struct reply *reply, struct errmsg *why)
{
	unsigned type = msg->head.type;

	if (type >= CTL_TYPES || !handlers[type].run)
		return err_set(why, EOPNOTSUPP, "request %u is not known", type);
	if (msg->head.len != handlers[type].len || msg->head.status)
		return err_set(why, EINVAL, "request %u: wrong length", type);
	if (msg->fd_count && !handlers[type].takes_fds)
		return err_set(why, EINVAL, "request %u takes no descriptors", type);
	return handlers[type].run(ctl, msg, reply, why);
}

static void answer(struct ctl *ctl, struct ctl_conn *conn)
{
	static _Thread_local struct reply reply; /* large, and one at a time */
	struct errmsg why = {""};

	reply.len = reply.fd_count = reply.own_count = 0;
	int err = carry_out(ctl, conn->msg, &reply, &why);
	uint16_t type = conn->msg->head.type;
	conn->holds = holds_after(conn, type, conn->msg, err);
	ctl_msg_clear(conn->msg);
	int sent = err ? ctl_msg_send(conn->fd, type, err, why.text, (uint32_t)strlen(why.text),
				      NULL, 0, NULL)
		       : ctl_msg_send(conn->fd, type, 0, reply.body, reply.len, reply.fd,
				      reply.fd_count, NULL);
	for (unsigned i = 0; i < reply.own_count; i++)
		close(reply.fd[i]);
	if (sent)
		drop(ctl, conn);
	if (type == CTL_CAPTURE && !err)
		vmm_tidy(ctl->vmm, NULL); /* a failure ends the VM, and says so */
}

static void serve(struct ctl *ctl, struct ctl_conn *conn)
{
	int got = ctl_msg_recv(conn->fd, conn->msg, NULL);

	if (got < 0 && got != -EAGAIN)
		drop(ctl, conn);
	else if (got > 0)
		answer(ctl, conn);
}

static void take_client(struct ctl *ctl)
{
	int fd = accept4(ctl->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	for (unsigned i = 0; i < CTL_CONN_MAX; i++) {
		if (ctl->conn[i].fd < 0) {
			ctl->conn[i].fd = fd;
			return;
		}
	}
	close(fd);
}

unsigned ctl_poll_fill(const struct ctl *ctl, struct pollfd *fd)
{
	unsigned count = 0;

	fd[count++] = (struct pollfd){.fd = ctl->listen_fd, .events = POLLIN};
	for (unsigned i = 0; i < CTL_CONN_MAX; i++)
		fd[count++] = (struct pollfd){.fd = ctl->conn[i].fd, .events = POLLIN};
	return count;
}

void ctl_poll_take(struct ctl *ctl, const struct pollfd *fd, unsigned count)
{
	if (fd[0].revents)
		take_client(ctl);
	for (unsigned i = 0; i < CTL_CONN_MAX && i + 1 < count; i++)
		if (fd[i + 1].revents && fd[i + 1].fd == ctl->conn[i].fd && fd[i + 1].fd >= 0)
			serve(ctl, &ctl->conn[i]);
}
