/* SPDX-License-Identifier: Apache-2.0 */
/* The options of spore run, and what its help says besides. */
#include "supervisor/cli/cmd_run.h"
#include "supervisor/cli/command.h"

#define AT(field) offsetof(struct run_args, field)

const struct opt run_options[] = {
	MACHINE_OPTIONS(struct run_args, machine),
	EXEC_OPTIONS(struct run_args, exec),
	{.name = "copy-in",
	 .value = "SRC:DST",
	 .help = "copy a file or folder into the guest before the command runs",
	 .set = opt_set_list,
	 .offset = AT(copy_in),
	 .complete = OPT_FILE},
	{.name = "copy-out",
	 .value = "SRC:DST",
	 .help = "copy a file or folder out of the guest after it has ended",
	 .set = opt_set_list,
	 .offset = AT(copy_out),
	 .complete = OPT_FILE},
	{.name = "copy-max",
	 .value = "SIZE",
	 .help = "bytes that --copy-out takes at most (default 64G)",
	 .set = opt_set_bytes,
	 .offset = AT(copy_bytes)},
	{.name = "copy-max-files",
	 .value = "N",
	 .help = "files that --copy-out takes at most (default 1000000)",
	 .set = opt_set_count,
	 .offset = AT(copy_entries)},
	{.name = "net",
	 .value = "passt|none",
	 .help = "network of the guest (default passt where it is installed, else none)",
	 .set = opt_set_text,
	 .offset = AT(net)},
	{.name = "net-allow",
	 .value = "private|loopback",
	 .help = "let the guest reach private networks, or this host's loopback at 10.0.2.2",
	 .set = opt_set_list,
	 .offset = AT(net_allow)},
	{.name = "publish",
	 .value = "HOST:GUEST[/udp]",
	 .letter = 'p',
	 .help = "lead a port of this host's loopback to one of the guest",
	 .set = opt_set_list,
	 .offset = AT(publish)},
	{.name = "timings",
	 .help = "print the time of every phase to stderr at the end, as JSON",
	 .set = opt_set_flag,
	 .offset = AT(timings)},
	{.name = "verbose",
	 .letter = 'v',
	 .help = "show the guest's console on stderr",
	 .set = opt_set_flag,
	 .offset = AT(verbose)},
	{.name = NULL},
};

const char run_about[] =
	"The command's stdin, stdout and stderr are the caller's; signals reach it.  A second\n"
	"Ctrl-C within two seconds kills the VM.  Nothing of the sandbox is left afterwards.\n"
	"The guest reaches public addresses only; private networks and this host's loopback are\n"
	"closed to it unless --net-allow opens them.\n"
	"\n"
	"Exit status: the command's own; 128+N killed by signal N; 124 --timeout ran out;\n"
	"125 Spore failed or was used wrongly; 126 not executable; 127 not found; 130 Ctrl-C.\n"
	"\n"
	"A colon inside a name of --copy-in and --copy-out is written '\\:'.\n";
