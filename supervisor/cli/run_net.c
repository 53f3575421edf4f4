/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cli/run_net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/cleanup.h"

static int check_allow(struct run_net *net, const struct opt_list *list, struct errmsg *why)
{
	for (size_t i = 0; i < list->count; i++) {
		if (!strcmp(list->item[i], "private"))
			net->allow_private = true;
		else if (!strcmp(list->item[i], "loopback"))
			net->passt.allow_loopback = true;
		else
			return err_set(why, 0, "--net-allow %s: not private or loopback",
				       list->item[i]);
	}
	return 0;
}

int run_net_check(struct run_net *net, const struct run_args *args, struct errmsg *why)
{
	const char *chosen = args->net ? args->net : getenv("SPORE_NET");
	bool given = chosen && *chosen, none = given && !strcmp(chosen, "none");

	*net = (struct run_net){.wanted = !none, .fd = -1};
	if (given && !none && strcmp(chosen, "passt"))
		return err_set(why, 0, "--net %s: not passt or none", chosen);
	if (none && (args->publish.count || args->net_allow.count))
		return err_set(why, 0, "--publish and --net-allow need a network, not --net none");
	net->demanded = given || args->publish.count || args->net_allow.count;
	for (size_t i = 0; i < args->publish.count; i++) {
		int err = passt_publish(&net->passt, args->publish.item[i], why);
		if (err)
			return err_wrap(why, err, "--publish");
	}
	int err = check_allow(net, &args->net_allow, why);
	/* Answers go to the gateway's address, which passt leads back to our loopback only when it maps it. */
	if (!err && *net->passt.udp && !net->passt.allow_loopback)
		return err_set(why, 0, "--publish: /udp needs --net-allow loopback");
	return err;
}

int run_net_start(struct run_net *net, struct errmsg *why)
{
	char path[512];

	if (!net->wanted)
		return 0;
	if (!net->demanded && !passt_find(path, sizeof(path))) {
		fprintf(stderr, "spore run: passt is not installed: the guest has no network "
				"(--net none says so)\n");
		return 0;
	}
	net->fd = passt_start(&net->passt, &net->pid, why);
	if (net->fd < 0 && !net->demanded) {
		fprintf(stderr, "spore run: the guest has no network: %s\n", why->text);
		return 0;
	}
	return net->fd < 0 ? err_wrap(why, net->fd, "--net passt") : 0;
}

struct life_net run_net_life(const struct run_net *net)
{
	if (net->fd < 0)
		return (struct life_net){.fd = 0};
	return (struct life_net){
		.fd = net->fd,
		.allow_private = net->allow_private,
		.dns = NET_DNS,
		.gateway = net->passt.allow_loopback ? NET_GATEWAY : NULL,
	};
}

void run_net_started(struct run_net *net)
{
	if (net->fd >= 0)
		cleanup_close_fn(&net->fd);
	net->fd = -1;
}

void run_net_end(struct run_net *net)
{
	run_net_started(net);
	while (net->pid > 0 && waitpid(net->pid, NULL, 0) < 0 && errno == EINTR)
		;
	net->pid = 0;
}
