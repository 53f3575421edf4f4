/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compat_mdwe.h - "memory deny write execute" of Linux 6.3, whatever the build's headers know
 *
 * Source: Linux include/uapi/linux/prctl.h.  An older kernel answers EINVAL: the caller goes on without.
 */
#ifndef SPORE_BASE_COMPAT_MDWE_H
#define SPORE_BASE_COMPAT_MDWE_H

#include <stdbool.h>
#include <sys/prctl.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE              65
#define PR_MDWE_REFUSE_EXEC_GAIN 1ul
#define PR_GET_MDWE              66
#endif

/* Does the running kernel have it?  Changes nothing. */
static inline bool compat_mdwe_known(void)
{
	return prctl(PR_GET_MDWE, 0ul, 0ul, 0ul, 0ul) >= 0;
}

/* From now on no page of the process that is not executable becomes so.  False: the kernel has it not. */
static inline bool compat_mdwe_refuse_exec_gain(void)
{
	return prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0ul, 0ul, 0ul) == 0;
}

#endif
