/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.h - what the agent's parts share
 *
 *   main.c     arguments, signals, the loop                      init.c   PID 1: mounts, power
 *   client.c     one connection: frames in and out, requests       machine.c  ping, clock, entropy ...
 *   proc.c     processes: output rings, credit, end              spawn.c  the child before exec
 *   worker.c   file operations etc.: a forked child each         file.c tree.c watch.c forward.c
 *
 * One thread, one epoll loop, descriptors non-blocking.  What can block for long (files, which may
 * be on anything) is done in forked children, as the user it is done for; a fork is 0.1 ms here, and
 * buys that permissions, owners and limits are the kernel's business and a hung file system holds
 * up one operation only.
 */
#ifndef SPORE_AGENT_AGENT_H
#define SPORE_AGENT_AGENT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>

#include "agent/events.h"
#include "wire/agent.h"

struct client;
struct proc;

struct worker_slot {
	pid_t pid; /* 0: free */
};

struct agent {
	struct events loop;
	struct source listener;
	struct source signals;
	struct source doorbell;

	struct client *clients; /* all of them */
	unsigned client_count;
	size_t blob_bytes; /* of EXEC requests still arriving */

	struct proc *procs; /* by id, rising */
	unsigned proc_count;
	uint64_t last_id;

	struct worker_slot worker[AGENT_WORKER_MAX];
	pid_t freezer; /* the worker that holds file systems frozen, or 0 */

	/* machine */
	bool is_init;
	bool trust_uid;  /* unix socket: the peer's uid must be ours; else vsock: CID 2 */
	const char *etc; /* folder of hostname and machine-id */
	uint64_t listen_ms;
	uint64_t cpu_busy, cpu_total; /* at the last METRICS, in ticks */
	struct rlimit nofile;         /* as it was when we started */
	uint32_t power;               /* AGENT_POWER_*: asked for */
	uint32_t power_grace_ms;
	bool stop; /* leave the loop */
};

/* Starts to serve on a listening socket, which becomes the agent's.  Return: 0 or -errno. */
int agent_listen(struct agent *agent, int fd);

/* Sets up loop and tables.  Nothing is served yet. */
int agent_init(struct agent *agent);
void agent_deinit(struct agent *agent);

/* One turn: waits for events or the next deadline (at most max_wait_ms), and does what is due. */
int agent_turn(struct agent *agent, int max_wait_ms);

/* Tells the VMM that we listen: one connect to AGENT_READY_PORT, the outcome ignored. */
void agent_ring_doorbell(struct agent *agent);

/* init.c.  init_early(): mounts, root disk; does not return when it switches root (it runs the agent
 * anew from there).  init_power(): ends everything; never returns. */
void init_early(void);
void init_power(uint32_t mode, uint32_t grace_ms) __attribute__((noreturn));

/*
 * network_up() - set the first Ethernet interface up as the host says (network.c)
 * @text: "ADDRESS/BITS,GATEWAY,NAMESERVER", IPv4; also writes /etc/resolv.conf.  IPv6 configures itself.
 * What cannot be done is said on the console; the guest runs on.
 */
void network_up(const char *text);

#endif
