/* SPDX-License-Identifier: Apache-2.0 */
/* run_net.h - the network of spore run, from its options to a connected passt */
#ifndef SPORE_SUPERVISOR_CLI_RUN_NET_H
#define SPORE_SUPERVISOR_CLI_RUN_NET_H

#include "supervisor/cli/cmd_run.h"
#include "supervisor/lifecycle/vm.h"
#include "supervisor/net/passt.h"

struct run_net {
	bool wanted, demanded; /* demanded: by --net passt or --publish; without it the run fails */
	bool allow_private;
	struct passt_config passt;
	int fd, pid; /* -1, 0: not started */
};

/* Checks the options.  0, or -EINVAL with the reason. */
int run_net_check(struct run_net *net, const struct run_args *args, struct errmsg *why);
/* Starts passt; where it cannot be had and was not demanded, says on stderr what is lost. */
int run_net_start(struct run_net *net, struct errmsg *why);
/* For the VM; valid until run_net_started(). */
struct life_net run_net_life(const struct run_net *net);
/* The VMM has its own copy of the socket: ours goes, so that passt ends with the VMM. */
void run_net_started(struct run_net *net);
/* After the VMM has ended, or when none was started. */
void run_net_end(struct run_net *net);

#endif
