/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pager in a process of its own, and ordinary memory of this one that waits for it: what is touched holds what the
 * snapshot says, what was given back stays zero, and neither side outlives the other.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/cleanup.h"
#include "base/ctlsock.h"
#include "snapshot/pager.h"
#include "tests/unit/snap_rig.h"

#define PAGE     SNAP_PAGE_SIZE
#define BYTES    (PAGES * (size_t)PAGE)
#define WS_PAGES 200u
#define LIMIT_MS 60000 /* against hangs only */

struct side {
	int uffd, sock;
	pid_t pid;
	uint8_t *mem;
	struct pager_count *count; /* shared with the pager */
	struct ctl_msg msg;
};

static int uffd_open(void)
{
	cleanup_close int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	struct uffdio_api api = {.api = UFFD_API};
	int fd = device >= 0 ? ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK)
			     : (int)syscall(SYS_userfaultfd,
					    O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd >= 0)
		assert_int_equal(ioctl(fd, UFFDIO_API, &api), 0);
	return fd;
}

static void wait_for_pages(struct side *s, uint64_t page, uint64_t count)
{
	struct uffdio_register reg = {.range = {(uintptr_t)s->mem + page * PAGE, count * PAGE},
				      .mode = UFFDIO_REGISTER_MODE_MISSING};

	assert_int_equal(ioctl(s->uffd, UFFDIO_REGISTER, &reg), 0);
}

/* The pager's process; `chain` and the rest are its own from here on.  Exits with its error. */
static void side_start(struct side *s, const struct pager_cfg *like)
{
	int pair[2];

	*s = (struct side){.uffd = uffd_open()};
	if (s->uffd < 0)
		skip();
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	s->mem = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	s->count = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(s->mem != MAP_FAILED && s->count != MAP_FAILED);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (!s->pid) {
		struct pager_cfg cfg = *like;
		cfg.sock = pair[1];
		close(pair[0]);
		_exit(-pager_serve(&cfg, s->count, NULL));
	}
	close(pair[1]);
	s->sock = pair[0];
}

static void side_ask(const struct side *s, const uint8_t *base, uint64_t pages, int uffd)
{
	const struct ctl_page_in ask = {.base = (uintptr_t)base, .pages = pages};

	assert_int_equal(ctl_msg_send(s->sock, CTL_PAGE_IN, 0, &ask, sizeof(ask), &uffd, 1, NULL),
			 0);
}

/* Return: the status that the pager tells. */
static int side_done(struct side *s)
{
	struct pollfd fd = {.fd = s->sock, .events = POLLIN};

	if (poll(&fd, 1, LIMIT_MS) != 1)
		fail_msg("the pager does not answer");
	assert_int_equal(ctl_msg_recv(s->sock, &s->msg, NULL), 1);
	assert_int_equal(s->msg.head.type, CTL_PAGE_IN);
	struct uffdio_range range = {(uintptr_t)s->mem, BYTES};
	assert_int_equal(ioctl(s->uffd, UFFDIO_UNREGISTER, &range), 0);
	return s->msg.head.status;
}

/* Return: what the pager exited with. */
static int side_end(struct side *s)
{
	int status;

	for (unsigned ms = 0; waitpid(s->pid, &status, WNOHANG) == 0; ms++) {
		if (ms == LIMIT_MS)
			fail_msg("the pager does not end");
		poll(NULL, 0, 1);
	}
	close(s->uffd);
	close(s->sock);
	munmap(s->mem, BYTES);
	munmap(s->count, PAGE);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static const struct snap_run all = {.count = PAGES, .kind = SNAP_RUN_MAP};
static const struct snap_runs everything = {.run = (struct snap_run *)(uintptr_t)&all, .count = 1};

static struct snap_chain *chain_of_two(struct rig *t)
{
	rig_scribble(t, PAGES);
	rig_write(t, "a", NULL, SNAP_IMAGE_LZ4);
	rig_scribble(t, 200);
	rig_write(t, "b", "a", SNAP_IMAGE_LZ4);
	return rig_open(t, "b", SNAP_CHAIN_NEEDED);
}

static void same(const struct rig *t, const uint8_t *mem, unsigned page)
{
	if (memcmp(mem + (size_t)page * PAGE, t->mem[page], PAGE) != 0)
		fail_msg("page %u differs", page);
}

static void pager__compressed_chain__memory_is_the_snapshots(void **state)
{
	struct rig *t = *state;
	struct snap_chain *chain = chain_of_two(t);
	struct side s;

	side_start(&s, &(struct pager_cfg){.chain = chain, .lazy = &everything});
	wait_for_pages(&s, 0, PAGES);
	side_ask(&s, s.mem, PAGES, s.uffd);
	for (unsigned i = 0; i < 100; i++)
		same(t, s.mem, (unsigned)rnd(PAGES));
	assert_int_equal(side_done(&s), 0);
	for (unsigned page = 0; page < PAGES; page++)
		same(t, s.mem, page);
	assert_int_equal(s.count->pages, PAGES);
	assert_int_equal(side_end(&s), 0);
	snap_chain_close(chain);
}

/* What was written before the pager came to it stays; pages that are not its own are left alone. */
static void pager__some_pages__others_untouched(void **state)
{
	struct rig *t = *state;
	struct snap_chain *chain = chain_of_two(t);
	struct snap_run part[2] = {{.page = 5, .count = 300}, {.page = 320, .count = 7}};
	struct snap_runs runs = {.run = part, .count = 2};
	struct side s;

	side_start(&s, &(struct pager_cfg){.chain = chain, .lazy = &runs});
	for (unsigned i = 0; i < 2; i++)
		wait_for_pages(&s, part[i].page, part[i].count);
	memset(s.mem + 305 * PAGE, 7, 15 * PAGE);
	side_ask(&s, s.mem, PAGES, s.uffd);
	assert_int_equal(side_done(&s), 0);
	assert_int_equal(s.count->pages, 307);
	for (unsigned page = 0; page < 327; page++) {
		if (snap_runs_find(&runs, page))
			same(t, s.mem, page);
		else
			assert_int_equal(s.mem[page * PAGE], page >= 305 ? 7 : 0);
	}
	assert_int_equal(side_end(&s), 0);
	snap_chain_close(chain);
}

static void pager__working_set__is_one_batch(void **state)
{
	struct rig *t = *state;
	struct snap_chain *chain = chain_of_two(t);
	struct errmsg why = {""};
	snap_ws_page list[WS_PAGES];
	struct snap_ws *ws;
	struct side s;
	uint8_t *bytes;
	size_t len;

	for (unsigned i = 0; i < WS_PAGES; i++)
		list[i] = (i * 7 + 3) % PAGES | (i % 3 ? 0 : SNAP_WS_WRITTEN);
	must(snap_ws_make(chain, list, WS_PAGES, NULL, &bytes, &len, &why), &why);
	must(snap_ws_open(&ws, bytes, len, PAGES, NULL, &why), &why);
	side_start(&s, &(struct pager_cfg){.chain = chain, .lazy = &everything, .ws = ws});
	wait_for_pages(&s, 0, PAGES);
	side_ask(&s, s.mem, PAGES, s.uffd);
	assert_int_equal(side_done(&s), 0);
	assert_int_equal(s.count->batch, WS_PAGES);
	assert_int_equal(s.count->pages, PAGES);
	for (unsigned page = 0; page < PAGES; page++)
		same(t, s.mem, page);
	assert_int_equal(side_end(&s), 0);
	snap_ws_close(ws);
	snap_chain_close(chain);
}

/* As gm_discard() does it, before and after the pager has been there. */
static void pager__given_back__stays_zero(void **state)
{
	struct rig *t = *state;
	struct snap_chain *chain = chain_of_two(t);
	static const uint8_t zero[PAGE];
	struct side s;

	for (unsigned page = 0; page < PAGES; page++) { /* nothing is zero by itself */
		rig_fill(t, page, page | 1);
		t->gone[page] = false;
	}
	rig_write(t, "c", "b", SNAP_IMAGE_LZ4);
	snap_chain_close(chain);
	chain = rig_open(t, "c", SNAP_CHAIN_NEEDED);
	side_start(&s, &(struct pager_cfg){.chain = chain, .lazy = &everything});
	wait_for_pages(&s, 0, PAGES);
	const int over = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
	for (unsigned page = 20; page < PAGES; page += 100) /* neither begins nor ends a block */
		assert_ptr_equal(
			mmap(s.mem + page * PAGE, 20 * PAGE, PROT_READ | PROT_WRITE, over, -1, 0),
			s.mem + page * PAGE);
	side_ask(&s, s.mem, PAGES, s.uffd);
	same(t, s.mem, PAGES - 1);
	assert_int_equal(madvise(s.mem + (PAGES - 1) * PAGE, PAGE, MADV_DONTNEED), 0);
	assert_int_equal(side_done(&s), 0);
	assert_memory_equal(s.mem + (PAGES - 1) * PAGE, zero, PAGE);
	for (unsigned page = 0; page < PAGES - 1; page++) {
		if (page >= 20 && page % 100 >= 20 && page % 100 < 40)
			assert_memory_equal(s.mem + page * PAGE, zero, PAGE);
		else
			same(t, s.mem, page);
	}
	assert_int_equal(side_end(&s), 0);
	snap_chain_close(chain);
}

static void pager__vmm_gone__ends(void **state)
{
	struct rig *t = *state;
	struct snap_chain *chain = chain_of_two(t);
	struct side s;

	for (unsigned asked = 0; asked < 2; asked++) {
		side_start(&s, &(struct pager_cfg){.chain = chain, .lazy = &everything});
		wait_for_pages(&s, 0, PAGES);
		if (asked) {
			kill(s.pid, SIGSTOP); /* so that it finds the request and the end at once */
			side_ask(&s, s.mem, PAGES, s.uffd);
		}
		shutdown(s.sock, SHUT_RDWR);
		kill(s.pid, SIGCONT);
		assert_int_equal(side_end(&s), EPIPE);
	}
	snap_chain_close(chain);
}

static void *touch(void *page)
{
	volatile uint8_t *at = page;

	*at = 1;
	return NULL;
}

static void refused(const struct pager_cfg *cfg, uint64_t shift, uint64_t pages, int other_fd)
{
	struct side s;
	pthread_t thread;

	side_start(&s, cfg);
	wait_for_pages(&s, 0, PAGES);
	if (shift && !(shift % PAGE)) {
		struct pollfd fd = {.fd = s.uffd, .events = POLLIN};
		assert_int_equal(pthread_create(&thread, NULL, touch, s.mem), 0);
		assert_int_equal(poll(&fd, 1, LIMIT_MS), 1);
	}
	side_ask(&s, s.mem + shift, pages, other_fd >= 0 ? other_fd : s.uffd);
	assert_true(side_done(&s) < 0);
	if (shift && !(shift % PAGE))
		assert_int_equal(pthread_join(thread, NULL), 0);
	assert_true(side_end(&s) > 0);
}

static void pager__hostile_vmm__refused(void **state)
{
	struct rig *t = *state;
	struct snap_chain *chain = chain_of_two(t);
	struct pager_cfg cfg = {.chain = chain, .lazy = &everything};
	cleanup_close int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	refused(&cfg, 0, PAGES + 1, -1);
	refused(&cfg, 1, PAGES, -1);
	refused(&cfg, 0, PAGES, null);
	refused(&cfg, 0, PAGES, t->dir_fd);
	/* All that it names lies behind what it waits for. */
	struct snap_runs none = {.run = NULL};
	cfg.lazy = &none;
	refused(&cfg, BYTES, PAGES, -1);
	snap_chain_close(chain);
}

/* Neither zeroes nor other bytes are put where the snapshot is damaged. */
static void pager__damaged_snapshot__says_so(void **state)
{
	struct rig *t = *state;
	struct snap_chain *chain = chain_of_two(t);
	struct snap_image_info info;
	struct side s;
	uint8_t junk[PAGE];

	snap_image_info(snap_chain_head(chain), &info);
	memset(junk, 0xa5, sizeof(junk));
	cleanup_close int fd = openat(t->dir_fd, "a", O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	for (unsigned at = 2; at < 40; at++)
		assert_int_equal(pwrite(fd, junk, sizeof(junk), (off_t)at * PAGE), PAGE);
	side_start(&s, &(struct pager_cfg){.chain = chain, .lazy = &everything});
	wait_for_pages(&s, 0, PAGES);
	side_ask(&s, s.mem, PAGES, s.uffd);
	assert_int_equal(side_done(&s), -EBADMSG);
	assert_true(s.msg.head.len > 0);
	assert_int_equal(side_end(&s), EBADMSG);
	snap_chain_close(chain);
}

static int need_userfaultfd(void)
{
	cleanup_close int fd = uffd_open();

	if (fd >= 0)
		return 0;
	printf("no userfaultfd: %s\n", strerror(errno));
	return 77;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(pager__compressed_chain__memory_is_the_snapshots),
		rig_test(pager__some_pages__others_untouched),
		rig_test(pager__working_set__is_one_batch),
		rig_test(pager__given_back__stays_zero),
		rig_test(pager__vmm_gone__ends),
		rig_test(pager__hostile_vmm__refused),
		rig_test(pager__damaged_snapshot__says_so),
	};
	int skip_status = need_userfaultfd();

	if (skip_status)
		return skip_status;
	rig_seed();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
