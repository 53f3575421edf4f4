/* SPDX-License-Identifier: Apache-2.0 */
/* spore: sandboxes in microVMs from the command line.  Commands are in commands.c. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "supervisor/cli/command.h"

/* A missing stdin, stdout or stderr would let the next open() take its number. */
static void fill_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR); /* kept by children too */
	while (fd >= 0 && fd <= 2);
	if (fd < 0)
		_exit(CLI_FAILED);
	close(fd);
}

int main(int argc, char **argv)
{
	fill_standard_fds();
	signal(SIGPIPE, SIG_IGN);
	int status = command_dispatch(commands, "", argc - 1, argv + 1);
	if (fflush(stdout) || ferror(stdout))
		return status ? status : cli_fail("", "writing to stdout failed");
	return status;
}
