/* SPDX-License-Identifier: Apache-2.0 */
/*
 * agent.h - the protocol between a host client and spore-agent in the guest, version 1
 *
 * Transport: a byte stream (vsock, port AGENT_PORT), one connection per operation, so that no
 * operation waits behind another and the transport's own flow control is the back-pressure.  Short
 * control operations (see agent_msg_repeats()) may follow one another on one connection.
 *
 *   client                          agent
 *   HELLO {magic, min, max}  --->
 *   request (may be pipelined) -->
 *                            <---   HELLO_OK {version}     or ERROR and close
 *                            <---   answers of the request or ERROR and close
 *
 * Every message is a frame: 8 bytes of header, then `len` bytes: one fixed struct, then its tail.
 * The tail is NUL-terminated strings (exactly as many as the message says), raw bytes, or nothing.
 * All numbers little-endian.  `rsvd` is zero and checked.  Both sides treat the other's bytes as
 * hostile: agent_msg_check() is the one gate, nothing is looked at before it has passed.
 *
 * Streams of a process (EXEC, ATTACH) share a connection but not their fate: each direction of each
 * stream has its own credit.  The agent sends DATA of a stream only against bytes that the client
 * granted (window[] in the request, CREDIT after that); the client sends stdin against the window
 * in STARTED and the agent's CREDITs.  EXIT is sent when the process ends, even while output is
 * still held back; END when all of it has been sent.
 *
 * Files: requests run in the guest as the user they name.  Uploads are DATA frames and then EOF,
 * which commits; a connection that ends before EOF leaves nothing behind.
 */
#ifndef SPORE_WIRE_AGENT_H
#define SPORE_WIRE_AGENT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/agent_wake.h"

#define AGENT_PORT       1024u /* the agent listens here (AF_VSOCK) */
#define AGENT_READY_PORT 1025u /* doorbell: one connect to CID 2 when it listens; answer ignored */
#define AGENT_HOST_CID   2u    /* the only peer the agent talks to */

#define AGENT_MAGIC       0x41525053u /* "SPRA" */
#define AGENT_VERSION_MIN 1u
#define AGENT_VERSION_MAX 1u

/* Caps.  A peer that goes past one is answered with E2BIG or EPROTO and cut off. */
#define AGENT_FRAME_MAX        65536u      /* bytes of a frame's payload */
#define AGENT_PATH_MAX         4096u       /* bytes of a path with its NUL */
#define AGENT_NAME_MAX         256u        /* bytes of a user, tag, host or xattr name with NUL */
#define AGENT_BLOB_MAX         (2u << 20)  /* bytes of one EXEC's strings together */
#define AGENT_BLOB_TOTAL_MAX   (16u << 20) /* bytes of all EXEC requests still arriving */
#define AGENT_ARGS_MAX         65536u      /* argc + envc */
#define AGENT_LIMITS_MAX       8u          /* rlimits in one EXEC */
#define AGENT_CONN_MAX         512u        /* connections in the agent's loop */
#define AGENT_WORKER_MAX       128u        /* file, watch and forward operations at one time */
#define AGENT_PROC_MAX         256u        /* processes, those ended but remembered included */
#define AGENT_ATTACH_MAX       8u          /* connections attached to one process */
#define AGENT_HISTORY_BYTES    65536u      /* output kept, per stream */
#define AGENT_STDIN_WINDOW     32768u      /* stdin bytes in flight, per connection */
#define AGENT_CREDIT_MAX       (1u << 30)  /* outstanding credit of one stream */
#define AGENT_REMEMBER_MS      30000u /* an ended detached process can be attached to for this long */
#define AGENT_REQUEST_MS       10000u  /* hello and request must be complete by then */
#define AGENT_STALL_MS         300000u /* a file transfer without progress ends after this */
#define AGENT_LIST_STRINGS_MAX 8192u   /* bytes of argv and env repeated in PROC */
#define AGENT_LIST_DEPTH_MAX   64u
#define AGENT_ENTROPY_MAX      512u /* bytes in one RESEED */
#define AGENT_FREEZE_MAX       8u   /* file systems in one FREEZE */
#define AGENT_FREEZE_MS_MAX    60000u
#define AGENT_XATTR_MAX        65536u

/* enum agent_msg - frame types; numbers are never reused */
enum agent_msg {
	AGENT_HELLO = 0x01,
	AGENT_HELLO_OK = 0x02,
	AGENT_ERROR = 0x03, /* the operation failed; the last frame, except after repeatable ones */
	AGENT_OK = 0x04,    /* done; `value` as the operation says */
	AGENT_END = 0x05,   /* last frame of a list, a download or a session; `value` as said */

	/* both ways inside an operation; frame.stream is one of enum agent_stream */
	AGENT_DATA = 0x10,   /* raw bytes, at least one */
	AGENT_EOF = 0x11,    /* stream ends; for an upload: commit */
	AGENT_CREDIT = 0x12, /* so many more bytes may be sent on this stream */

	/* processes */
	AGENT_EXEC = 0x20,      /* then BLOB until blob_len -> STARTED, session */
	AGENT_BLOB = 0x21,      /* raw bytes of an EXEC's strings */
	AGENT_ATTACH = 0x22,    /* -> STARTED, session */
	AGENT_STARTED = 0x23,   /* first answer of a session */
	AGENT_EXIT = 0x24,      /* the process ended; output may still follow */
	AGENT_LOST = 0x25,      /* this much of a stream was overwritten before it could be sent */
	AGENT_SIGNAL = 0x26,    /* in a session */
	AGENT_RESIZE = 0x27,    /* in a session with a terminal */
	AGENT_DETACH = 0x28,    /* in a session: leave, process lives on -> END */
	AGENT_PROC_LIST = 0x29, /* -> PROC ..., END {count} */
	AGENT_PROC = 0x2a,
	AGENT_PROC_SIGNAL = 0x2b, /* by id, pid or tag -> OK */

	/* files: struct agent_file each */
	AGENT_FILE_READ = 0x40,  /* offset, len -> ENTRY, DATA ..., END {bytes} */
	AGENT_FILE_WRITE = 0x41, /* mode, mtime; DATA ..., EOF -> ENTRY, END {bytes} */
	AGENT_STAT = 0x42,       /* -> ENTRY */
	AGENT_LIST_DIR = 0x43,   /* depth -> ENTRY ..., END {count} */
	AGENT_MKDIR = 0x44,      /* mode -> OK {directories made} */
	AGENT_MOVE = 0x45,       /* arg = destination -> ENTRY of the destination */
	AGENT_REMOVE = 0x46,     /* -> OK {objects removed} */
	AGENT_CHMOD = 0x47,      /* mode -> OK */
	AGENT_CHOWN = 0x48, /* arg = "user:group", names or numbers, either part optional -> OK */
	AGENT_XATTR_GET = 0x49,    /* arg = name -> DATA, END {bytes} */
	AGENT_XATTR_SET = 0x4a,    /* arg = name; DATA ..., EOF -> OK */
	AGENT_XATTR_LIST = 0x4b,   /* -> DATA (NUL-terminated names), END {bytes} */
	AGENT_XATTR_REMOVE = 0x4c, /* arg = name -> OK */
	AGENT_READLINK = 0x4d,     /* -> DATA, END {bytes} */
	AGENT_SYMLINK = 0x4e,      /* arg = what the link holds -> OK */
	AGENT_WATCH = 0x4f, /* -> OK {directories watched}, EVENT ... until the client closes */
	AGENT_ENTRY = 0x50,
	AGENT_EVENT = 0x51,

	/* the machine */
	AGENT_FORWARD = 0x60, /* -> OK, then raw bytes both ways, no more frames */
	AGENT_PING = 0x70,    /* -> PONG */
	AGENT_PONG = 0x71,
	AGENT_METRICS = 0x72, /* -> METRICS_OK */
	AGENT_METRICS_OK = 0x73,
	AGENT_CLOCK = 0x74, /* -> CLOCK_OK */
	AGENT_CLOCK_OK = 0x75,
	AGENT_RESEED = 0x76,   /* raw entropy -> OK {bytes credited} */
	AGENT_IDENTITY = 0x77, /* -> OK */
	AGENT_FREEZE = 0x78,   /* -> OK {file systems frozen}; thawed by THAW, close or timeout */
	AGENT_THAW = 0x79,     /* -> OK */
	AGENT_POWER = 0x7a,    /* -> OK, then the machine goes down */
	AGENT_WAKE = 0x7b,     /* clock, entropy and names at once (agent_wake.h) -> WAKE_OK */
	AGENT_WAKE_OK = 0x7c,
};

enum agent_stream {
	AGENT_STDIN = 0,
	AGENT_STDOUT = 1, /* a terminal's output too */
	AGENT_STDERR = 2,
};

struct agent_frame {
	uint32_t len;    /* bytes after this header, at most AGENT_FRAME_MAX */
	uint16_t type;   /* enum agent_msg */
	uint16_t stream; /* enum agent_stream in DATA, EOF, CREDIT, LOST; else 0 */
};
static_assert(sizeof(struct agent_frame) == 8, "wire layout");
static_assert(offsetof(struct agent_frame, type) == 4, "wire layout");
static_assert(offsetof(struct agent_frame, stream) == 6, "wire layout");

struct agent_hello {
	uint32_t magic;
	uint16_t version_min;
	uint16_t version_max;
	uint64_t rsvd;
};
static_assert(sizeof(struct agent_hello) == 16, "wire layout");
static_assert(offsetof(struct agent_hello, version_min) == 4, "wire layout");
static_assert(offsetof(struct agent_hello, version_max) == 6, "wire layout");
static_assert(offsetof(struct agent_hello, rsvd) == 8, "wire layout");

struct agent_hello_ok {
	uint32_t magic;
	uint16_t version; /* the highest that both speak */
	uint16_t rsvd;
	uint64_t rsvd2;
};
static_assert(sizeof(struct agent_hello_ok) == 16, "wire layout");
static_assert(offsetof(struct agent_hello_ok, version) == 4, "wire layout");
static_assert(offsetof(struct agent_hello_ok, rsvd) == 6, "wire layout");
static_assert(offsetof(struct agent_hello_ok, rsvd2) == 8, "wire layout");

/* What the agent was doing when it failed; with the errno it says what a shell would (126, 127). */
enum agent_stage {
	AGENT_STAGE_REQUEST = 1, /* malformed, over a cap, unknown version or type */
	AGENT_STAGE_BUSY = 2,    /* a table is full: EAGAIN, try again */
	AGENT_STAGE_USER = 3,    /* no such user, or not allowed to become it */
	AGENT_STAGE_CWD = 4,     /* working directory missing or not enterable */
	AGENT_STAGE_EXEC = 5,    /* ENOENT: not found (127); anything else: not executable (126) */
	AGENT_STAGE_SETUP = 6,   /* pipes, terminal, limits */
	AGENT_STAGE_PROC = 7,    /* no such process */
	AGENT_STAGE_FILE = 8,    /* file operation */
	AGENT_STAGE_NET = 9,     /* forward */
	AGENT_STAGE_SYSTEM = 10, /* clock, entropy, freeze, power */
};

struct agent_error {
	int32_t err;    /* a Linux errno, > 0 */
	uint16_t stage; /* enum agent_stage */
	uint16_t rsvd;
}; /* + text (1 string) */
static_assert(sizeof(struct agent_error) == 8, "wire layout");
static_assert(offsetof(struct agent_error, stage) == 4, "wire layout");
static_assert(offsetof(struct agent_error, rsvd) == 6, "wire layout");

struct agent_value { /* OK, END, LOST */
	uint64_t value;
};
static_assert(sizeof(struct agent_value) == 8, "wire layout");

struct agent_credit {
	uint32_t bytes; /* > 0 */
};
static_assert(sizeof(struct agent_credit) == 4, "wire layout");

/* --- processes -------------------------------------------------------------------------------- */

struct agent_limit {
	uint32_t resource; /* Linux RLIMIT_* */
	uint32_t rsvd;
	uint64_t soft;
	uint64_t hard;
};
static_assert(sizeof(struct agent_limit) == 24, "wire layout");
static_assert(offsetof(struct agent_limit, rsvd) == 4, "wire layout");
static_assert(offsetof(struct agent_limit, soft) == 8, "wire layout");
static_assert(offsetof(struct agent_limit, hard) == 16, "wire layout");

/* Flags of EXEC */
#define AGENT_EXEC_DETACHED 0x01u /* lives on without a connection; else SIGHUP (see orphan_ms) */
#define AGENT_EXEC_STDIN    0x02u /* stdin is a pipe; else /dev/null */
#define AGENT_EXEC_TTY      0x04u /* a terminal instead of three pipes */
#define AGENT_EXEC_MERGE    0x08u /* stderr goes where stdout goes */
#define AGENT_EXEC_LOSSY    0x10u /* never wait for this client's credit: LOST instead */
#define AGENT_EXEC_NICE     0x20u /* `nice` counts */
#define AGENT_EXEC_OOM      0x40u /* `oom_score_adj` counts; else 0 */
#define AGENT_EXEC_UMASK    0x80u /* `umask` counts; else 022 */
#define AGENT_EXEC_ALL      0xffu

/*
 * The strings, user, cwd, tag, argv[argc], env[envc], each NUL-terminated, follow in BLOB frames,
 * blob_len bytes together.  user: name or number, "" = "user" if there is one, else root.  cwd: ""
 * = the user's home (or / when that is missing); a relative one counts from the home; a missing one
 * is an error.  env: "K=V", wins over the agent's PATH, HOME, USER, LOGNAME, SHELL (and TERM with a
 * terminal).  argv[0] is looked up in PATH unless it holds a slash.
 */
struct agent_exec {
	uint32_t flags; /* AGENT_EXEC_* */
	uint32_t argc;  /* >= 1 */
	uint32_t envc;
	uint32_t blob_len;
	uint32_t window[2]; /* first credit for stdout and stderr */
	uint16_t rows;      /* of the terminal */
	uint16_t cols;
	uint32_t timeout_ms;    /* 0: none.  Then timeout_signal to the process's group ... */
	uint32_t kill_after_ms; /* ... and SIGKILL so much later, if not 0 */
	uint32_t orphan_ms;     /* not detached: SIGHUP once no connection was there for so long */
	uint8_t timeout_signal; /* 0: SIGKILL */
	int8_t nice;
	int16_t oom_score_adj;
	uint16_t umask;
	uint16_t limit_count;
	struct agent_limit limit[AGENT_LIMITS_MAX];
};
static_assert(sizeof(struct agent_exec) == 240, "wire layout");
static_assert(offsetof(struct agent_exec, window) == 16, "wire layout");
static_assert(offsetof(struct agent_exec, rows) == 24, "wire layout");
static_assert(offsetof(struct agent_exec, cols) == 26, "wire layout");
static_assert(offsetof(struct agent_exec, timeout_ms) == 28, "wire layout");
static_assert(offsetof(struct agent_exec, timeout_signal) == 40, "wire layout");
static_assert(offsetof(struct agent_exec, nice) == 41, "wire layout");
static_assert(offsetof(struct agent_exec, oom_score_adj) == 42, "wire layout");
static_assert(offsetof(struct agent_exec, umask) == 44, "wire layout");
static_assert(offsetof(struct agent_exec, limit_count) == 46, "wire layout");
static_assert(offsetof(struct agent_exec, limit) == 48, "wire layout");

/* How a process is named */
#define AGENT_BY_ID  1u /* agent's number, never reused */
#define AGENT_BY_PID 2u
#define AGENT_BY_TAG 3u /* the newest with that tag */

#define AGENT_ATTACH_REPLAY    0x01u /* begin with the output that is kept */
#define AGENT_ATTACH_LOSSY     0x02u
#define AGENT_ATTACH_NO_OUTPUT 0x04u /* stdin, signals, resize only */
#define AGENT_ATTACH_ALL       0x07u

struct agent_attach {
	uint32_t by;    /* AGENT_BY_* */
	uint32_t flags; /* AGENT_ATTACH_* */
	uint64_t id;    /* id or pid */
	uint32_t window[2];
}; /* + tag (1 string) */
static_assert(sizeof(struct agent_attach) == 24, "wire layout");
static_assert(offsetof(struct agent_attach, flags) == 4, "wire layout");
static_assert(offsetof(struct agent_attach, id) == 8, "wire layout");
static_assert(offsetof(struct agent_attach, window) == 16, "wire layout");

/* Flags of STARTED and PROC */
#define AGENT_PROC_TTY       0x01u
#define AGENT_PROC_DETACHED  0x02u
#define AGENT_PROC_STDIN     0x04u /* stdin is open for writing */
#define AGENT_PROC_EXITED    0x08u
#define AGENT_PROC_TRUNCATED 0x10u /* PROC: not all of argv and env is repeated */

struct agent_started {
	uint64_t id;
	uint32_t pid;
	uint32_t flags;        /* AGENT_PROC_* */
	uint32_t stdin_window; /* bytes that may be sent at once */
	uint32_t rsvd;
};
static_assert(sizeof(struct agent_started) == 24, "wire layout");
static_assert(offsetof(struct agent_started, pid) == 8, "wire layout");
static_assert(offsetof(struct agent_started, flags) == 12, "wire layout");
static_assert(offsetof(struct agent_started, stdin_window) == 16, "wire layout");
static_assert(offsetof(struct agent_started, rsvd) == 20, "wire layout");

#define AGENT_EXITED   1u
#define AGENT_SIGNALED 2u

struct agent_exit {
	uint8_t how;       /* AGENT_EXITED or AGENT_SIGNALED */
	uint8_t timed_out; /* 1: timeout_ms ran out */
	uint16_t rsvd;
	int32_t status; /* exit status 0..255, or the signal's number */
	uint64_t wall_us;
	uint64_t user_us;
	uint64_t system_us;
	uint64_t maxrss_kib;
};
static_assert(sizeof(struct agent_exit) == 40, "wire layout");
static_assert(offsetof(struct agent_exit, rsvd) == 2, "wire layout");
static_assert(offsetof(struct agent_exit, status) == 4, "wire layout");
static_assert(offsetof(struct agent_exit, wall_us) == 8, "wire layout");
static_assert(offsetof(struct agent_exit, user_us) == 16, "wire layout");

#define AGENT_TO_PROCESS 0u
#define AGENT_TO_GROUP   1u /* the process group it leads; a terminal's foreground group is its own */

struct agent_signal {
	uint32_t signo;
	uint32_t scope; /* AGENT_TO_* */
};
static_assert(sizeof(struct agent_signal) == 8, "wire layout");

struct agent_proc_signal {
	uint32_t by;
	uint32_t rsvd;
	uint64_t id;
	uint32_t signo;
	uint32_t scope;
}; /* + tag (1 string) */
static_assert(sizeof(struct agent_proc_signal) == 24, "wire layout");
static_assert(offsetof(struct agent_proc_signal, rsvd) == 4, "wire layout");
static_assert(offsetof(struct agent_proc_signal, id) == 8, "wire layout");
static_assert(offsetof(struct agent_proc_signal, signo) == 16, "wire layout");

struct agent_resize {
	uint16_t rows;
	uint16_t cols;
	uint32_t rsvd;
};
static_assert(sizeof(struct agent_resize) == 8, "wire layout");
static_assert(offsetof(struct agent_resize, rsvd) == 4, "wire layout");

struct agent_proc {
	uint64_t id;
	uint32_t pid;
	uint32_t flags; /* AGENT_PROC_* */
	uint32_t argc;  /* strings that follow, after user, cwd and tag */
	uint32_t envc;
	uint64_t age_ms;
	uint8_t how; /* when AGENT_PROC_EXITED: as in EXIT */
	uint8_t rsvd[3];
	int32_t status;
}; /* + user, cwd, tag, argv[argc], env[envc] */
static_assert(sizeof(struct agent_proc) == 40, "wire layout");
static_assert(offsetof(struct agent_proc, pid) == 8, "wire layout");
static_assert(offsetof(struct agent_proc, argc) == 16, "wire layout");
static_assert(offsetof(struct agent_proc, age_ms) == 24, "wire layout");
static_assert(offsetof(struct agent_proc, how) == 32, "wire layout");
static_assert(offsetof(struct agent_proc, rsvd) == 33, "wire layout");
static_assert(offsetof(struct agent_proc, status) == 36, "wire layout");

/* --- files ------------------------------------------------------------------------------------ */

#define AGENT_FILE_PARENTS    0x01u /* WRITE, MKDIR, MOVE: make missing parents (0755) */
#define AGENT_FILE_EXCL       0x02u /* WRITE, MOVE: EEXIST when the target exists */
#define AGENT_FILE_IN_PLACE   0x04u /* WRITE: truncate and write, not temp and rename */
#define AGENT_FILE_APPEND     0x08u /* WRITE: in place, at the end */
#define AGENT_FILE_FSYNC      0x10u /* WRITE: durable before ENTRY */
#define AGENT_FILE_NOFOLLOW   0x20u /* READ, CHMOD (refused), CHOWN, XATTR_*: the link itself */
#define AGENT_FILE_RECURSIVE  0x40u /* REMOVE, WATCH */
#define AGENT_FILE_MISSING_OK 0x80u /* REMOVE: OK {0} when there is nothing */
#define AGENT_FILE_ALL        0xffu

#define AGENT_MODE_KEEP UINT32_MAX /* WRITE: the old file's mode, 0644 for a new one */
#define AGENT_MTIME_NOW INT64_MIN

/* path: absolute; "~", "~/x" and relative ones count from the user's home.  user: as in EXEC. */
struct agent_file {
	uint32_t flags; /* AGENT_FILE_* */
	uint32_t mode;  /* permission bits, or AGENT_MODE_KEEP */
	uint64_t offset;
	uint64_t len; /* READ: at most so many bytes; UINT64_MAX: to the end */
	int64_t mtime_ns;
	uint32_t depth; /* LIST_DIR: >= 1 */
	uint32_t rsvd;
}; /* + user, path, arg (3 strings) */
static_assert(sizeof(struct agent_file) == 40, "wire layout");
static_assert(offsetof(struct agent_file, mode) == 4, "wire layout");
static_assert(offsetof(struct agent_file, offset) == 8, "wire layout");
static_assert(offsetof(struct agent_file, depth) == 32, "wire layout");
static_assert(offsetof(struct agent_file, rsvd) == 36, "wire layout");

enum agent_file_type {
	AGENT_TYPE_NONE = 0, /* target_type of what is no link, or of a dangling one */
	AGENT_TYPE_FILE = 1,
	AGENT_TYPE_DIR = 2,
	AGENT_TYPE_SYMLINK = 3,
	AGENT_TYPE_OTHER = 4, /* device, FIFO, socket */
};

struct agent_entry { /* of the object itself (lstat); target_* of what a symlink leads to */
	uint8_t type;
	uint8_t target_type;
	uint16_t rsvd;
	uint32_t mode; /* st_mode, type bits included */
	uint32_t target_mode;
	uint32_t uid;
	uint32_t gid;
	uint32_t nlink;
	uint64_t size;
	int64_t mtime_ns;
	uint64_t ino;
}; /* + path (as asked for; LIST_DIR: below the root of the list), owner, group, target */
static_assert(sizeof(struct agent_entry) == 48, "wire layout");
static_assert(offsetof(struct agent_entry, rsvd) == 2, "wire layout");
static_assert(offsetof(struct agent_entry, mode) == 4, "wire layout");
static_assert(offsetof(struct agent_entry, size) == 24, "wire layout");

enum agent_event_kind {
	AGENT_EV_CREATE = 1, /* also the new name of a rename */
	AGENT_EV_WRITE = 2,
	AGENT_EV_REMOVE = 3,
	AGENT_EV_RENAME = 4, /* the old name */
	AGENT_EV_CHMOD = 5,
	AGENT_EV_OVERFLOW = 6, /* events were lost: look again */
	AGENT_EV_GONE = 7,     /* the watched root itself is gone: the last event */
};

struct agent_event {
	uint32_t kind;
	uint32_t is_dir; /* 0 or 1 */
	uint32_t cookie; /* the same in RENAME and the CREATE that belongs to it; else 0 */
	uint32_t rsvd;
}; /* + name below the watched root */
static_assert(sizeof(struct agent_event) == 16, "wire layout");
static_assert(offsetof(struct agent_event, rsvd) == 12, "wire layout");

/* --- the machine ------------------------------------------------------------------------------ */

struct agent_forward {
	uint16_t port;   /* > 0 */
	uint16_t family; /* 0: 127.0.0.1 and then ::1; 4; 6 */
	uint32_t timeout_ms;
};
static_assert(sizeof(struct agent_forward) == 8, "wire layout");

#define AGENT_IS_INIT 0x01u /* PID 1: power off works */

struct agent_pong {
	uint32_t flags;
	uint32_t rsvd;
	uint64_t uptime_ms;
	uint64_t agent_ms; /* uptime when the agent began to listen */
};                         /* + version of the agent (1 string) */
static_assert(sizeof(struct agent_pong) == 24, "wire layout");
static_assert(offsetof(struct agent_pong, rsvd) == 4, "wire layout");
static_assert(offsetof(struct agent_pong, uptime_ms) == 8, "wire layout");

struct agent_metrics_ok {
	uint32_t cpu_count;
	uint32_t cpu_used_permille; /* of all CPUs, since the last METRICS (first: since boot) */
	uint64_t cpu_busy_ms;       /* summed over CPUs, since boot */
	uint64_t cpu_total_ms;
	uint64_t mem_total; /* bytes, as all below */
	uint64_t mem_used;  /* total - available */
	uint64_t mem_cache;
	uint64_t disk_total; /* of / */
	uint64_t disk_used;
	uint64_t uptime_ms;
	int64_t realtime_ns;
	uint32_t proc_count; /* processes run by the agent that are alive */
	uint32_t rsvd;
};
static_assert(sizeof(struct agent_metrics_ok) == 88, "wire layout");
static_assert(offsetof(struct agent_metrics_ok, cpu_busy_ms) == 8, "wire layout");
static_assert(offsetof(struct agent_metrics_ok, proc_count) == 80, "wire layout");
static_assert(offsetof(struct agent_metrics_ok, rsvd) == 84, "wire layout");

struct agent_clock {
	int64_t realtime_ns;   /* the host's clock now */
	uint64_t threshold_ns; /* step only when the difference is larger */
};
static_assert(sizeof(struct agent_clock) == 16, "wire layout");

struct agent_clock_ok {
	int64_t before_ns; /* the guest's clock when the request came */
	int64_t after_ns;
	uint32_t stepped; /* 0 or 1 */
	uint32_t rsvd;
};
static_assert(sizeof(struct agent_clock_ok) == 24, "wire layout");
static_assert(offsetof(struct agent_clock_ok, stepped) == 16, "wire layout");
static_assert(offsetof(struct agent_clock_ok, rsvd) == 20, "wire layout");

/* IDENTITY: hostname and machine-id (32 hex digits), 2 strings; "" leaves one as it is. */

struct agent_freeze {
	uint32_t timeout_ms; /* 1..AGENT_FREEZE_MS_MAX: thawed then, whatever happens */
	uint32_t rsvd;
}; /* + paths, 1..AGENT_FREEZE_MAX strings */
static_assert(sizeof(struct agent_freeze) == 8, "wire layout");
static_assert(offsetof(struct agent_freeze, rsvd) == 4, "wire layout");

#define AGENT_POWER_OFF    1u
#define AGENT_POWER_REBOOT 2u

struct agent_power {
	uint32_t mode;     /* AGENT_POWER_* */
	uint32_t grace_ms; /* between SIGTERM and SIGKILL to all processes */
};
static_assert(sizeof(struct agent_power) == 8, "wire layout");

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the structs are the wire format: a big-endian port swaps in wire/agent.c"
#endif

/* --- the gate (wire/agent.c) ------------------------------------------------------------------ */

/* enum agent_from - who may send a message */
enum agent_from {
	AGENT_FROM_CLIENT = 1,
	AGENT_FROM_AGENT = 2,
	AGENT_FROM_BOTH = 3,
};

/*
 * agent_frame_check() - may this header come from that side?
 * @from: AGENT_FROM_CLIENT or AGENT_FROM_AGENT
 * Return: 0; -EPROTO unknown type, wrong direction or stream; -E2BIG len over AGENT_FRAME_MAX.
 */
int agent_frame_check(const struct agent_frame *frame, enum agent_from from);

/*
 * agent_msg_check() - is the payload what its type says?
 * @frame: already passed agent_frame_check()
 * @payload: frame->len bytes
 *
 * Checks lengths, rsvd, ranges of flags and enums, and that the tail is exactly the strings it
 * should be, each within its cap.  After it, the fixed struct may be copied out by its size and
 * agent_msg_string() may be used.
 * Return: 0 or -EPROTO.
 */
int agent_msg_check(const struct agent_frame *frame, const void *payload);

/* The i-th string of a checked message's tail; "" when there are fewer. */
const char *agent_msg_string(const struct agent_frame *frame, const void *payload, unsigned i);

/* The tail of a checked message: what follows its fixed struct. */
const uint8_t *agent_msg_tail(const struct agent_frame *frame, const void *payload, size_t *len);

/* 1 when another request may follow on the same connection, else 0. */
int agent_msg_repeats(uint16_t type);

/* 1 when a connection may begin with it, else 0. */
int agent_msg_is_request(uint16_t type);

/* Name of a type for messages: "EXEC"; "?" when unknown. */
const char *agent_msg_name(uint16_t type);

/*
 * agent_msg_put() - encode one frame
 * @out, @cap: where to; nothing is written past cap
 * @fixed: the type's struct (NULL when it has none)
 * @tail, @tail_len: strings with their NULs, or raw bytes
 * Return: bytes written; -ENOSPC; -EPROTO when the result would not pass agent_msg_check().
 */
long agent_msg_put(void *out, size_t cap, uint16_t type, uint16_t stream, const void *fixed,
		   const void *tail, size_t tail_len);

/*
 * agent_blob_check() - are these bytes exactly `count` NUL-terminated strings?
 * Return: 0 or -EPROTO.
 */
int agent_blob_check(const void *blob, size_t len, uint32_t count);

#endif
