/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stream.c - a process's bytes: pipe to ring to connections, and stdin the other way; see proc.h
 *
 * An output is in the loop exactly while reading it is allowed (stream_arm()): a full ring must not
 * spin on a hung-up pipe.  A connection may vanish in client_run(); loops over attached connections
 * fetch the next one first.  Thread: the agent's only one.
 */
#include "agent/proc.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define VEOF_DEFAULT 4

/* --- output: pipe to ring --------------------------------------------------------------------- */

bool stream_takes_output(const struct client *client)
{
	return !(client->attach & AGENT_ATTACH_NO_OUTPUT);
}

/* How much may be read without overwriting what somebody who counts has not got yet. */
static size_t ring_allowance(const struct proc_output *output)
{
	const struct ring *ring = &output->ring;
	unsigned i = output->stream - AGENT_STDOUT;
	uint64_t held = ring->head;

	for (const struct client *client = output->proc->attached; client;
	     client = client->next_attached) {
		bool counts = stream_takes_output(client) && !(client->attach & AGENT_ATTACH_LOSSY);
		if (counts && client->stream[i].at < held)
			held = client->stream[i].at;
	}
	uint64_t waiting = ring->head - held;
	return waiting < ring->cap ? ring->cap - (size_t)waiting : 0;
}

void stream_close_output(struct proc_output *output)
{
	events_take(&output->proc->agent->loop, &output->source);
	if (output->fd >= 0)
		close(output->fd);
	output->fd = -1;
}

/* In the loop when reading is allowed, out of it when not. */
void stream_arm(struct proc_output *output)
{
	struct events *loop = &output->proc->agent->loop;
	bool allowed = output->fd >= 0 && !output->proc->retry_at && ring_allowance(output) > 0;

	if (!allowed)
		events_take(loop, &output->source);
	else if (output->source.fd < 0 &&
		 events_add(loop, &output->source, output->fd, EPOLLIN) < 0)
		stream_close_output(output);
}

/*
 * Nothing came.  A terminal says EIO while nobody has its other side open; its process may still
 * live, and closing our side now would hang it up: look again a little later, until it has ended.
 */
static void no_output(struct proc_output *output, bool at_end, int err)
{
	struct proc *proc = output->proc;
	bool ended = proc->state == PROC_EXITED;

	if (!at_end && err == EIO && !ended)
		proc->retry_at = now_ms() + PROC_RETRY_MS;
	else if (at_end || (err != EAGAIN && err != EINTR) || (ended && err == EAGAIN))
		stream_close_output(output);
}

/* One read of what is there and allowed.  The output may be closed afterwards. */
void stream_pump(struct proc_output *output)
{
	struct proc *proc = output->proc;
	bool ended = proc->state == PROC_EXITED;
	size_t room = ring_allowance(output);
	struct iovec iov[2];

	if (ended && room > output->left)
		room = output->left;
	if (output->fd < 0 || room == 0)
		return;
	int count = ring_room(&output->ring, room, iov);
	if (count < 0)
		return;
	ssize_t n = readv(output->fd, iov, count);
	if (n > 0) {
		ring_wrote(&output->ring, (size_t)n);
		output->left -= ended ? (size_t)n : 0;
	} else {
		no_output(output, n == 0, errno);
	}
	if (ended && output->left == 0)
		stream_close_output(output);
}

void stream_run_attached(struct proc *proc)
{
	struct client *after;

	for (struct client *client = proc->attached; client; client = after) {
		after = client->next_attached;
		client_run(client);
	}
}

/* --- output: ring to connection --------------------------------------------------------------- */

void stream_output_ready(struct source *source, uint32_t events)
{
	struct proc_output *output = (struct proc_output *)source;

	(void)events;
	stream_pump(output);
	stream_run_attached(output->proc);
	stream_arm(output);
}

/* Sends one frame of the stream if there is something and credit for it.  1 sent; 0 not; < 0 broken. */
static int serve_stream(struct client *client, unsigned i)
{
	struct proc_output *output = &client->proc->output[i];
	struct client_stream *stream = &client->stream[i];
	const struct ring *ring = &output->ring;
	struct iovec iov[2];

	if (stream->at < ring->tail) {
		client_put_value(client, AGENT_LOST, output->stream, ring->tail - stream->at);
		stream->at = ring->tail;
		return client_flush(client);
	}
	uint64_t len = ring->head - stream->at;
	if (len > stream->credit)
		len = stream->credit;
	if (len > AGENT_FRAME_MAX)
		len = AGENT_FRAME_MAX;
	if (len == 0)
		return 0;
	int count = ring_span(ring, stream->at, (size_t)len, iov);
	int sent = client_send_data(client, output->stream, iov, count, (size_t)len);
	if (sent < 0)
		return sent;
	stream->at += len;
	stream->credit -= len;
	return 1;
}

/* Sends what there is of both streams, in turns.  1: nothing is left to send now; 0: the socket is
 * full; < 0: broken. */
static int serve_output(struct client *client)
{
	int err = client_flush(client);

	for (unsigned idle = 0; err == 1 && idle < 2;) {
		client->turn ^= 1;
		int sent = serve_stream(client, client->turn);
		idle = sent > 0 ? 0 : idle + 1;
		err = sent < 0 ? sent : client_flush(client);
	}
	return err;
}

static bool stream_done(const struct client *client, unsigned i)
{
	const struct proc_output *output = &client->proc->output[i];
	return output->fd < 0 && client->stream[i].at == output->ring.head;
}

/* Says what has ended.  True: all has been said. */
static bool say_ends(struct client *client)
{
	const struct proc *proc = client->proc;
	bool all = proc->state == PROC_EXITED;

	if (proc->input_fd < 0 && !client->stdin_eof_sent) {
		client_put(client, AGENT_EOF, AGENT_STDIN, NULL, NULL, 0);
		client->stdin_eof_sent = true;
	}
	if (proc->state == PROC_EXITED && !client->exit_sent) {
		client_put(client, AGENT_EXIT, 0, &proc->exit, NULL, 0);
		client->exit_sent = true;
	}
	for (unsigned i = 0; i < 2 && stream_takes_output(client); i++) {
		struct client_stream *stream = &client->stream[i];
		if (!stream->eof_sent && stream_done(client, i)) {
			client_put(client, AGENT_EOF, proc->output[i].stream, NULL, NULL, 0);
			stream->eof_sent = true;
		}
		all = all && stream->eof_sent;
	}
	return all;
}

static void give_credit(struct client *client)
{
	uint64_t taken = client->proc->input_ring.tail;
	struct agent_credit credit = {0};
	unsigned done = 0;

	while (done < client->seg_count && client->seg[done].end <= taken)
		credit.bytes += client->seg[done++].bytes;
	if (!done)
		return;
	client->seg_count -= done;
	memmove(client->seg, client->seg + done, client->seg_count * sizeof(client->seg[0]));
	client->stdin_left += credit.bytes;
	client_put(client, AGENT_CREDIT, AGENT_STDIN, &credit, NULL, 0);
}

bool proc_serve(struct client *client)
{
	struct proc *proc = client->proc;

	give_credit(client);
	int err = stream_takes_output(client) ? serve_output(client) : 1;
	if (err < 0) {
		client_destroy(client);
		return false;
	}
	for (unsigned i = 0; i < 2; i++)
		stream_arm(&proc->output[i]);
	if (say_ends(client)) {
		client_put_value(client, AGENT_END, 0, 0);
		client_finish(client);
	}
	return true;
}

/* --- input ------------------------------------------------------------------------------------ */

/* What waits is dropped, and counts as taken. */
static void drop_input(struct proc *proc)
{
	proc->input_ring.tail = proc->input_ring.head;
	proc->stir = true;
}

void stream_close_input(struct proc *proc)
{
	events_take(&proc->agent->loop, &proc->input);
	if (proc->input_fd >= 0)
		close(proc->input_fd);
	proc->input_fd = -1;
	drop_input(proc);
}

/* A pipe is always in the loop, to hear that its reader is gone; a terminal only to be written to,
 * as it says it is hung up while nobody has it open. */
void stream_arm_input(struct proc *proc)
{
	struct events *loop = &proc->agent->loop;
	bool waiting = proc->input_ring.tail < proc->input_ring.head;
	bool listen = proc->input_fd >= 0 && (waiting || !(proc->flags & AGENT_EXEC_TTY));
	uint32_t events = waiting ? EPOLLOUT : 0;

	if (!listen)
		events_take(loop, &proc->input);
	else if (proc->input.fd >= 0)
		events_set(loop, &proc->input, events);
	else if (events_add(loop, &proc->input, proc->input_fd, events) < 0)
		stream_close_input(proc);
}

static void input_broken(struct proc *proc)
{
	if (proc->flags & AGENT_EXEC_TTY)
		drop_input(proc);
	else
		stream_close_input(proc);
}

static void pump_input(struct proc *proc)
{
	struct ring *ring = &proc->input_ring;

	while (proc->input_fd >= 0 && ring->tail < ring->head) {
		struct iovec iov[2];
		int count = ring_span(ring, ring->tail, (size_t)(ring->head - ring->tail), iov);
		ssize_t n = writev(proc->input_fd, iov, count);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0)
			input_broken(proc);
		else
			ring->tail += (uint64_t)n;
		proc->stir = true;
	}
	if (ring->tail == ring->head && proc->input_eof)
		stream_close_input(proc);
	stream_arm_input(proc);
}

void stream_input_ready(struct source *source, uint32_t events)
{
	struct proc *proc = (struct proc *)((char *)source - offsetof(struct proc, input));

	if (events & (EPOLLERR | EPOLLHUP))
		input_broken(proc);
	else
		pump_input(proc);
	stream_arm_input(proc);
	stream_run_attached(proc);
}

static size_t ring_left(const struct ring *ring)
{
	return ring->cap - (size_t)(ring->head - ring->tail);
}

static bool on_stdin(struct client *client, const uint8_t *data, uint32_t len)
{
	struct proc *proc = client->proc;

	/* Bytes of connections that have left may still wait: then the credit was too generous. */
	if (len > client->stdin_left || len > ring_left(&proc->input_ring))
		return false;
	client->stdin_left -= len;
	if (proc->input_fd >= 0 && !proc->input_eof) {
		if (ring_put(&proc->input_ring, data, len) < 0)
			return false;
	}
	if (client->seg_count ==
	    CLIENT_SEGS) { /* small pieces: credit for the last two comes together */
		client->seg_count--;
		len += client->seg[client->seg_count].bytes;
	}
	client->seg[client->seg_count].end = proc->input_ring.head;
	client->seg[client->seg_count++].bytes = len;
	pump_input(proc);
	return true;
}

static void on_stdin_eof(struct proc *proc)
{
	static const uint8_t end_of_file = VEOF_DEFAULT;

	if (proc->input_fd < 0 || proc->input_eof || !ring_left(&proc->input_ring))
		return;
	if (proc->flags & AGENT_EXEC_TTY)
		ring_put(&proc->input_ring, &end_of_file, 1);
	else
		proc->input_eof = true;
	pump_input(proc);
}

/* --- frames of a session ---------------------------------------------------------------------- */

static void resize(const struct proc *proc, const void *payload)
{
	struct agent_resize m;
	struct winsize size = {0};

	memcpy(&m, payload, sizeof(m));
	size.ws_row = m.rows;
	size.ws_col = m.cols;
	if (proc->output[0].fd >= 0)
		ioctl(proc->output[0].fd, TIOCSWINSZ, &size);
}

static bool on_credit(struct client *client, uint16_t stream, const void *payload)
{
	struct agent_credit credit;

	if (stream == AGENT_STDIN)
		return false;
	memcpy(&credit, payload, sizeof(credit));
	struct client_stream *to = &client->stream[stream - AGENT_STDOUT];
	if (to->credit + credit.bytes > AGENT_CREDIT_MAX)
		return false;
	to->credit += credit.bytes;
	return true;
}

static void on_detach(struct client *client)
{
	if (stream_takes_output(client)) /* else it was a short visit */
		proc_detach(client->proc);
	client_put_value(client, AGENT_END, 0, 0);
	client_finish(client);
}

bool proc_frame(struct client *client, const struct agent_frame *frame, const uint8_t *payload)
{
	struct proc *proc = client->proc;
	struct agent_signal sig;

	switch (frame->type) {
	case AGENT_DATA:
		return frame->stream == AGENT_STDIN && on_stdin(client, payload, frame->len);
	case AGENT_EOF:
		if (frame->stream != AGENT_STDIN)
			return false;
		on_stdin_eof(proc);
		return true;
	case AGENT_CREDIT: return on_credit(client, frame->stream, payload);
	case AGENT_SIGNAL:
		memcpy(&sig, payload, sizeof(sig));
		proc_kill(proc, sig.signo, sig.scope); /* already gone: EXIT says so */
		return true;
	case AGENT_RESIZE:
		if (proc->flags & AGENT_EXEC_TTY)
			resize(proc, payload);
		return true;
	case AGENT_DETACH: on_detach(client); return true;
	default: return false;
	}
}
