/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.h - places where a test makes a system call fail, fall short, or be the last thing a process does
 *
 * Programs have no fault_point(): the weak name is null, and what is left of a place is one comparison.  A test
 * that defines it is asked before each such call, by the call's name, in the thread that makes the call.
 */
#ifndef SPORE_BASE_FAULT_H
#define SPORE_BASE_FAULT_H

#define FAULT_SHORT 1 /* do half of it: a short write */

/* Return: 0 go on, -errno fail with it, FAULT_SHORT. */
int fault_point(const char *call) __attribute__((weak));

static inline int fault_at(const char *call)
{
	return fault_point ? fault_point(call) : 0;
}

#endif
