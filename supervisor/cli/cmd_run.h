/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_run.h - what the options of `spore run` and `spore doctor` fill */
#ifndef SPORE_SUPERVISOR_CLI_CMD_RUN_H
#define SPORE_SUPERVISOR_CLI_CMD_RUN_H

#include "supervisor/cli/exec.h"
#include "supervisor/cli/machine.h"
#include "supervisor/cli/opt.h"

struct run_args {
	struct machine_args machine;
	struct exec_args exec;
	uint64_t copy_bytes, copy_entries; /* --copy-out; 0: the default */
	const char *net;                   /* NULL: passt where it is to be had */
	bool timings, verbose;
	struct opt_list copy_in, copy_out, publish, net_allow;
};

struct doctor_args {
	bool json;
	const char *kvm;
};

extern const char run_about[];

#endif
