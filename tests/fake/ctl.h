/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl.h - the control socket of a spore-vmm without a VM
 *
 * Its machine has 16 pages of memory.  The first holds a number, which is one higher in each capture.  A disk's layer
 * is sealed and the next laid on it, as the real one does.
 */
#ifndef SPORE_TESTS_FAKE_CTL_H
#define SPORE_TESTS_FAKE_CTL_H

/* Answers for ever.  @loaded: called in this thread when a machine has been loaded, with its number. */
void fake_ctl_serve(int listen_fd, void (*loaded)(unsigned long number));

#endif
