/* SPDX-License-Identifier: Apache-2.0 */
#include "snapshot/pager.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/ctlsock.h"

#define PAGE          SNAP_PAGE_SIZE
#define GRANULE_PAGES SNAP_IMAGE_BLOCK_PAGES
#define EVENTS        16u /* taken at one time */

struct pager {
	const struct pager_cfg *cfg;
	struct errmsg *why;
	int uffd;
	uint64_t base; /* of guest memory, in the VMM */
	uint64_t pages;
	uint64_t next;   /* all granules before it have been brought */
	uint64_t *taken; /* a bit each granule that has been brought */
	uint8_t *buf;    /* one granule */
	struct pager_count count;
};

/* --- into the VMM's memory ---------------------------------------------------------------------- */

/* One system call.  @bytes: NULL for zeroes.  Return: pages put there, or -errno. */
static int64_t put_some(const struct pager *p, uint64_t page, uint64_t count, const uint8_t *bytes)
{
	struct uffdio_copy copy = {
		.dst = p->base + page * PAGE, .src = (uintptr_t)bytes, .len = count * PAGE};
	struct uffdio_zeropage zero = {.range = {copy.dst, copy.len}};
	int failed =
		bytes ? ioctl(p->uffd, UFFDIO_COPY, &copy) : ioctl(p->uffd, UFFDIO_ZEROPAGE, &zero);
	int64_t done = bytes ? copy.copy : zero.zeropage;

	if (!failed)
		return (int64_t)count;
	return errno == EAGAIN && done > 0 ? done / PAGE : -errno;
}

/*
 * Pages that are there already stay as they are; what is not registered any more was given back.  A range that is
 * only partly registered is refused whole, and tried page by page then.
 */
static int put(struct pager *p, uint64_t page, uint64_t count, const uint8_t *bytes)
{
	uint64_t step = count;

	while (count) {
		int64_t n = put_some(p, page, step < count ? step : count, bytes);
		if (n == -EAGAIN)
			continue;
		if (n == -ENOENT && step > 1) {
			step = 1;
			continue;
		}
		if (n < 0 && n != -EEXIST && n != -ENOENT)
			return n == -ESRCH ? -EPIPE
					   : err_set(p->why, (int)n, "page %llu",
						     (unsigned long long)page);
		uint64_t done = n > 0 ? (uint64_t)n : 1;
		p->count.pages += n > 0 ? done : 0;
		page += done;
		count -= done;
		if (bytes)
			bytes += done * PAGE;
	}
	return 0;
}

/* A thread may wait for a page that came another way, or that was given back while it waited. */
static void wake(const struct pager *p, uint64_t page, uint64_t count)
{
	struct uffdio_range range = {p->base + page * PAGE, count * PAGE};

	ioctl(p->uffd, UFFDIO_WAKE, &range);
}

static bool is_zero(const uint8_t *page)
{
	return !page[0] && !memcmp(page, page + 1, PAGE - 1);
}

enum what { NOT_OURS, ZEROES, BYTES };

static int look(struct pager *p, uint64_t page, uint8_t *to, enum what *what)
{
	*what = NOT_OURS;
	if (!snap_runs_find(p->cfg->lazy, page))
		return 0;
	int err = snap_chain_read(p->cfg->chain, page, to, p->why);
	*what = is_zero(to) ? ZEROES : BYTES;
	return err;
}

static int put_alike(struct pager *p, uint64_t first, const enum what *what, unsigned count)
{
	int err = 0;

	for (unsigned i = 0, n; !err && i < count; i += n) {
		for (n = 1; i + n < count && what[i + n] == what[i]; n++)
			;
		if (what[i] != NOT_OURS)
			err = put(p, first + i, n,
				  what[i] == BYTES ? p->buf + (size_t)i * PAGE : NULL);
	}
	return err;
}

static bool is_taken(const struct pager *p, uint64_t granule)
{
	return p->taken[granule / 64] >> granule % 64 & 1;
}

static int bring(struct pager *p, uint64_t granule)
{
	enum what what[GRANULE_PAGES];
	uint64_t first = granule * GRANULE_PAGES;
	unsigned count =
		p->pages - first < GRANULE_PAGES ? (unsigned)(p->pages - first) : GRANULE_PAGES;
	int err = 0;

	p->taken[granule / 64] |= UINT64_C(1) << granule % 64;
	for (unsigned i = 0; !err && i < count; i++)
		err = look(p, first + i, p->buf + (size_t)i * PAGE, &what[i]);
	if (!err)
		err = put_alike(p, first, what, count);
	if (!err)
		wake(p, first, count);
	return err;
}

/* --- what the VMM wants --------------------------------------------------------------------------- */

static int on_fault(struct pager *p, uint64_t address)
{
	uint64_t page = (address - p->base) / PAGE; /* wraps when below: then it is outside */

	if (address < p->base || page >= p->pages)
		return err_set(p->why, EPROTO, "a fault outside of memory");
	p->count.faults++;
	if (!is_taken(p, page / GRANULE_PAGES))
		return bring(p, page / GRANULE_PAGES);
	/* It has been there: either it came while this fault was on its way, or it was given back and is zero. */
	int err = put(p, page, 1, NULL);
	wake(p, page, 1);
	return err;
}

static int take_faults(struct pager *p)
{
	struct uffd_msg msg[EVENTS];
	ssize_t n = read(p->uffd, msg, sizeof(msg));
	int err = 0;

	if (n == 0)
		return err_set(p->why, EPROTO, "the VMM's userfaultfd is none");
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0
							 : err_set(p->why, errno, "userfaultfd");
	for (size_t i = 0; !err && i < (size_t)n / sizeof(msg[0]); i++)
		err = msg[i].event == UFFD_EVENT_PAGEFAULT
			      ? on_fault(p, msg[i].arg.pagefault.address)
			      : err_set(p->why, EPROTO, "event %u", msg[i].event);
	return err;
}

/* Whatever is wanted now.  Return: 1 there was something, 0 nothing, or -errno. */
static int attend(struct pager *p)
{
	struct pollfd fd[2] = {{.fd = p->cfg->sock, .events = POLLIN},
			       {.fd = p->uffd, .events = POLLIN}};

	if (poll(fd, 2, 0) < 0)
		return errno == EINTR ? 1 : -errno;
	if (fd[0].revents)
		return -EPIPE; /* it has nothing more to say */
	if (fd[1].revents & ~POLLIN)
		return err_set(p->why, EPROTO, "the VMM's userfaultfd is none");
	if (!fd[1].revents)
		return 0;
	int err = take_faults(p);
	return err ? err : 1;
}

static int attend_all(struct pager *p)
{
	int got;

	do
		got = attend(p);
	while (got > 0);
	return got;
}

static int on_batch(void *arg, uint64_t page, uint32_t count, bool written, const void *bytes)
{
	struct pager *p = arg;

	(void)written;
	int err = attend_all(p);
	for (uint32_t i = 0; !err && i < count; i++) {
		if (is_taken(p, (page + i) / GRANULE_PAGES) ||
		    !snap_runs_find(p->cfg->lazy, page + i))
			continue;
		p->count.batch++;
		err = put(p, page + i, 1, (const uint8_t *)bytes + (size_t)i * PAGE);
		wake(p, page + i, 1);
	}
	return err;
}

static int bring_all(struct pager *p)
{
	uint64_t granules = (p->pages + GRANULE_PAGES - 1) / GRANULE_PAGES;
	int err = p->cfg->ws ? snap_ws_each(p->cfg->ws, on_batch, p, p->why) : 0;

	while (!err && p->next < granules) {
		err = attend_all(p);
		if (!err && !is_taken(p, p->next))
			err = bring(p, p->next);
		p->next++;
	}
	return err;
}

/* --- the conversation ----------------------------------------------------------------------------- */

static int take_request(struct pager *p, struct ctl_msg *msg)
{
	struct snap_image_info info;
	struct ctl_page_in asked;
	int got;

	do
		got = ctl_msg_recv(p->cfg->sock, msg, p->why);
	while (got == 0);
	if (got < 0)
		return got;
	snap_image_info(snap_chain_head(p->cfg->chain), &info);
	if (msg->head.type != CTL_PAGE_IN || msg->head.len != sizeof(asked) || msg->fd_count != 1)
		return err_set(p->why, EPROTO, "not a request for pages");
	memcpy(&asked, msg->body, sizeof(asked));
	if (asked.pages != info.pages || asked.base % PAGE || asked.base > UINT64_MAX / 2)
		return err_set(p->why, EPROTO, "%llu pages; the snapshot has %llu",
			       (unsigned long long)asked.pages, (unsigned long long)info.pages);
	p->base = asked.base;
	p->pages = asked.pages;
	p->uffd = ctl_msg_take(msg, 0);
	/* poll() of a blocking one only fails (Linux, fs/userfaultfd.c), and read() must not wait. */
	int flags = fcntl(p->uffd, F_GETFL);
	if (flags < 0 || fcntl(p->uffd, F_SETFL, flags | O_NONBLOCK))
		return err_set(p->why, errno, "the VMM's userfaultfd");
	return 0;
}

static int make_room(struct pager *p)
{
	p->taken = calloc(p->pages / GRANULE_PAGES / 64 + 1, sizeof(*p->taken));
	p->buf = malloc(SNAP_IMAGE_BLOCK);
	return p->taken && p->buf ? 0 : err_set(p->why, ENOMEM, "pager");
}

int pager_serve(const struct pager_cfg *cfg, struct pager_count *out, struct errmsg *why)
{
	cleanup_free struct ctl_msg *msg = calloc(1, sizeof(*msg));
	struct errmsg text = {""};
	struct pager p = {.cfg = cfg, .why = &text, .uffd = -1};

	if (!msg)
		return err_set(why, ENOMEM, "pager");
	int err = take_request(&p, msg);
	if (!err)
		err = make_room(&p);
	if (!err)
		err = bring_all(&p);
	if (out)
		*out = p.count;
	if (err != -EPIPE)
		ctl_msg_send(cfg->sock, CTL_PAGE_IN, err, text.text, (uint32_t)strlen(text.text),
			     NULL, 0, NULL);
	ctl_msg_clear(msg);
	if (p.uffd >= 0)
		close(p.uffd);
	free(p.taken);
	free(p.buf);
	return err ? err_set(why, 0, "pager: %s", err == -EPIPE ? "the VMM is gone" : text.text),
	       err : 0;
}
