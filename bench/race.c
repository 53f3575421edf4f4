/* SPDX-License-Identifier: Apache-2.0 */
/*
 * race: runs several commands in turn and takes the time from just before each is started until a text
 * appears in its output.  Every round runs each command once, so that what drifts on the machine drifts for all
 * of them; in an order of its own, because what a command leaves behind (a KVM that is still closing its VM)
 * slows the one that follows.
 *
 *   race --runs N --until TEXT [--warm N] [--rss MIB] [--timings FILE] NAME CMD ARGS... [:: NAME CMD ARGS...]
 *
 * A sample is a line on standard output: NAME, what, number.  "wall" is in ns.  With --timings, FILE is what
 * `spore-vmm --timings FILE` wrote, and each stamp in it follows as ns since the start.  With --rss, the
 * command is stopped at the text and its smaps are read: kB resident outside guest memory, which is every
 * map of at least MIB mebibytes, in all and by kind of map.  One method for every command.
 *
 * Standard output and error of a command are one pipe here: a peer's log lines are read, and do no harm
 * unless they hold TEXT.  What has not shown TEXT within RUN_LIMIT_S is killed and ends the race with 1.
 * Uses processes only, so it is also run inside the lab.  Thread: one.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define COMMANDS_MAX 8
#define OUTPUT_MAX   (64 * 1024) /* of a command, looked through for the text */
#define RUN_LIMIT_S  60          /* a guest that hangs must not hang the benchmark */
#define END_LIMIT_S  10 /* from the text to the end by itself, where the timings are wanted */

extern char **environ;

struct race {
	unsigned runs, warm;
	const char *until, *timings;
	unsigned long guest_kb; /* 0: do not look at memory */
	unsigned count;
	char **command[COMMANDS_MAX]; /* NAME CMD ARGS... NULL */
};

struct run {
	pid_t pid;
	int out;
	uint64_t begin, seen;
	size_t len;
	char text[OUTPUT_MAX + 1];
};

static void die(const char *what)
{
	fprintf(stderr, "race: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void run_start(struct run *r, char **argv)
{
	posix_spawn_file_actions_t files;
	int pipe_fd[2];

	if (pipe2(pipe_fd, O_CLOEXEC))
		die("pipe");
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, pipe_fd[1], 1);
	posix_spawn_file_actions_adddup2(&files, pipe_fd[1], 2);
	r->len = 0;
	r->seen = 0;
	r->out = pipe_fd[0];
	r->begin = clock_now();
	errno = posix_spawnp(&r->pid, argv[0], &files, NULL, argv, environ);
	if (errno)
		die(argv[0]);
	close(pipe_fd[1]);
	posix_spawn_file_actions_destroy(&files);
}

/* Reads once.  Return: false at the end of the output, or when `deadline` has passed. */
static bool run_read(struct run *r, uint64_t deadline)
{
	struct pollfd p = {.fd = r->out, .events = POLLIN};
	uint64_t now = clock_now();

	if (now >= deadline || poll(&p, 1, (int)((deadline - now) / NS_PER_MS) + 1) <= 0)
		return false;
	if (r->len == OUTPUT_MAX) /* the text does not come: keep the tail only */
		memmove(r->text, r->text + OUTPUT_MAX / 2, r->len = OUTPUT_MAX / 2);
	ssize_t n = read(r->out, r->text + r->len, OUTPUT_MAX - r->len);
	now = clock_now();
	if (n <= 0)
		return false;
	r->len += (size_t)n;
	r->text[r->len] = 0;
	r->seen = now;
	return true;
}

static bool run_until(struct run *r, const char *text)
{
	uint64_t deadline = clock_now() + RUN_LIMIT_S * NS_PER_SEC;

	while (run_read(r, deadline))
		if (strstr(r->text, text))
			return true;
	return false;
}

static void run_end(struct run *r, bool by_itself)
{
	uint64_t deadline = clock_now() + END_LIMIT_S * NS_PER_SEC;

	while (by_itself && run_read(r, deadline))
		;
	if (!by_itself || clock_now() >= deadline)
		kill(r->pid, SIGKILL);
	close(r->out);
	if (waitpid(r->pid, NULL, 0) < 0)
		die("wait");
}

/* What a map is, by its name in smaps. */
static const char *map_kind(const char *name, bool executable)
{
	if (!strncmp(name, "[heap]", 6))
		return "heap";
	if (!strncmp(name, "[stack", 6))
		return "stack";
	if (strstr(name, "io_uring"))
		return "ring";
	if (strstr(name, "kvm-vcpu"))
		return "kvm_run";
	if (*name == '[')
		return "vdso";
	if (*name == '/')
		return executable ? "text" : "file_data";
	return "anon";
}

struct memory {
	const char *kind[16];
	unsigned long kb[16], total;
	unsigned kinds;
};

static void memory_add(struct memory *mem, const char *kind, unsigned long kb)
{
	unsigned i = 0;

	while (i < mem->kinds && strcmp(mem->kind[i], kind))
		i++;
	if (i == sizeof(mem->kb) / sizeof(mem->kb[0]))
		return;
	if (i == mem->kinds)
		mem->kind[mem->kinds++] = kind;
	mem->kb[i] += kb;
	mem->total += kb;
}

static void memory_read(struct memory *mem, pid_t pid, unsigned long guest_kb)
{
	char path[64], line[1024], kind[16] = "";
	unsigned long kb, size = 0;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	FILE *f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		int at = 0;
		char perms[8];

		if (!isupper((unsigned char)line[0]) &&
		    sscanf(line, "%*x-%*x %7s %*s %*s %*s %n", perms, &at) == 1 && at)
			snprintf(kind, sizeof(kind), "%s", map_kind(line + at, perms[2] == 'x'));
		else if (sscanf(line, "Size: %lu", &kb) == 1)
			size = kb;
		else if (sscanf(line, "Rss: %lu", &kb) == 1 && size < guest_kb)
			memory_add(mem, strdup(kind), kb);
	}
	if (f)
		fclose(f);
}

static void memory_print(const char *name, pid_t pid, unsigned long guest_kb)
{
	struct memory mem = {.kinds = 0};

	kill(pid, SIGSTOP);
	memory_read(&mem, pid, guest_kb);
	if (mem.total)
		printf("%s rss_kb %lu\n", name, mem.total);
	for (unsigned i = 0; i < mem.kinds; i++)
		printf("%s rss_%s_kb %lu\n", name, mem.kind[i], mem.kb[i]);
}

/* Stamps are "name":number; those that have happened lie after the start. */
static void stamps_print(const char *name, const char *file, uint64_t begin)
{
	char text[4096] = "", key[64];
	unsigned long long value;
	FILE *f = fopen(file, "re");

	if (!f)
		return;
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	fclose(f);
	for (const char *at = text; (at = strpbrk(at, "{,")); at++) {
		if (sscanf(at + 1, "\"%63[a-z_]\":%llu", key, &value) != 2)
			continue;
		bool is_stamp = value >= begin;
		if (is_stamp || !strncmp(key, "exits", 5) || !strncmp(key, "serial", 6))
			printf("%s %s %llu\n", name, key, is_stamp ? value - begin : value);
	}
	unlink(file);
}

static void race_once(const struct race *race, char **command, bool counts)
{
	static struct run r;
	const char *name = command[0];

	run_start(&r, command + 1);
	if (!run_until(&r, race->until)) {
		run_end(&r, false);
		fprintf(stderr, "race: %s: no '%s' in its output:\n%.*s\n", name, race->until,
			(int)(r.len < 2000 ? r.len : 2000), r.text);
		exit(1);
	}
	if (counts)
		printf("%s wall %llu\n", name, (unsigned long long)(r.seen - r.begin));
	if (counts && race->guest_kb)
		memory_print(name, r.pid, race->guest_kb);
	run_end(&r, race->timings != NULL);
	if (counts && race->timings)
		stamps_print(name, race->timings, r.begin);
	fflush(stdout);
}

/* NAME CMD ARGS... :: NAME CMD ARGS... */
static void race_commands(struct race *race, char **argv)
{
	while (*argv && race->count < COMMANDS_MAX) {
		race->command[race->count++] = argv;
		while (*argv && strcmp(*argv, "::"))
			argv++;
		if (*argv)
			*argv++ = NULL;
	}
}

/* Fisher-Yates with a seed that is always the same: a race can be run again as it was. */
static void race_shuffle(struct race *race)
{
	static unsigned seed = 1;

	for (unsigned i = race->count; i > 1; i--) {
		unsigned j = (unsigned)rand_r(&seed) % i;
		char **command = race->command[i - 1];
		race->command[i - 1] = race->command[j];
		race->command[j] = command;
	}
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{"runs", 1, NULL, 'n'}, {"warm", 1, NULL, 'w'},    {"until", 1, NULL, 'u'},
		{"rss", 1, NULL, 'r'},  {"timings", 1, NULL, 't'}, {0},
	};
	struct race race = {.runs = 10, .until = "\n"};

	for (int c; (c = getopt_long(argc, argv, "+", longs, NULL)) != -1;) {
		switch (c) {
		case 'n': race.runs = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'w': race.warm = (unsigned)strtoul(optarg, NULL, 10); break;
		case 'u': race.until = optarg; break;
		case 'r': race.guest_kb = strtoul(optarg, NULL, 10) * 1024; break;
		case 't': race.timings = optarg; break;
		default: return 2;
		}
	}
	race_commands(&race, argv + optind);
	for (unsigned i = 0; i < race.warm + race.runs; i++) {
		race_shuffle(&race);
		for (unsigned c = 0; c < race.count; c++)
			race_once(&race, race.command[c], i >= race.warm);
	}
	return 0;
}
