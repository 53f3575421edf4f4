/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ctlsock.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

void ctl_msg_clear(struct ctl_msg *msg)
{
	for (unsigned i = 0; i < msg->fd_count; i++)
		if (msg->fd[i] >= 0)
			close(msg->fd[i]);
	msg->fd_count = 0;
	msg->head = (struct ctl_head){0};
	msg->body[0] = 0;
}

int ctl_msg_take(struct ctl_msg *msg, unsigned index)
{
	if (index >= msg->fd_count)
		return -1;
	int fd = msg->fd[index];
	msg->fd[index] = -1;
	return fd;
}

/* --- in ----------------------------------------------------------------------------------------- */

/* Every descriptor that arrived is ours now: keep it, or close it when there is no room. */
static int take_fds(struct ctl_msg *msg, struct msghdr *hdr)
{
	int err = hdr->msg_flags & (MSG_CTRUNC | MSG_TRUNC) ? -EPROTO : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c; c = CMSG_NXTHDR(hdr, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (msg->fd_count < CTL_FDS_MAX)
				msg->fd[msg->fd_count++] = fd;
			else
				close(fd), err = -E2BIG;
		}
	}
	return err;
}

static int check(const struct ctl_msg *msg, size_t bytes, struct errmsg *why)
{
	const struct ctl_head *head = &msg->head;

	if (bytes < sizeof(*head) || head->magic != CTL_MAGIC)
		return err_set(why, EPROTO, "control socket: not a message");
	if (head->version != CTL_VERSION)
		return err_set(why, EPROTO, "control socket: version %u, only %u is known",
			       head->version, CTL_VERSION);
	if (head->type < CTL_FDS || head->type >= CTL_TYPES || head->status > 0)
		return err_set(why, EPROTO, "control socket: unknown message %u", head->type);
	if (head->len != bytes - sizeof(*head) || (head->type == CTL_FDS && head->len))
		return err_set(why, EPROTO, "control socket: message %u has a wrong length",
			       head->type);
	return 0;
}

int ctl_msg_recv(int sock, struct ctl_msg *msg, struct errmsg *why)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(CTL_FDS_PER_MESSAGE * sizeof(int))];
	} ctl;
	struct iovec iov[] = {{&msg->head, sizeof(msg->head)}, {msg->body, CTL_BODY_MAX}};
	struct msghdr hdr = {.msg_iov = iov,
			     .msg_iovlen = 2,
			     .msg_control = ctl.bytes,
			     .msg_controllen = sizeof(ctl.bytes)};

	ssize_t n = recvmsg(sock, &hdr, MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN ? -EAGAIN : err_set(why, errno, "control socket");
	int err = take_fds(msg, &hdr);
	if (n == 0)
		return err_set(why, EPIPE, "control socket: the other side is gone");
	if (err)
		return err_set(why, err, "control socket: too long, or too many descriptors");
	err = check(msg, (size_t)n, why);
	if (err)
		return err;
	msg->body[msg->head.len] = 0;
	return msg->head.type != CTL_FDS;
}

/* --- out ---------------------------------------------------------------------------------------- */

static int send_one(int sock, const struct ctl_head *head, const void *body, const int *fd,
		    unsigned fd_count)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(CTL_FDS_PER_MESSAGE * sizeof(int))];
	} ctl = {.bytes = {0}};
	struct iovec iov[] = {{(void *)(uintptr_t)head, sizeof(*head)},
			      {(void *)(uintptr_t)body, head->len}};
	struct msghdr hdr = {.msg_iov = iov, .msg_iovlen = head->len ? 2 : 1};

	if (fd_count) {
		ctl.align = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
					     .cmsg_type = SCM_RIGHTS,
					     .cmsg_len = CMSG_LEN(fd_count * sizeof(int))};
		memcpy(CMSG_DATA(&ctl.align), fd, fd_count * sizeof(int));
		hdr.msg_control = ctl.bytes;
		hdr.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
	}
	return sendmsg(sock, &hdr, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int ctl_msg_send(int sock, uint16_t type, int32_t status, const void *body, uint32_t len,
		 const int *fd, unsigned fd_count, struct errmsg *why)
{
	struct ctl_head head = {.magic = CTL_MAGIC, .version = CTL_VERSION, .type = CTL_FDS};
	int err = len > CTL_BODY_MAX || fd_count > CTL_FDS_MAX ? -E2BIG : 0;

	for (; !err && fd_count > CTL_FDS_PER_MESSAGE; fd_count -= CTL_FDS_PER_MESSAGE) {
		err = send_one(sock, &head, NULL, fd, CTL_FDS_PER_MESSAGE);
		fd += CTL_FDS_PER_MESSAGE;
	}
	head.type = type;
	head.status = status;
	head.len = len;
	if (!err)
		err = send_one(sock, &head, body, fd, fd_count);
	return err ? err_set(why, err, "control socket") : 0;
}
