/* SPDX-License-Identifier: Apache-2.0 */
/* Thread: io. */
#include "devices/net_fault.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"

struct fault {
	struct net_backend net;
	struct net_backend *below;
	struct net_fault_plan *plan;
};

static struct fault *fault_of(struct net_backend *net)
{
	return container_of(net, struct fault, net);
}

/* Counts one down. */
static bool fault_draw(unsigned *left)
{
	if (!*left)
		return false;
	--*left;
	return true;
}

static int fault_set_offload(struct net_backend *net, uint64_t taken)
{
	struct net_backend *below = fault_of(net)->below;
	return below->ops->set_offload(below, taken);
}

static int fault_send(struct net_backend *net, const struct net_tx *tx)
{
	struct fault *f = fault_of(net);

	if (f->plan->dead)
		return f->plan->dead;
	if (fault_draw(&f->plan->full))
		return -EAGAIN;
	return fault_draw(&f->plan->drop_out) ? 0 : net_send(f->below, tx);
}

static int fault_flush(struct net_backend *net)
{
	return net_flush(fault_of(net)->below);
}

static int fault_peek(struct net_backend *net, struct net_rx *rx)
{
	struct fault *f = fault_of(net);
	int got;

	if (f->plan->dead)
		return f->plan->dead;
	while ((got = net_peek(f->below, rx)) == 1 && fault_draw(&f->plan->drop_in))
		net_take(f->below);
	if (got == 1 && f->plan->cut_in && rx->len > f->plan->cut_in)
		rx->len = f->plan->cut_in;
	return got;
}

static void fault_take(struct net_backend *net)
{
	net_take(fault_of(net)->below);
}

static void fault_destroy(struct net_backend *net)
{
	net_destroy(fault_of(net)->below);
	free(fault_of(net));
}

static const struct net_ops fault_ops = {
	.name = "fault",
	.set_offload = fault_set_offload,
	.send = fault_send,
	.flush = fault_flush,
	.peek = fault_peek,
	.take = fault_take,
	.destroy = fault_destroy,
};

int net_fault_create(struct net_backend **out, struct net_backend *below,
		     struct net_fault_plan *plan)
{
	struct fault *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	f->net = *below;
	f->net.ops = &fault_ops;
	f->below = below;
	f->plan = plan;
	*out = &f->net;
	return 0;
}
