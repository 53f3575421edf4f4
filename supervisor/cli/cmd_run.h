/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_run.h - what the options of `spore run` and `spore doctor` fill */
#ifndef SPORE_SUPERVISOR_CLI_CMD_RUN_H
#define SPORE_SUPERVISOR_CLI_CMD_RUN_H

#include "supervisor/cli/opt.h"

struct run_args {
	const char *image, *kernel, *initrd, *vmm; /* NULL: found by the rules of life_files.h */
	const char *kvm, *user, *cwd;              /* NULL: /dev/kvm, the agent's choice */
	uint32_t cpus;                             /* 0: 1 */
	uint64_t memory_mib;                       /* 0: 512 */
	uint64_t timeout_ms, boot_timeout_ms;      /* 0: none, 60 s */
	uint64_t copy_bytes, copy_entries;         /* --copy-out; 0: the default */
	bool tty, no_tty, timings, force_kvm, verbose;
	struct opt_list env, env_file, copy_in, copy_out;
};

struct doctor_args {
	bool json;
	const char *kvm;
};

extern const char run_about[];

#endif
