/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spore-vmm: one process, one VM.  Command line and configuration in, libvmm.h in the middle, exit status
 * and timings out.  Nothing here outlives main(): the process is the VM.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "vmm/config.h"
#include "vmm/ctl.h"
#include "vmm/libvmm.h"
#include "vmm/options.h"
#include "vmm/sandbox.h"

#define LOG_LINE_MAX  1024
#define LOG_BYTES_MAX 65536u /* of one VM's life: stderr may be a file that nobody watches */

/* Any thread, sealed: write() and nothing else, since dprintf() begins with an fstat() that only ctl may make. */
static void log_write(const char *line)
{
	char text[LOG_LINE_MAX];
	int len = snprintf(text, sizeof(text) - 1, "spore-vmm: %s", line);

	if (len < 0)
		return;
	size_t end = (size_t)len < sizeof(text) - 1 ? (size_t)len : sizeof(text) - 2;
	text[end++] = '\n';
	while (write(STDERR_FILENO, text, end) < 0 && errno == EINTR)
		;
}

static void log_line(void *ctx, int level, const char *line)
{
	static atomic_uint written;
	unsigned len = (unsigned)strlen(line) + 16, before = atomic_fetch_add(&written, len);

	(void)ctx;
	(void)level;
	if (before + len <= LOG_BYTES_MAX)
		log_write(line);
	else if (before <= LOG_BYTES_MAX)
		log_write("further messages are left out");
	else
		atomic_store(&written, LOG_BYTES_MAX + 1); /* it must not wrap */
}

/* Nothing else can be done for a VM whose threads stand in page faults that nobody answers. */
static void pager_lost(void *ctx, const char *why)
{
	log_line(ctx, 0, why);
	_exit(EXIT_STATUS_ERROR);
}

/* Phases in ns of CLOCK_MONOTONIC, so that they can be put beside times taken outside this process. */
static void timings_write(int fd, const struct vmm *vmm)
{
	struct vmm_timings t;
	struct vmm_counters c;

	vmm_timings(vmm, &t);
	vmm_counters(vmm, &c);
#define ROW(name) ",\"" #name "\":%llu"
#define LLU(v)    (unsigned long long)(v)
	dprintf(fd,
		"{\"version\":\"%s\"" ROW(create_begin) ROW(kvm_ready) ROW(memory_ready)
			ROW(vcpus_ready) ROW(devices_ready) ROW(kernel_loaded) ROW(created)
				ROW(started) ROW(loaded) ROW(first_run) ROW(first_exit)
					ROW(guest_boot) ROW(ready) ROW(ended) ROW(exits_io)
						ROW(exits_mmio) ROW(exits_other) ROW(device_breaks)
							ROW(serial_bytes) ROW(serial_dropped) "}\n",
		vmm_version(), LLU(t.create_begin), LLU(t.kvm_ready), LLU(t.memory_ready),
		LLU(t.vcpus_ready), LLU(t.devices_ready), LLU(t.kernel_loaded), LLU(t.created),
		LLU(t.started), LLU(t.loaded), LLU(t.first_run), LLU(t.first_exit),
		LLU(t.guest_boot), LLU(t.ready), LLU(t.ended), LLU(c.exits_io), LLU(c.exits_mmio),
		LLU(c.exits_other), LLU(c.device_breaks), LLU(c.serial_bytes),
		LLU(c.serial_dropped));
}

static int timings_open(const struct options *opt, struct errmsg *why)
{
	if (!opt->timings)
		return -1;
	if (!opt->timings_file)
		return dup(STDERR_FILENO);
	int fd = open(opt->timings_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return fd < 0 ? err_set(why, errno, "--timings %s", opt->timings_file) : fd;
}

static int exit_status(const struct vmm *vmm)
{
	struct vmm_error text;
	enum vmm_exit reason = vmm_exit_reason(vmm, &text);

	if (reason == VMM_EXIT_RESET || reason == VMM_EXIT_STOPPED)
		return EXIT_STATUS_OK;
	fprintf(stderr, "spore-vmm: %s\n", text.text);
	return EXIT_STATUS_ERROR;
}

static int fail(int status, const struct errmsg *why)
{
	fprintf(stderr, "spore-vmm: %s\n", why->text);
	return status;
}

/* SIGTERM and SIGINT end the VM in order: its last output is written, and the timings. */
static int signals_open(struct errmsg *why)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? err_set(why, errno, "signalfd") : fd;
}

/* For poll(2): until `deadline_ns`, at most; 0: for ever. */
static int wait_ms(uint64_t deadline_ns)
{
	uint64_t now = clock_now();

	if (!deadline_ns)
		return -1;
	if (now >= deadline_ns)
		return 0;
	uint64_t left = (deadline_ns - now) / NS_PER_MS + 1;
	return left < INT32_MAX ? (int)left : INT32_MAX;
}

/* One turn.  Return: 0 go on; 1 the end has come. */
static int serve_once(struct pollfd *fd, struct ctl *ctl, uint64_t deadline_ns)
{
	unsigned count = ctl->listen_fd >= 0 ? ctl_poll_fill(ctl, fd + 2) : 0;
	int n = poll(fd, 2 + count, wait_ms(deadline_ns));

	if (n < 0)
		return errno != EINTR;
	if (!n && !wait_ms(deadline_ns)) {
		log_line(NULL, 0, "the time of the VM is over");
		return 1;
	}
	if (fd[0].revents || fd[1].revents)
		return 1;
	if (count)
		ctl_poll_take(ctl, fd + 2, count);
	return ctl->stop;
}

/* Until the VM ends, a signal or a client asks for it, or its time is over.  Serves the control socket, if any. */
static void wait_for_end(const struct vmm *vmm, int signal_fd, struct ctl *ctl, uint32_t expire_ms)
{
	struct pollfd fd[2 + CTL_POLL_MAX] = {{.fd = vmm_exit_fd(vmm), .events = POLLIN},
					      {.fd = signal_fd, .events = POLLIN}};
	uint64_t deadline_ns = expire_ms ? clock_now() + expire_ms * NS_PER_MS : 0;

	while (!serve_once(fd, ctl, deadline_ns))
		;
}

/* Seals, starts, and waits for the end. */
static int run(struct vmm *vmm, const struct options *opt)
{
	struct errmsg why;
	cleanup_close int timings_fd = timings_open(opt, &why);

	cleanup_close int signal_fd = signals_open(&why);
	struct ctl ctl = {.listen_fd = -1};

	if ((opt->timings && timings_fd < 0) || signal_fd < 0)
		return fail(EXIT_STATUS_ERROR, &why);
	if (opt->ctl_fd >= 0 && ctl_create(&ctl, vmm, opt->ctl_fd, &why))
		return fail(EXIT_STATUS_ERROR, &why);
	if (!opt->no_sandbox && vmm_seal(vmm, (struct vmm_error *)&why))
		return fail(EXIT_STATUS_ERROR, &why);
	if (vmm_start(vmm, (struct vmm_error *)&why))
		return fail(EXIT_STATUS_ERROR, &why);

	wait_for_end(vmm, signal_fd, &ctl, opt->expire_ms);
	vmm_stop(vmm, NULL);
	if (timings_fd >= 0)
		timings_write(timings_fd, vmm);
	return exit_status(vmm);
}

static int configure_and_run(const struct options *opt, const struct config *file)
{
	struct vmm_config cfg;
	struct vmm *vmm = NULL;
	struct errmsg why;

	if (config_open(file, opt, &cfg, &why))
		return fail(EXIT_STATUS_BAD_CONFIG, &why);
	cfg.log = log_line;
	cfg.pager_lost = pager_lost;
	if (vmm_create(&vmm, &cfg, (struct vmm_error *)&why))
		return fail(EXIT_STATUS_ERROR, &why);
	config_close(opt, &cfg);
	/* The handle is not dismantled: the process ends, and the kernel does it faster. */
	return run(vmm, opt);
}

int main(int argc, char *argv[])
{
	struct options opt;
	struct config file = {.kernel_path = NULL};
	struct errmsg why;

	sandbox_install_trap_handler();
	if (options_parse(argc, argv, &opt, &why))
		return fail(EXIT_STATUS_BAD_ARGUMENTS, &why);
	if (opt.help || opt.version) {
		if (opt.help)
			options_help(stdout);
		else
			printf("Spore VMM v%s\n", vmm_version());
		return EXIT_STATUS_OK;
	}
	if (config_load(&file, opt.config_file, &why))
		return fail(EXIT_STATUS_BAD_CONFIG, &why);
	int status = configure_and_run(&opt, &file);
	config_free(&file);
	return status;
}
