/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox.h - placeholder until the sandbox lands: nothing is narrowed yet */
#ifndef SPORE_VMM_SANDBOX_H
#define SPORE_VMM_SANDBOX_H

#include "base/err.h"

enum sandbox_role { SANDBOX_CTL, SANDBOX_IO, SANDBOX_VCPU };

static inline int sandbox_process(struct errmsg *why)
{
	(void)why;
	return 0;
}

static inline int sandbox_thread(enum sandbox_role role, struct errmsg *why)
{
	(void)role;
	(void)why;
	return 0;
}

static inline void sandbox_install_trap_handler(void)
{
}

#endif
