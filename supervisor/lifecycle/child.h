/* SPDX-License-Identifier: Apache-2.0 */
/* child.h - between fork and exec: only system calls */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_CHILD_H
#define SPORE_SUPERVISOR_LIFECYCLE_CHILD_H

#include <signal.h>
#include <stddef.h>

/* As a program expects them: nothing ignored, nothing blocked. */
static inline void child_default_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

#endif
