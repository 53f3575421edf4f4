/* SPDX-License-Identifier: Apache-2.0 */
/* ctl_load.h - a LOAD request taken apart into what vmm_load() takes.  Thread: ctl. */
#ifndef SPORE_VMM_CTL_LOAD_H
#define SPORE_VMM_CTL_LOAD_H

#include "base/ctlsock.h"
#include "vmm/libvmm.h"

/* The descriptors stay the message's.  Return: 0 or -errno with *why. */
int ctl_load(struct vmm *vmm, const struct ctl_msg *msg, struct ctl_loaded *out,
	     struct errmsg *why);

#endif
