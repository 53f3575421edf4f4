/* SPDX-License-Identifier: Apache-2.0 */
/*
 * init.c - the init of the benchmark initramfs: says READY and ends the machine
 *
 * exec of a VMM to this line is what boot times of VMMs are compared by, so it does nothing else: no mounts, no
 * libc start-up beyond musl's, one write, one reboot.  Where the VMM does not end at a reset, the kernel panics
 * on the exit of init, which ends it too.
 */
#include <sys/reboot.h>
#include <unistd.h>

int main(void)
{
	static const char ready[] = "READY\n";

	if (write(STDOUT_FILENO, ready, sizeof(ready) - 1) != (ssize_t)sizeof(ready) - 1)
		return 1;
	(void)reboot(RB_AUTOBOOT);
	return 1;
}
