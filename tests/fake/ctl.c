/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/fake/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/ctlsock.h"
#include "snapshot/cow.h"
#include "snapshot/plan.h"

#define PAGES     16u
#define DISK_SIZE (1u << 20)

static struct {
	struct snap_plan base; /* where memory was when it was loaded, or first captured */
	uint64_t number, sequence;
	bool paused;
	void (*loaded)(unsigned long number);
} fake;

/* --- memory --------------------------------------------------------------------------------------- */

static int memory_file(const char *name, const void *bytes, size_t len)
{
	int fd = memfd_create(name, MFD_CLOEXEC);

	VERIFY(fd >= 0 && pwrite(fd, bytes, len, 0) == (ssize_t)len);
	return fd;
}

static int page_file(uint64_t pages)
{
	uint64_t page[SNAP_PAGE_SIZE / 8] = {fake.number};
	int fd = memory_file("fake-memory", page, sizeof(page));

	for (uint64_t i = 1; i < pages; i++) {
		memset(page, (int)i, sizeof(page));
		VERIFY(pwrite(fd, page, sizeof(page), (off_t)(i * sizeof(page))) == sizeof(page));
	}
	return fd;
}

static void add_source(struct snap_plan *plan, int fd)
{
	plan->fd = realloc(plan->fd, (plan->source_count + 1) * sizeof(*plan->fd));
	VERIFY(plan->fd);
	plan->fd[plan->source_count++] = fd;
}

static void boot(void)
{
	const struct snap_run all = {.count = PAGES, .kind = SNAP_RUN_MAP};

	if (fake.base.source_count)
		return;
	add_source(&fake.base, page_file(PAGES));
	VERIFY(!snap_runs_add(&fake.base.runs, &all));
}

/* --- disk ----------------------------------------------------------------------------------------- */

static int reopen(int fd)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDWR | O_CLOEXEC);
}

static int push_layer(int fresh, int below_read)
{
	static const uint8_t image[COW_ID_LEN];
	cleanup_close int below = reopen(below_read);
	struct cow_layer under;

	if (cow_open(below, &under, NULL)) { /* what a boot would have made */
		VERIFY(!cow_format_on(below, DISK_SIZE, COW_BLOCK_MIN, image, NULL));
		VERIFY(!cow_open(below, &under, NULL));
	}
	int err = cow_format_on(fresh, under.size, under.block_size, under.layer_id, NULL);
	return err ? err : cow_seal(below, NULL);
}

/* --- requests ------------------------------------------------------------------------------------- */

static int reply(int fd, uint16_t type, int err, const void *body, uint32_t len)
{
	return ctl_msg_send(fd, type, err, body, len, NULL, 0, NULL);
}

/* The first page is new in every capture after the first. */
static void plan_now(struct snap_plan *now)
{
	const struct snap_run first = {
		.count = 1, .kind = SNAP_RUN_MAP, .source = fake.base.source_count};
	struct snap_runs over = {.count = 0};

	for (uint32_t i = 0; i < fake.base.source_count; i++)
		add_source(now, fcntl(fake.base.fd[i], F_DUPFD_CLOEXEC, 0));
	add_source(now, page_file(1));
	VERIFY(!snap_runs_add(&over, &first));
	VERIFY(!snap_runs_overlay(&now->runs, &fake.base.runs, &over));
	snap_runs_free(&over);
}

static int on_capture(int sock, const struct ctl_msg *msg)
{
	static const uint8_t state[64] = "a machine";
	struct snap_plan now = {.source_count = 0};
	struct ctl_capture ask;

	memcpy(&ask, msg->body, sizeof(ask));
	int err = msg->fd_count == 2 ? push_layer(msg->fd[0], msg->fd[1]) : -EINVAL;
	if (err)
		return reply(sock, CTL_CAPTURE, err, "fake: layer", 11);
	boot();
	fake.number++;
	plan_now(&now);
	const struct ctl_captured said = {.sequence = ++fake.sequence,
					  .pause_ns = 1000,
					  .state_len = sizeof(state),
					  .run_count = now.runs.count,
					  .diff_pages = 1,
					  .source_count = now.source_count,
					  .diff_source = now.source_count - 1};
	int fd[8] = {memory_file("state", state, sizeof(state)), snap_runs_fd(&now.runs, NULL)};
	VERIFY(now.source_count <= 6);
	memcpy(fd + 2, now.fd, now.source_count * sizeof(*fd));
	err = ctl_msg_send(sock, CTL_CAPTURE, 0, &said, sizeof(said), fd, 2 + now.source_count,
			   NULL);
	close(fd[0]);
	close(fd[1]);
	snap_plan_free(&now);
	fake.paused = ask.flags & CTL_CAPTURE_STAY;
	return err;
}

static void read_number(void)
{
	const struct snap_run *run = snap_runs_find(&fake.base.runs, 0);

	VERIFY(run && pread(fake.base.fd[run->source], &fake.number, sizeof(fake.number),
			    (off_t)run->off) == sizeof(fake.number));
}

static int on_load(int sock, struct ctl_msg *msg)
{
	const struct ctl_loaded said = {.load_ns = 1000};
	struct ctl_load ask;

	memcpy(&ask, msg->body, sizeof(ask));
	if (fake.base.source_count || getenv("FAKE_NO_LOAD"))
		return reply(sock, CTL_LOAD, -EBUSY, "fake: it has a machine", 22);
	VERIFY(!snap_runs_read(&fake.base.runs, msg->fd[1], ask.run_count, NULL));
	for (uint32_t i = 0; i < ask.source_count; i++)
		add_source(&fake.base, ctl_msg_take(msg, 2 + i));
	read_number();
	fake.loaded((unsigned long)fake.number);
	return reply(sock, CTL_LOAD, 0, &said, sizeof(said));
}

static int on_status(int sock)
{
	const struct ctl_status said = {.state = fake.paused ? CTL_PAUSED : CTL_RUNNING, .cpus = 1};

	return reply(sock, CTL_STATUS, 0, &said, sizeof(said));
}

static int answer(int sock, struct ctl_msg *msg)
{
	switch (msg->head.type) {
	case CTL_STATUS: return on_status(sock);
	case CTL_CAPTURE: return on_capture(sock, msg);
	case CTL_LOAD: return on_load(sock, msg);
	case CTL_STOP: reply(sock, CTL_STOP, 0, NULL, 0); exit(0);
	case CTL_PAUSE:
	case CTL_RESUME: fake.paused = msg->head.type == CTL_PAUSE; break;
	default: break;
	}
	return reply(sock, msg->head.type, 0, NULL, 0);
}

static void serve_one(int sock)
{
	static struct ctl_msg msg;
	int got;

	while ((got = ctl_msg_recv(sock, &msg, NULL)) >= 0) {
		if (!got)
			continue;
		if (answer(sock, &msg))
			break;
		ctl_msg_clear(&msg);
	}
	ctl_msg_clear(&msg);
	fake.paused = false;
}

void fake_ctl_serve(int listen_fd, void (*loaded)(unsigned long number))
{
	fake.loaded = loaded;
	for (;;) {
		cleanup_close int sock = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (sock < 0 && errno != EINTR)
			return;
		if (sock >= 0)
			serve_one(sock);
	}
}
