/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.h - the command line of spore-vmm, and the statuses it exits with
 *
 * One table of rows (options.c) is the parser, the text of --help and the source of the manual page.
 * `--name VALUE` and `--name=VALUE` are the same.  Names and statuses are Firecracker's where it has
 * them.  Its clients also read the first line of `--version`: ours says "Spore VMM vX.Y.Z" where they
 * look for "Firecracker v", until the API that they go on to use is there as well.
 *
 * Thread: ctl.
 */
#ifndef SPORE_VMM_OPTIONS_H
#define SPORE_VMM_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define OPTIONS_ID_MAX 64 /* bytes; letters, digits and '-' */

enum exit_status {
	EXIT_STATUS_OK = 0,    /* the guest reset or powered off */
	EXIT_STATUS_ERROR = 1, /* KVM, the host or a guest that cannot go on */
	EXIT_STATUS_UNEXPECTED = 2,
	EXIT_STATUS_SIGSYS = 148, /* a system call outside the filter */
	EXIT_STATUS_SIGBUS = 149,
	EXIT_STATUS_SIGSEGV = 150,
	EXIT_STATUS_SIGXFSZ = 151,
	EXIT_STATUS_BAD_CONFIG = 152,
	EXIT_STATUS_BAD_ARGUMENTS = 153,
	EXIT_STATUS_SIGXCPU = 154,
	EXIT_STATUS_SIGHUP = 156,
	EXIT_STATUS_SIGILL = 157,
};

/* Strings point into argv.  A descriptor that was not given is -1. */
struct options {
	bool help, version;
	bool no_api, boot_timer, no_seccomp, no_sandbox;
	bool timings;             /* --timings with or without a file */
	const char *timings_file; /* NULL: standard error */
	const char *config_file, *id;
	const char *kvm_path; /* "/dev/kvm"; not used when kvm_fd is given */
	int kvm_fd;
	int vsock_listen_fd, ready_fd;
	int ctl_fd;          /* listening control socket (wire/ctl.h) */
	bool empty;          /* wait for a load */
	int uffd_fd;         /* an open /dev/userfaultfd */
	uint32_t ready_port; /* 0: none */
	int console_fd, console_in_fd, console_log_fd;
	uint32_t expire_ms; /* 0: never */
	int net_fd;
	bool net_filter, net_private;      /* what may leave by net_fd */
	const char *net_dns, *net_gateway; /* IPv4 addresses, or NULL */
	uint32_t uid, gid;                 /* 0: the sandbox's default */
};

/*
 * options_parse() - read the command line
 * @out: written only on success; with --help or --version nothing else is checked
 * Every descriptor given by number is open, or the call fails and names the option.
 * Return: 0, or -EINVAL (exit with EXIT_STATUS_BAD_ARGUMENTS).
 */
int options_parse(int argc, char *const argv[], struct options *out, struct errmsg *why)
	__attribute__((warn_unused_result));

void options_help(FILE *to);
/* The rows of the manual page's OPTIONS section, in man(7) markup. */
void options_man(FILE *to);

#endif
