/* SPDX-License-Identifier: Apache-2.0 */
/*
 * working_set.h - which pages a loaded machine has been at, for the next load to fetch in one piece
 *
 * Memory is mapped privately, so the page tables know: a page that is there was touched, an anonymous one written.
 * A file's page that is there may also be a neighbour of one that was touched, as far as 64 KiB around it were in the
 * page cache (the kernel maps them at once, mm/memory.c, do_fault_around()).
 *
 * Thread: ctl.
 */
#ifndef SPORE_VMM_WORKING_SET_H
#define SPORE_VMM_WORKING_SET_H

#include "base/err.h"
#include "snapshot/anon.h"
#include "vmm/libvmm.h"

/* Owned by the machine. */
struct working_set {
	struct vmm_page_run *run;
	size_t count, cap;
};
void working_set_free(struct working_set *set);

/*
 * working_set_merge() - both lists as one
 * @written: where it goes beyond `touched`, that is left out
 * Return: 0 or -ENOMEM.
 */
int working_set_merge(struct working_set *set, const struct anon *touched,
		      const struct anon *written);

int machine_working_set(struct vmm *m, struct vmm_working_set *out, struct errmsg *why);

#endif
