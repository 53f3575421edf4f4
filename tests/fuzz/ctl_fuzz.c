/* SPDX-License-Identifier: Apache-2.0 */
/* The control socket's packets, any bytes: each input is a list of {length, bytes}. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/ctlsock.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ctl_msg msg;
	struct errmsg why;
	int sock[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, sock))
		return 0;
	while (size > 2) {
		size_t len = (size_t)data[0] | (size_t)data[1] << 8;
		data += 2;
		size -= 2;
		if (len > size)
			len = size;
		if (send(sock[0], data, len, MSG_NOSIGNAL) < 0)
			break;
		data += len;
		size -= len;
		int got = ctl_msg_recv(sock[1], &msg, &why);
		if (got > 0 && (msg.head.len > CTL_BODY_MAX || msg.body[msg.head.len] != 0))
			abort();
		if (got)
			ctl_msg_clear(&msg);
	}
	ctl_msg_clear(&msg);
	close(sock[0]);
	close(sock[1]);
	return 0;
}
