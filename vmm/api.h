/* SPDX-License-Identifier: Apache-2.0 */
/* api.h - what the files behind libvmm.h share.  Thread: the caller's. */
#ifndef SPORE_VMM_API_H
#define SPORE_VMM_API_H

#include <stddef.h>

#include "base/err.h"
#include "vmm/libvmm.h"

static inline struct errmsg *text_of(struct vmm_error *why)
{
	return (struct errmsg *)why;
}

/*
 * A caller's structure, which begins with its size: an older, shorter one is completed with zeroes; a newer one is
 * not understood.  @full: zeroed, `known` bytes.  Return: 0 or -EINVAL.
 */
int take_config(void *full, size_t known, const void *given, size_t size, const char *name,
		struct vmm_error *why);

#endif
