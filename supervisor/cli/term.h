/* SPDX-License-Identifier: Apache-2.0 */
/*
 * term.h - the caller's terminal
 *
 * Raw mode is left on every way out: by term_restore(), at exit(), and before the process dies of a
 * fault of its own.  (SIGKILL leaves it raw; `stty sane` is the answer, as for any program.)
 *
 * Thread: main; one terminal a process, so its state is global to term.c.
 */
#ifndef SPORE_SUPERVISOR_CLI_TERM_H
#define SPORE_SUPERVISOR_CLI_TERM_H

#include <stdint.h>

/* Puts the terminal `fd` into raw mode until term_restore() or the end.  0 or -errno. */
int term_raw(int fd);
/* Idempotent; async-signal-safe. */
void term_restore(void);

struct term_size {
	uint16_t rows, cols;
};
/* 24 x 80 where `fd` is no terminal or does not say. */
struct term_size term_size(int fd);

/*
 * A line on stderr while something takes longer than a second; nothing where stderr is no terminal.
 * progress_tick() may be called often; progress_end() takes the line away.
 */
struct progress {
	const char *what; /* "starting the VM" */
	uint64_t begin_ns, shown_s;
};
struct progress progress_begin(const char *what);
void progress_tick(struct progress *progress, uint64_t bytes);
/* The same with steps instead of bytes; of = 0: without either. */
void progress_count(struct progress *progress, uint32_t done, uint32_t of);
void progress_end(struct progress *progress);

#endif
