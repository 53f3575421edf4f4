/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_sandbox.h - what the options of the commands about sandboxes fill */
#ifndef SPORE_SUPERVISOR_CLI_CMD_SANDBOX_H
#define SPORE_SUPERVISOR_CLI_CMD_SANDBOX_H

#include "supervisor/cli/exec.h"
#include "supervisor/cli/machine.h"
#include "supervisor/cli/opt.h"
#include "supervisor/store/meta.h"

struct create_args {
	struct machine_args machine;
	const char *state_dir, *name;
	const char *from;    /* a snapshot; NULL: boot */
	uint64_t timeout_ms; /* 0: none */
	enum box_timeout on_timeout;
	bool json;
};

struct box_exec_args {
	struct exec_args exec;
	const char *state_dir;
	bool detach;
};

#define FORK_MAX 1000 /* children of one command */

struct fork_args {
	const char *state_dir, *name;
	uint64_t count; /* 0: 1 */
	bool json;
};

struct shot_args {
	const char *state_dir, *name;
	bool json;
};

/* What the smaller commands take; each has its own rows. */
struct box_args {
	const char *state_dir, *user;
	bool json, quiet, force, follow, raw, vmm;
	uint64_t lines;                    /* 0: the default */
	uint64_t copy_bytes, copy_entries; /* 0: the default */
};

extern const struct opt create_options[], exec_options[], shell_options[], attach_options[],
	ls_options[], end_options[], rm_options[], logs_options[], show_options[], cp_options[],
	fork_options[], shot_options[];

int cmd_create(void *config, int argc, char **argv);
int cmd_exec(void *config, int argc, char **argv);
int cmd_shell(void *config, int argc, char **argv);
int cmd_attach(void *config, int argc, char **argv);
int cmd_ps(void *config, int argc, char **argv);
int cmd_metrics(void *config, int argc, char **argv);
int cmd_cp(void *config, int argc, char **argv);
int cmd_ls(void *config, int argc, char **argv);
int cmd_logs(void *config, int argc, char **argv);
int cmd_pause(void *config, int argc, char **argv);
int cmd_resume(void *config, int argc, char **argv);
int cmd_fork(void *config, int argc, char **argv);
int cmd_snapshot(void *config, int argc, char **argv);
int cmd_snapshot_ls(void *config, int argc, char **argv);
int cmd_snapshot_rm(void *config, int argc, char **argv);
int cmd_kill(void *config, int argc, char **argv);
int cmd_rm(void *config, int argc, char **argv);

#endif
