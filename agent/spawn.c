/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn.c - pipes or a terminal, then a child that takes on user, limits, folder, environment
 *
 * After fork() the child has the whole program to itself (the agent has one thread), so it may
 * allocate and read files.  It never returns: it becomes the program or reports and exits.
 */
#include "agent/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/user.h"
#include "base/cleanup.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct child {
	const struct exec_request *request;
	const char *user, *cwd;
	char **argv, **env; /* env: the request's */
	char **environ_;    /* what the program gets */
	struct user who;
	int status;       /* write end */
	int in, out, err; /* what becomes 0, 1, 2; with a terminal: in is its slave */
	const struct rlimit *nofile;
};

static void fail(const struct child *child, int err, uint16_t stage, const char *fmt, ...)
	__attribute__((format(printf, 4, 5), noreturn));

static void fail(const struct child *child, int err, uint16_t stage, const char *fmt, ...)
{
	struct spawn_failure failure = {.err = err, .stage = stage};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(failure.text, sizeof(failure.text), fmt, ap);
	va_end(ap);
	if (write(child->status, &failure, sizeof(failure)) < 0)
		_exit(126);
	_exit(127);
}

static void split_strings(struct child *child)
{
	const struct agent_exec *exec = &child->request->exec;
	char **argv = calloc((size_t)exec->argc + exec->envc + 2, sizeof(*argv));
	/* The child's own copy: exec wants char *, and nothing writes through it. */
	union {
		const char *from;
		char *to;
	} at = {.from = child->request->blob};

	if (!argv)
		fail(child, ENOMEM, AGENT_STAGE_SETUP, "memory for arguments");
	child->user = at.from;
	at.from += strlen(at.from) + 1;
	child->cwd = at.from;
	at.from += strlen(at.from) + 1;
	at.from += strlen(at.from) + 1; /* tag */
	child->argv = argv;
	for (uint32_t i = 0; i < exec->argc; i++, at.from += strlen(at.from) + 1)
		argv[i] = at.to;
	child->env = argv + exec->argc + 1;
	for (uint32_t i = 0; i < exec->envc; i++, at.from += strlen(at.from) + 1)
		child->env[i] = at.to;
}

static const char *lookup(char **env, const char *key)
{
	size_t len = strlen(key);
	const char *found = NULL;

	for (; *env; env++) {
		if (strncmp(*env, key, len) == 0 && (*env)[len] == '=')
			found = *env + len + 1;
	}
	return found;
}

static void add_default(struct child *child, size_t *count, const char *key, const char *value)
{
	if (lookup(child->env, key))
		return;
	if (asprintf(&child->environ_[*count], "%s=%s", key, value) < 0)
		fail(child, ENOMEM, AGENT_STAGE_SETUP, "memory for the environment");
	++*count;
}

static void build_environment(struct child *child)
{
	const struct agent_exec *exec = &child->request->exec;
	size_t count = 0;

	child->environ_ = calloc((size_t)exec->envc + 8, sizeof(char *));
	if (!child->environ_)
		fail(child, ENOMEM, AGENT_STAGE_SETUP, "memory for the environment");
	add_default(child, &count, "PATH", DEFAULT_PATH);
	add_default(child, &count, "HOME", child->who.home);
	add_default(child, &count, "USER", child->who.name);
	add_default(child, &count, "LOGNAME", child->who.name);
	add_default(child, &count, "SHELL", child->who.shell[0] ? child->who.shell : "/bin/sh");
	if (exec->flags & AGENT_EXEC_TTY)
		add_default(child, &count, "TERM", "xterm-256color");
	for (char **env = child->env; *env; env++) {
		if (!strchr(*env, '=') || (*env)[0] == '=')
			fail(child, EINVAL, AGENT_STAGE_SETUP, "environment: '%.200s' is not K=V",
			     *env);
		child->environ_[count++] = *env;
	}
}

static void set_limits(const struct child *child)
{
	const struct agent_exec *exec = &child->request->exec;

	setrlimit(RLIMIT_NOFILE, child->nofile);
	for (unsigned i = 0; i < exec->limit_count; i++) {
		struct rlimit limit = {.rlim_cur = exec->limit[i].soft,
				       .rlim_max = exec->limit[i].hard};
		/* The system call: libraries disagree about the type of a resource. */
		if (syscall(SYS_prlimit64, 0, exec->limit[i].resource, &limit, NULL) < 0)
			fail(child, errno, AGENT_STAGE_SETUP, "limit %u: %s",
			     exec->limit[i].resource, strerror(errno));
	}
	if (exec->flags & AGENT_EXEC_NICE && setpriority(PRIO_PROCESS, 0, exec->nice) < 0)
		fail(child, errno, AGENT_STAGE_SETUP, "nice %d: %s", exec->nice, strerror(errno));
	umask(exec->flags & AGENT_EXEC_UMASK ? exec->umask : 022);
}

/* The agent itself is never the OOM killer's choice; what it runs is, as any process. */
static void set_oom(const struct child *child)
{
	const struct agent_exec *exec = &child->request->exec;
	bool asked = exec->flags & AGENT_EXEC_OOM;
	char text[16];
	int len = snprintf(text, sizeof(text), "%d", asked ? exec->oom_score_adj : 0);
	cleanup_close int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if ((fd < 0 || write(fd, text, (size_t)len) < 0) && asked)
		fail(child, errno, AGENT_STAGE_SETUP, "oom_score_adj %s: %s", text,
		     strerror(errno));
}

static void set_terminal(const struct child *child)
{
	struct winsize size = {.ws_row = child->request->exec.rows,
			       .ws_col = child->request->exec.cols};

	if (ioctl(child->in, TIOCSCTTY, 0) < 0)
		fail(child, errno, AGENT_STAGE_SETUP, "controlling terminal: %s", strerror(errno));
	ioctl(child->in, TIOCSWINSZ, &size);
	if (geteuid() == 0 && fchown(child->in, child->who.uid, (gid_t)-1) < 0)
		fail(child, errno, AGENT_STAGE_SETUP, "owner of terminal: %s", strerror(errno));
}

static void enter_folder(const struct child *child)
{
	const char *home = child->who.home[0] ? child->who.home : "/";

	if (!child->cwd[0]) {
		if (chdir(home) < 0 && chdir("/") < 0)
			fail(child, errno, AGENT_STAGE_CWD, "cwd '/': %s", strerror(errno));
		return;
	}
	if (child->cwd[0] != '/' && chdir(home) < 0)
		fail(child, errno, AGENT_STAGE_CWD, "home '%.200s': %s", home, strerror(errno));
	if (chdir(child->cwd) == 0)
		return;
	if (errno == ENOENT)
		fail(child, ENOENT, AGENT_STAGE_CWD, "cwd '%.400s' does not exist", child->cwd);
	fail(child, errno, AGENT_STAGE_CWD, "cwd '%.400s': %s", child->cwd, strerror(errno));
}

/* Tries one file.  Returns only when it could not be run: the errno. */
static int try_exec(const struct child *child, const char *file)
{
	struct stat st;

	execve(file, child->argv, child->environ_);
	int err = errno;
	if (err == EACCES && stat(file, &st) == 0 && S_ISDIR(st.st_mode))
		return EISDIR;
	if (err == ENOENT && access(file, F_OK) == 0)
		return ELIBACC; /* the file is there: its interpreter is not */
	return err;
}

static void run_program(const struct child *child)
{
	const char *name = child->argv[0];
	const char *path = lookup(child->environ_, "PATH");
	char file[AGENT_PATH_MAX * 2];
	int worst = ENOENT;

	if (strchr(name, '/')) {
		worst = try_exec(child, name);
		path = "";
	}
	for (const char *at = path ? path : ""; name[0] && *at;) {
		size_t len = strcspn(at, ":");
		if (len < AGENT_PATH_MAX && strlen(name) < AGENT_PATH_MAX) {
			snprintf(file, sizeof(file), "%.*s%s%s", (int)len, at, len ? "/" : "",
				 name);
			int err = try_exec(child, file);
			if (err == EISDIR) /* a folder of that name is not the program */
				err = ENOENT;
			if (err != ENOENT && err != ENOTDIR)
				worst = err;
			if (err != ENOENT && err != ENOTDIR && err != EACCES)
				break;
		}
		at += len + (at[len] == ':');
	}
	if (worst == ENOENT)
		fail(child, ENOENT, AGENT_STAGE_EXEC, "'%.400s': command not found", name);
	if (worst == ELIBACC)
		fail(child, worst, AGENT_STAGE_EXEC, "'%.400s': its interpreter is missing", name);
	fail(child, worst, AGENT_STAGE_EXEC, "'%.400s': %s", name, strerror(worst));
}

static void take_stdio(const struct child *child)
{
	if (dup2(child->in, 0) < 0 || dup2(child->out, 1) < 0 || dup2(child->err, 2) < 0)
		fail(child, errno, AGENT_STAGE_SETUP, "standard streams: %s", strerror(errno));
}

static void reset_signals(void)
{
	sigset_t none;

	for (int signo = 1; signo < NSIG; signo++)
		signal(signo, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_main(struct child *child) __attribute__((noreturn));

static void child_main(struct child *child)
{
	reset_signals();
	split_strings(child);
	setsid();
	int err = user_find(&child->who, child->user);
	if (err < 0)
		fail(child, -err, AGENT_STAGE_USER, "user '%.200s' does not exist", child->user);
	if (child->request->exec.flags & AGENT_EXEC_TTY)
		set_terminal(child);
	set_limits(child);
	set_oom(child);
	build_environment(child);
	take_stdio(child);
	err = user_become(&child->who);
	if (err < 0)
		fail(child, -err, AGENT_STAGE_USER, "become user '%.200s': %s", child->who.name,
		     strerror(-err));
	enter_folder(child);
	run_program(child);
	_exit(127);
}

/* --- the parent's side ------------------------------------------------------------------------ */

struct ends {
	int mine[4];   /* status, input, output 0 and 1: struct spawn_fds */
	int theirs[4]; /* status, 0, 1, 2 */
};

static void close_all(int *fd, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (fd[i] >= 0)
			close(fd[i]);
		fd[i] = -1;
	}
}

static int nonblock(int fd)
{
	return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0 ? -errno : 0;
}

/* mine: which end of pipe(2) is the parent's: 0 reads, 1 writes. */
static int make_pipe(int *mine, int *theirs, int which)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -errno;
	*mine = fd[which];
	*theirs = fd[!which];
	return nonblock(*mine);
}

static int make_terminal(struct ends *ends)
{
	int unlock = 0;
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);

	if (master < 0)
		return -errno;
	ends->mine[2] = master;
	if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return -errno;
	ends->theirs[1] = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	ends->mine[1] = fcntl(master, F_DUPFD_CLOEXEC, 3);
	if (ends->theirs[1] < 0 || ends->mine[1] < 0)
		return -errno;
	ends->theirs[2] = fcntl(ends->theirs[1], F_DUPFD_CLOEXEC, 3);
	ends->theirs[3] = fcntl(ends->theirs[1], F_DUPFD_CLOEXEC, 3);
	return ends->theirs[2] < 0 || ends->theirs[3] < 0 ? -errno : 0;
}

static int make_pipes(struct ends *ends, uint32_t flags)
{
	int err = 0;

	if (flags & AGENT_EXEC_STDIN)
		err = make_pipe(&ends->mine[1], &ends->theirs[1], 1);
	else
		ends->theirs[1] = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (err < 0 || ends->theirs[1] < 0)
		return err < 0 ? err : -errno;
	err = make_pipe(&ends->mine[2], &ends->theirs[2], 0);
	if (err < 0)
		return err;
	if (!(flags & AGENT_EXEC_MERGE))
		return make_pipe(&ends->mine[3], &ends->theirs[3], 0);
	ends->theirs[3] = fcntl(ends->theirs[2], F_DUPFD_CLOEXEC, 3);
	return ends->theirs[3] < 0 ? -errno : 0;
}

pid_t spawn(struct spawn_fds *fds, const struct exec_request *request, const struct agent *agent)
{
	struct ends ends = {{-1, -1, -1, -1}, {-1, -1, -1, -1}};
	int err = make_pipe(&ends.mine[0], &ends.theirs[0], 0);

	if (err == 0)
		err = request->exec.flags & AGENT_EXEC_TTY ? make_terminal(&ends)
							   : make_pipes(&ends, request->exec.flags);
	pid_t pid = err < 0 ? err : fork();
	if (pid == 0) {
		struct child child = {.request = request,
				      .status = ends.theirs[0],
				      .in = ends.theirs[1],
				      .out = ends.theirs[2],
				      .err = ends.theirs[3],
				      .nofile = &agent->nofile};
		child_main(&child);
	}
	if (pid < 0 && err == 0)
		pid = -errno;
	close_all(ends.theirs, 4);
	if (pid < 0)
		close_all(ends.mine, 4);
	*fds = (struct spawn_fds){ends.mine[0], ends.mine[1], {ends.mine[2], ends.mine[3]}};
	return pid;
}
