/* SPDX-License-Identifier: Apache-2.0 */
/* A C program that says a line and waits: what memory costs before there is a VMM at all. */
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	puts("hello");
	fflush(stdout);
	pause();
	return 0;
}
