/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - give up, for good, whatever a running VM does not need
 *
 * Two steps, because what they narrow differs:
 *   sandbox_process()  once, after everything is opened and before any thread exists: namespaces, empty
 *                      root, user, capabilities, Landlock, resource limits, no_new_privs.
 *   sandbox_thread()   in each thread, when it has been set up: the system call filter of its role.
 *                      The ctl thread comes last, when the other threads exist: its filter permits
 *                      no clone(), and a thread inherits the filters of the one that made it.
 *
 * What later operations need (fork, load into a warm VMM, userfaultfd) is made before, or comes in as
 * descriptors by recvmsg() on a socket that is open already: docs/SECURITY.md, "The door".
 */
#ifndef SPORE_VMM_SANDBOX_H
#define SPORE_VMM_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define SANDBOX_UID      65534u /* and gid: nobody, nogroup; root may name others */
#define SANDBOX_NOFILE   4096 /* open descriptors: 1023 vsock connections, and room for the rest */
#define SANDBOX_TEXT_MAX 256
#define SANDBOX_STATUS   148 /* of a process that made a call outside its filter */

enum sandbox_role { SANDBOX_CTL, SANDBOX_IO, SANDBOX_VCPU };

struct sandbox_cfg {
	uint32_t uid, gid; /* to become when root; 0: SANDBOX_UID */
	/*
	 * The vsock's uds_path, or NULL.  Its folder, and nothing else, stays reachable by that name, for
	 * connect() only: a guest's connections go to "<uds_path>_<port>".
	 */
	const char *uds_path;
	bool no_namespaces; /* for measurements, and for embedders with threads of their own */
	bool no_seccomp;    /* for debugging; looked at by those who call sandbox_thread() */
};

/* What sandbox_process() reached; a layer that the host refuses is left out, not an error. */
struct sandbox_state {
	bool userns;       /* a user namespace of its own (plain user) */
	bool namespaces;   /* mount, net, ipc, uts */
	bool empty_root;   /* the root is an empty tmpfs, with the vsock's folder at most */
	bool user_changed; /* from root to uid */
	bool no_exec_gain; /* PR_SET_MDWE, Linux 6.3 */
	int landlock_abi;  /* 0: the kernel has none */
};

/*
 * sandbox_process() - narrow the calling process
 * @out: may be NULL
 *
 * The caller has one thread.  What is fatal: dropping root or capabilities, resource limits,
 * no_new_privs.  What is left out where the host refuses it: namespaces (and with them the empty root),
 * Landlock, PR_SET_MDWE.
 * Not undone on failure: the caller ends the process.
 * Return: 0 or -errno.
 */
int sandbox_process(const struct sandbox_cfg *cfg, struct sandbox_state *out, struct errmsg *why)
	__attribute__((warn_unused_result));

/* One sentence for the log: what is in force, and what is lost on this host. */
void sandbox_describe(const struct sandbox_state *state, char text[static SANDBOX_TEXT_MAX]);

/*
 * sandbox_thread() - load the filter of `role` into the calling thread
 * Needs no_new_privs (sandbox_process()).  Unblocks SIGSYS here, so that the handler gets to report.
 * Return: 0 or -errno.
 */
int sandbox_thread(enum sandbox_role role, struct errmsg *why) __attribute__((warn_unused_result));

/*
 * sandbox_install_trap_handler() - report a refused system call and leave with SANDBOX_STATUS
 * For programs (main.c); a library installs no handlers.  Without it the signal SIGSYS ends the process.
 */
void sandbox_install_trap_handler(void);

#endif
