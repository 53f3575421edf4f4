/* SPDX-License-Identifier: Apache-2.0 */
/* start.h - from a kernel file to the registers of the first instruction.  Thread: ctl. */
#ifndef SPORE_VMM_START_H
#define SPORE_VMM_START_H

#include "base/err.h"
#include "vmm/machine.h"

/* Writes kernel, initrd, command line and tables into guest memory and sets the boot CPU's registers. */
int start_load(struct vmm *m, const struct vmm_config *cfg, struct errmsg *why);

#endif
