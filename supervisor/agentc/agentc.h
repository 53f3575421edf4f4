/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agentc.h - the host's side of the agent protocol (wire/agent.h)
 *
 * Two kinds of calls.  A session (struct agentc_exec: a process run or attached to) is a
 * non-blocking object with a pollable descriptor.  Everything else is one blocking call over a
 * connection of its own, bounded by at->timeout_ms; several may run at once from several threads,
 * each with its own struct agentc.
 *
 * Bytes from the guest are hostile: every frame passes agent_msg_check(), lengths are bounded by
 * the caps of wire/agent.h, and text from the guest that ends up in *why is escaped.  Names and
 * targets inside struct agentc_entry are the guest's own bytes: escape them before printing
 * (agentc_escape()) and never use them as host paths unchecked.
 *
 * Errors: 0 or a count, else -errno with text in *why (may be NULL).  at->stage says whose errno it
 * is: 0 this host's or the connection's, else the agent's (enum agent_stage).  -ETIMEDOUT: no
 * answer within timeout_ms.  -ECONNRESET: the connection ended early.
 * Threads: no globals; one object, one thread at a time.
 */
#ifndef SPORE_SUPERVISOR_AGENTC_H
#define SPORE_SUPERVISOR_AGENTC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "wire/agent.h"

#define AGENTC_TIMEOUT_MS 30000

/* struct agentc - where an agent is; a plain value, no connection is kept in it */
struct agentc {
	const char *path; /* unix socket; NULL: fd */
	uint32_t port;    /* > 0: hybrid vsock, "CONNECT port" first; 0: the agent's own socket */
	int fd;           /* path NULL: a connected stream to the agent, taken by the next call */
	int timeout_ms;   /* of a call; of a transfer: without progress.  < 0: no bound */
	uint16_t stage;   /* out, after an error */
};

/* The agent behind a VMM's vsock socket.  `path` must outlive the value. */
struct agentc agentc_vsock(const char *path);
/* The agent on its own unix socket (--listen-fd): tests. */
struct agentc agentc_direct(const char *path);
/* The agent at the end of a connected stream; the first call takes the descriptor over. */
struct agentc agentc_over(int fd);

/* --- a process: run, attach ------------------------------------------------------------------- */

struct agentc_run {
	const char *const *argv; /* NULL-terminated, at least one */
	const char *const *env;  /* "K=V", NULL-terminated; NULL: none */
	const char *user;        /* these three: NULL = "" = the agent's choice */
	const char *cwd;
	const char *tag;
	uint32_t flags;      /* AGENT_EXEC_* */
	uint16_t rows, cols; /* with AGENT_EXEC_TTY */
	uint32_t timeout_ms; /* of the process; 0: none */
	uint32_t kill_after_ms;
	uint32_t orphan_ms;
	uint8_t timeout_signal; /* 0: SIGKILL */
	int8_t nice;
	int16_t oom_score_adj;
	uint16_t umask;
	uint16_t limit_count;
	struct agent_limit limit[AGENT_LIMITS_MAX];
	uint32_t window; /* output in flight per stream, bytes; 0: 256 KiB */
};

/* A process by id, pid or tag */
struct agentc_who {
	uint32_t by; /* AGENT_BY_* */
	uint64_t id;
	const char *tag;
};

enum agentc_kind {
	AGENTC_STARTED = 1, /* .started */
	AGENTC_OUTPUT,      /* .stream .data .len: say agentc_exec_consumed() when done with them */
	AGENTC_EOF,         /* .stream: no more output; AGENT_STDIN: the process closed its stdin */
	AGENTC_LOST,        /* .stream .lost: bytes skipped (replay or lossy client too slow) */
	AGENTC_EXIT,        /* .exit: output may still follow */
	AGENTC_END,         /* all is said; close */
	AGENTC_FAILED,      /* .error .text: it never ran, or cannot be attached to; close */
};

struct agentc_event {
	enum agentc_kind kind;
	uint16_t stream;
	const uint8_t *data; /* valid until the next call on the session */
	size_t len;
	uint64_t lost;
	struct agent_started started;
	struct agent_exit exit;
	struct agent_error error;
	char text[ERRMSG_MAX]; /* FAILED: escaped, ready to print */
};

struct agentc_exec;

/*
 * agentc_exec_start() - run a command
 * @out: the session; agentc_exec_close() it
 *
 * Never waits: connecting, CONNECT/OK and the request go on inside agentc_exec_next().
 * Return: 0; -E2BIG over AGENT_BLOB_MAX or AGENT_ARGS_MAX; -EINVAL no argv, NUL rules; -errno of
 * socket and connect.
 */
int agentc_exec_start(struct agentc_exec **out, struct agentc *at, const struct agentc_run *run,
		      struct errmsg *why);

/* The same for a process that already runs.  @flags: AGENT_ATTACH_*.  @window: as in agentc_run. */
int agentc_exec_attach(struct agentc_exec **out, struct agentc *at, const struct agentc_who *who,
		       uint32_t flags, uint32_t window, struct errmsg *why);

/* The descriptor and the poll(2) events to wait for.  They may change after each call. */
int agentc_exec_fd(const struct agentc_exec *x);
short agentc_exec_events(const struct agentc_exec *x);

/*
 * agentc_exec_next() - do what can be done without waiting, and give one event
 * Call it until it returns 0 before polling again.
 * Return: 1 an event; 0 none now; -ECONNRESET the connection ended before END or FAILED; -EPROTO
 * the agent (or whoever answers there) broke the protocol; other -errno of the socket.
 */
int agentc_exec_next(struct agentc_exec *x, struct agentc_event *ev, struct errmsg *why);

/* The same, but waits up to timeout_ms for an event (< 0: for ever).  0: time ran out. */
int agentc_exec_wait(struct agentc_exec *x, struct agentc_event *ev, int timeout_ms,
		     struct errmsg *why);

/* Output of a stream was used up: the agent may send so many bytes more. */
int agentc_exec_consumed(struct agentc_exec *x, uint16_t stream, size_t bytes);

/* How many bytes of stdin agentc_exec_stdin() would take now (0 until STARTED). */
size_t agentc_exec_room(const struct agentc_exec *x);
/* Sends up to len bytes.  Return: bytes taken, 0 when there is no room; -EPIPE after EOF. */
ssize_t agentc_exec_stdin(struct agentc_exec *x, const void *buf, size_t len);
/* True when every byte of stdin given so far has been taken over by the process's pipe. */
bool agentc_exec_stdin_drained(const struct agentc_exec *x);
int agentc_exec_stdin_eof(struct agentc_exec *x);
int agentc_exec_resize(struct agentc_exec *x, uint16_t rows, uint16_t cols);
int agentc_exec_signal(struct agentc_exec *x, uint32_t signo, uint32_t scope);
/* Leaves: END comes, and the process lives on even if it was not started detached. */
int agentc_exec_detach(struct agentc_exec *x);

/* Closes the connection; without detach an attached process gets its SIGHUP.  NULL is fine. */
void agentc_exec_close(struct agentc_exec *x);

/*
 * agentc_run_wait() - run a command to its end, output into caller's sinks (either may be NULL)
 * @at->timeout_ms bounds the wait for STARTED only; run->timeout_ms bounds the process.
 * A command that could not be run: -errno, at->stage AGENT_STAGE_USER, _CWD, _EXEC, _SETUP.
 */
typedef int (*agentc_sink)(void *arg, const void *buf, size_t len); /* 0, or -errno to stop */
int agentc_run_wait(struct agentc *at, const struct agentc_run *run, agentc_sink out,
		    agentc_sink err, void *arg, struct agent_exit *how, struct errmsg *why);

struct agentc_proc {
	struct agent_proc raw;
	const char *user, *cwd, *tag;
	const char *strings; /* argv[raw.argc] then env[raw.envc], NUL-terminated each */
};
typedef int (*agentc_on_proc)(void *arg, const struct agentc_proc *proc);
int agentc_proc_list(struct agentc *at, agentc_on_proc on_proc, void *arg, struct errmsg *why);
int agentc_proc_signal(struct agentc *at, const struct agentc_who *who, uint32_t signo,
		       uint32_t scope, struct errmsg *why);
/* Writes to the stdin of a running process and returns when its pipe has taken all; then EOF if
 * asked (a terminal gets its end-of-file character). */
enum agentc_after { AGENTC_KEEP_OPEN, AGENTC_THEN_EOF };
int agentc_proc_input(struct agentc *at, const struct agentc_who *who, const void *buf, size_t len,
		      enum agentc_after after, struct errmsg *why);
int agentc_proc_resize(struct agentc *at, const struct agentc_who *who, uint16_t rows,
		       uint16_t cols, struct errmsg *why);

/* --- files ------------------------------------------------------------------------------------ */

/* A file operation; agentc_file() fills the defaults.  See struct agent_file. */
struct agentc_file {
	const char *user;
	const char *path;
	const char *arg; /* destination, xattr name, owner, link text */
	uint32_t flags;  /* AGENT_FILE_* */
	uint32_t mode;
	uint32_t depth;
	uint64_t offset;
	uint64_t len;
	int64_t mtime_ns;
};

static inline struct agentc_file agentc_file(const char *user, const char *path)
{
	return (struct agentc_file){.user = user,
				    .path = path,
				    .mode = AGENT_MODE_KEEP,
				    .depth = 1,
				    .len = UINT64_MAX,
				    .mtime_ns = AGENT_MTIME_NOW};
}

struct agentc_entry {
	struct agent_entry raw;
	char path[AGENT_PATH_MAX];
	char owner[AGENT_NAME_MAX];
	char group[AGENT_NAME_MAX];
	char target[AGENT_PATH_MAX];
};

/*
 * agentc_read() - download
 * @entry: the file, known before the first byte reaches the sink; may be NULL
 * Return: bytes, or -errno.  What the sink already got stays got.
 */
int64_t agentc_read(struct agentc *at, const struct agentc_file *f, struct agentc_entry *entry,
		    agentc_sink sink, void *arg, struct errmsg *why);
/*
 * agentc_write() - upload; the file appears whole or not at all
 * @source: fills buf, returns bytes, 0 at the end, -errno to give up (nothing is then written)
 * Return: bytes, or -errno.
 */
typedef ssize_t (*agentc_source)(void *arg, void *buf, size_t cap);
int64_t agentc_write(struct agentc *at, const struct agentc_file *f, struct agentc_entry *entry,
		     agentc_source source, void *arg, struct errmsg *why);
int64_t agentc_write_buf(struct agentc *at, const struct agentc_file *f, const void *buf,
			 size_t len, struct errmsg *why);

int agentc_stat(struct agentc *at, const struct agentc_file *f, struct agentc_entry *entry,
		struct errmsg *why);
typedef int (*agentc_on_entry)(void *arg, const struct agentc_entry *entry);
/* Entries in depth-first, bytewise order; paths below f->path.  Return: how many. */
int64_t agentc_list(struct agentc *at, const struct agentc_file *f, agentc_on_entry on_entry,
		    void *arg, struct errmsg *why);
/* Return: directories made (0: it was there, only with AGENT_FILE_PARENTS). */
int64_t agentc_mkdir(struct agentc *at, const struct agentc_file *f, struct errmsg *why);
int agentc_move(struct agentc *at, const struct agentc_file *f, struct agentc_entry *entry,
		struct errmsg *why);
/* Return: objects removed. */
int64_t agentc_remove(struct agentc *at, const struct agentc_file *f, struct errmsg *why);
int agentc_chmod(struct agentc *at, const struct agentc_file *f, struct errmsg *why);
int agentc_chown(struct agentc *at, const struct agentc_file *f, struct errmsg *why);
int agentc_symlink(struct agentc *at, const struct agentc_file *f, struct errmsg *why);
/* Return: bytes; -ERANGE when cap is too small. */
ssize_t agentc_readlink(struct agentc *at, const struct agentc_file *f, char *buf, size_t cap,
			struct errmsg *why);
ssize_t agentc_xattr_get(struct agentc *at, const struct agentc_file *f, void *buf, size_t cap,
			 struct errmsg *why);
ssize_t agentc_xattr_list(struct agentc *at, const struct agentc_file *f, char *buf, size_t cap,
			  struct errmsg *why);
int agentc_xattr_set(struct agentc *at, const struct agentc_file *f, const void *buf, size_t len,
		     struct errmsg *why);
int agentc_xattr_remove(struct agentc *at, const struct agentc_file *f, struct errmsg *why);

struct agentc_watch;
/* Returns once the watch is in place: what happens after it is seen. */
int agentc_watch_start(struct agentc_watch **out, struct agentc *at, const struct agentc_file *f,
		       struct errmsg *why);
int agentc_watch_fd(const struct agentc_watch *w);
/* Return: 1 an event, *name valid until the next call; 0 none within timeout_ms (0: no wait). */
int agentc_watch_next(struct agentc_watch *w, struct agent_event *ev, const char **name,
		      int timeout_ms, struct errmsg *why);
void agentc_watch_close(struct agentc_watch *w);

/* --- the machine ------------------------------------------------------------------------------ */

/* Return: a connected stream to the guest's port; the caller closes it. */
int agentc_forward(struct agentc *at, uint16_t port, uint16_t family, struct errmsg *why);
/* @version: AGENT_NAME_MAX bytes, or NULL */
int agentc_ping(struct agentc *at, struct agent_pong *pong, char *version, struct errmsg *why);
int agentc_metrics(struct agentc *at, struct agent_metrics_ok *out, struct errmsg *why);
/* Steps the guest's wall clock to this host's when they differ by more than threshold_ns. */
int agentc_clock(struct agentc *at, uint64_t threshold_ns, struct agent_clock_ok *out,
		 struct errmsg *why);
int agentc_reseed(struct agentc *at, const void *entropy, size_t len, struct errmsg *why);
/* NULL or "" leaves it as it is. */
int agentc_identity(struct agentc *at, const char *hostname, const char *machine_id,
		    struct errmsg *why);
/* Return: a descriptor; the file systems stay frozen until it is closed, THAW, or the timeout. */

struct agentc_wake {
	uint64_t threshold_ns;  /* the wall clock is stepped when it is further off */
	uint64_t generation;    /* of the caller's counting */
	const char *hostname;   /* NULL or "" leaves it as it is */
	const char *machine_id; /* likewise; 32 lower-case hex digits */
};

struct agentc_woke {
	uint32_t done;               /* AGENT_WOKE_* */
	int64_t before_ns, after_ns; /* the guest's wall clock, around the step */
	uint64_t round_trip_ns; /* of the request alone; the clock is late by at most so much */
};

/*
 * agentc_wake() - make a guest that was asleep, or is a copy, fit for use, in one operation
 * Steps the clock to this host's, reseeds from 64 random bytes drawn here, sets the names.  Returns when the agent
 * has said that all of it is done; until then the guest is not to be handed out.  May be repeated after an error.
 * Return: 0; -ENAMETOOLONG; -EPROTO an agent that knows no WAKE, or another's answer; -errno.
 */
int agentc_wake(struct agentc *at, const struct agentc_wake *wake, struct agentc_woke *out,
		struct errmsg *why);
int agentc_freeze(struct agentc *at, const char *const *paths, unsigned count, uint32_t timeout_ms,
		  struct errmsg *why);
int agentc_thaw(struct agentc *at, struct errmsg *why);
int agentc_power(struct agentc *at, uint32_t mode, uint32_t grace_ms, struct errmsg *why);

/*
 * agentc_escape() - guest text made fit for a terminal
 * Control bytes, DEL, backslash and bytes that are not UTF-8 become \xHH; cut at cap with NUL.
 * Return: out.
 */
char *agentc_escape(char *out, size_t cap, const char *text, size_t len);

#endif
