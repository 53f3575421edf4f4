/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/dirty.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORD 64u

static uint64_t words_of(const struct dirty_region *r)
{
	return (r->pages + WORD - 1) / WORD;
}

static uint64_t *bitmap(const struct dirty_region *r)
{
	return calloc(words_of(r), sizeof(uint64_t));
}

int dirty_create(struct dirty *dirty, struct vmm *m)
{
	*dirty = (struct dirty){.count = m->gm.count};
	for (unsigned i = 0; i < dirty->count; i++) {
		struct dirty_region *r = &dirty->region[i];
		r->pages = m->gm.region[i].size / GM_PAGE;
		r->log = bitmap(r);
		r->own = bitmap(r);
		r->pending = bitmap(r);
		r->taken = bitmap(r);
		if (!r->log || !r->own || !r->pending || !r->taken)
			return -ENOMEM;
		gm_set_dirty(&m->gm, i, r->own);
	}
	return 0;
}

void dirty_destroy(struct dirty *dirty)
{
	for (unsigned i = 0; i < dirty->count; i++) {
		struct dirty_region *r = &dirty->region[i];
		free(r->log);
		free(r->own);
		free(r->pending);
		free(r->taken);
	}
	*dirty = (struct dirty){.on = false};
}

int dirty_start(struct dirty *dirty, struct vmm *m, struct errmsg *why)
{
	int err = 0;

	for (unsigned i = 0; !err && i < dirty->count; i++)
		err = kvm_vm_set_slot(&m->kvm, i, gpa(m->gm.region[i].start),
				      ram_region_host(&m->ram, i), m->gm.region[i].size, true, why);
	dirty->on = !err;
	return err;
}

/* Ours are set by other threads all the time: each word is taken in one step. */
static void take_own(struct dirty_region *r)
{
	for (uint64_t i = 0; i < words_of(r); i++)
		if (__atomic_load_n(&r->own[i], __ATOMIC_RELAXED))
			r->pending[i] |= __atomic_exchange_n(&r->own[i], 0, __ATOMIC_ACQ_REL);
}

/* Arms the log for runs of words that hold a bit, then calls the bits pending. */
static int take_log(struct dirty_region *r, struct vmm *m, unsigned slot, struct errmsg *why)
{
	uint64_t words = words_of(r);

	for (uint64_t i = 0, end; i < words; i = end) {
		for (end = i; end < words && r->log[end]; end++)
			r->pending[end] |= r->log[end];
		uint64_t pages = end == words ? r->pages - i * WORD : (end - i) * WORD;
		int err = end == i ? 0
				   : kvm_vm_clear_log(&m->kvm, slot, i * WORD, pages, r->log + i,
						      why);
		if (err)
			return err;
		if (end == i)
			end++;
	}
	return 0;
}

int dirty_harvest(struct dirty *dirty, struct vmm *m, struct errmsg *why)
{
	int err = 0;

	for (unsigned i = 0; !err && i < dirty->count; i++) {
		struct dirty_region *r = &dirty->region[i];
		take_own(r);
		if (!dirty->on)
			continue;
		err = kvm_vm_get_log(&m->kvm, i, r->log, why);
		if (!err)
			err = take_log(r, m, i, why);
	}
	return err;
}

void dirty_take(struct dirty *dirty)
{
	for (unsigned i = 0; i < dirty->count; i++) {
		struct dirty_region *r = &dirty->region[i];
		for (uint64_t w = 0; w < words_of(r); w++) {
			r->taken[w] |= r->pending[w];
			r->pending[w] = 0;
		}
	}
}

void dirty_kept(struct dirty *dirty)
{
	for (unsigned i = 0; i < dirty->count; i++)
		memset(dirty->region[i].taken, 0, words_of(&dirty->region[i]) * sizeof(uint64_t));
}

void dirty_lost(struct dirty *dirty)
{
	for (unsigned i = 0; i < dirty->count; i++) {
		struct dirty_region *r = &dirty->region[i];
		for (uint64_t w = 0; w < words_of(r); w++) {
			r->pending[w] |= r->taken[w];
			r->taken[w] = 0;
		}
	}
}

static int region_each(const struct dirty_region *r, uint64_t first,
		       int (*each)(void *arg, uint64_t page), void *arg)
{
	int err = 0;

	for (uint64_t i = 0; !err && i < words_of(r); i++)
		for (uint64_t bits = r->pending[i]; !err && bits; bits &= bits - 1) {
			uint64_t page = i * WORD + (unsigned)__builtin_ctzll(bits);
			err = page < r->pages ? each(arg, first + page) : 0;
		}
	return err;
}

int dirty_each(const struct dirty *dirty, int (*each)(void *arg, uint64_t page), void *arg)
{
	uint64_t first = 0;
	int err = 0;

	for (unsigned i = 0; !err && i < dirty->count; i++) {
		err = region_each(&dirty->region[i], first, each, arg);
		first += dirty->region[i].pages;
	}
	return err;
}

/* Pages are counted over all regions; `page` and `first` are of that count. */
static bool is_pending(const struct dirty *dirty, uint64_t page)
{
	uint64_t first = 0;

	for (unsigned i = 0; i < dirty->count; i++) {
		const struct dirty_region *r = &dirty->region[i];
		if (page - first < r->pages)
			return r->pending[(page - first) / WORD] >> (page - first) % WORD & 1;
		first += r->pages;
	}
	return false;
}

int dirty_narrow(const struct dirty *dirty, struct anon *written)
{
	struct anon_run *all = malloc((written->count + 1) * sizeof(*all));
	size_t count = written->count;
	int err = all ? 0 : -ENOMEM;

	if (!err && count)
		memcpy(all, written->run, count * sizeof(*all));
	written->count = 0;
	written->pages = 0;
	for (size_t i = 0; !err && i < count; i++)
		for (uint64_t p = all[i].page; !err && p < all[i].page + all[i].count; p++)
			if (is_pending(dirty, p))
				err = anon_add(written, p, 1);
	free(all);
	return err;
}
