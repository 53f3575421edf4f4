/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Machines whose memory comes from a compressed snapshot by a pager: sealed processes as they are used, and pagers
 * that die, lie or say nothing.
 */
#include "base/cleanup.h"
#include "snapshot/pager.h"
#include "tests/kvm/process.h"

static const struct pattern_cfg shape = {.cpus = 2, .mem_mib = 64, .pages = 6000};

struct rig {
	char dir[32];
	int dir_fd;
	struct process parent, child;
	struct ctl_msg got; /* the parent's capture */
	uint64_t sum;       /* how far the parent was */
	struct snap_chain *chain;
	pid_t pager;
};

static const uint64_t all_pages = (uint64_t)64 << 20 >> 12;

static void must(int err, const struct errmsg *why)
{
	if (err)
		fail_msg("%s", why->text);
}

/* What was captured as a compressed file. */
static void rig_write(struct rig *t, const struct vmm_captured *got)
{
	struct snap_plan plan = {
		.runs = {.run = (struct snap_run *)(uintptr_t)got->memory.run,
			 .count = got->memory.run_count},
		.fd = (int *)(uintptr_t)got->memory.fd,
		.source_count = got->memory.fd_count,
	};
	const struct snap_write cfg = {.dir_fd = t->dir_fd,
				       .name = "a",
				       .kind = SNAP_IMAGE_LZ4,
				       .cpus = shape.cpus,
				       .pages = all_pages,
				       .state = got->state,
				       .state_len = got->state_len,
				       .plan = &plan};
	struct snap_written written;
	struct errmsg why = {""};

	must(snap_image_write(&cfg, &written, &why), &why);
	cleanup_close int fd = openat(t->dir_fd, "a", O_RDONLY | O_CLOEXEC);
	must(snap_chain_open(&t->chain, fd, snap_find_in_folder, &t->dir_fd, SNAP_CHAIN_NEEDED,
			     &why),
	     &why);
}

static int rig_setup(void **state)
{
	struct rig *t = calloc(1, sizeof(*t));

	snprintf(t->dir, sizeof(t->dir), "/tmp/spore-pager-XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	t->dir_fd = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	process_start(&t->parent, &shape, PROCESS_GUEST);
	while (process_status(&t->parent).exits == 0)
		poll(NULL, 0, 1);
	struct vmm_captured got = process_capture(&t->parent, CTL_CAPTURE_STAY, &t->got);
	t->sum = pattern_judge(&got, &shape);
	rig_write(t, &got);
	munmap((void *)(uintptr_t)got.state, got.state_len);
	munmap((void *)(uintptr_t)got.memory.run, got.memory.run_count * sizeof(struct vmm_run));
	process_start(&t->child, &shape, PROCESS_EMPTY);
	*state = t;
	return 0;
}

static int rig_teardown(void **state)
{
	struct rig *t = *state;

	process_stop(&t->parent);
	process_clean(&t->child);
	ctl_msg_clear(&t->got);
	snap_chain_close(t->chain);
	unlinkat(t->dir_fd, "a", 0);
	assert_int_equal(rmdir(t->dir), 0);
	close(t->dir_fd);
	free(t);
	return 0;
}

/* What runs as the pager; its return is the exit status. */
typedef int pager_fn(struct rig *t, int sock);

static int honest(struct rig *t, int sock)
{
	struct snap_run run = {.count = all_pages, .kind = SNAP_RUN_LAZY};
	struct snap_runs runs = {.run = &run, .count = 1};
	struct pager_cfg cfg = {.chain = t->chain, .lazy = &runs, .sock = sock};

	return -pager_serve(&cfg, NULL, NULL);
}

static int rig_pager(struct rig *t, pager_fn *run)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	t->pager = fork();
	assert_true(t->pager >= 0);
	if (!t->pager) {
		close(pair[0]);
		_exit(run(t, pair[1]));
	}
	close(pair[1]);
	return pair[0];
}

/* Asks for the load, and waits for nothing: the VMM may end of it. */
static void rig_load(struct rig *t, pager_fn *run)
{
	struct snap_run one = {.count = all_pages, .kind = SNAP_RUN_LAZY};
	struct snap_runs runs = {.run = &one, .count = 1};
	struct ctl_captured made;
	struct ctl_load load = {
		.flags = CTL_LOAD_RUN, .has = CTL_HAS_PAGER, .run_count = runs.count};

	memcpy(&made, t->got.body, sizeof(made));
	load.state_len = made.state_len;
	cleanup_close int sock = rig_pager(t, run);
	cleanup_close int runs_fd = snap_runs_fd(&runs, NULL);
	const int fd[] = {t->got.fd[0], runs_fd, sock};
	assert_int_equal(ctl_msg_send(t->child.sock, CTL_LOAD, 0, &load, sizeof(load), fd, 3, NULL),
			 0);
}

static void rig_loaded(struct rig *t)
{
	static struct ctl_msg reply;

	ctl_msg_clear(&reply);
	assert_int_equal(ctl_msg_recv(t->child.sock, &reply, NULL), 1);
	if (reply.head.status)
		fail_msg("load: %s", (const char *)reply.body);
}

static int pager_wait(const struct rig *t)
{
	const struct process as = {.pid = t->pager};

	return process_wait(&as);
}

/* Captures of the child hold all of memory, whoever put it there. */
static void pager__honest__child_goes_on(void **state)
{
	struct rig *t = *state;
	static struct ctl_msg msg;
	uint64_t now = 0;

	rig_load(t, honest);
	rig_loaded(t);
	for (unsigned round = 0; round < VM_LIMIT_MS && now <= t->sum; round++) {
		struct vmm_captured got = process_capture(&t->child, 0, &msg);
		now = pattern_judge(&got, &shape);
		assert_true(now >= t->sum);
		process_captured_free(&got, &msg);
	}
	assert_true(now > t->sum);
	assert_int_equal(pager_wait(t), 0);
	assert_int_equal(process_status(&t->child).state, CTL_RUNNING);
	assert_int_equal(process_ask(t->child.sock, CTL_STOP, NULL, 0, NULL, 0, &msg), 0);
	assert_int_equal(process_wait(&t->child), 0);
}

static int takes_the_request(struct rig *t, int sock)
{
	(void)t;
	static struct ctl_msg msg;

	return ctl_msg_recv(sock, &msg, NULL) != 1;
}

static int dies(struct rig *t, int sock)
{
	takes_the_request(t, sock);
	return raise(SIGKILL);
}

static int answers_garbage(struct rig *t, int sock)
{
	takes_the_request(t, sock);
	send(sock, "garbage", 7, 0);
	return pause();
}

static int has_failed(struct rig *t, int sock)
{
	takes_the_request(t, sock);
	ctl_msg_send(sock, CTL_PAGE_IN, -EIO, "no", 2, NULL, 0, NULL);
	return pause();
}

/* The VMM ends, with status 1: it does not hang in a page fault, and does not go on with zeroes. */
static void pager__fails__vm_ends(void **state)
{
	struct rig *t = *state;
	pager_fn *const bad[] = {dies, answers_garbage, has_failed};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		rig_load(t, bad[i]);
		assert_int_equal(process_wait(&t->child), 1);
		kill(t->pager, SIGKILL);
		assert_int_equal(pager_wait(t), 128 + SIGKILL);
		process_clean(&t->child);
		process_start(&t->child, &shape, PROCESS_EMPTY);
	}
	kill(t->child.pid, SIGKILL);
	process_wait(&t->child);
}

/* At any time: either all was there, and the VM does not care, or it ends. */
/*
 * A capture waits until all memory has come, so it is answered by a machine that is whole, and by no other: a pager
 * may be killed between its last page and its own end.
 */
static bool is_whole(const struct rig *t, struct ctl_msg *msg)
{
	const struct ctl_capture ask = {.flags = 0};

	if (ctl_msg_send(t->child.sock, CTL_CAPTURE, 0, &ask, sizeof(ask), NULL, 0, NULL))
		return false;
	do {
		int got = 0;
		ctl_msg_clear(msg);
		while (got == 0)
			got = ctl_msg_recv(t->child.sock, msg, NULL);
		if (got < 0 || msg->head.status)
			return false;
	} while (msg->head.type != CTL_CAPTURE);
	return true;
}

static void pager__killed_midway__vm_ends_or_is_whole(void **state)
{
	struct rig *t = *state;
	static struct ctl_msg msg;

	for (unsigned ms = 0; ms < 40; ms += 4) {
		rig_load(t, honest);
		poll(NULL, 0, (int)ms);
		kill(t->pager, SIGKILL);
		pager_wait(t);
		if (is_whole(t, &msg)) {
			struct vmm_captured got = process_captured(&msg);
			assert_true(pattern_judge(&got, &shape) >= t->sum);
			process_captured_free(&got, &msg);
			kill(t->child.pid, SIGKILL);
			process_wait(&t->child);
		} else {
			assert_int_equal(process_wait(&t->child), 1);
		}
		ctl_msg_clear(&msg);
		process_clean(&t->child);
		process_start(&t->child, &shape, PROCESS_EMPTY);
	}
	kill(t->child.pid, SIGKILL);
	process_wait(&t->child);
}

static void vmm__killed__pager_ends(void **state)
{
	struct rig *t = *state;

	for (unsigned ms = 0; ms < 12; ms += 4) {
		rig_load(t, honest);
		poll(NULL, 0, (int)ms);
		kill(t->child.pid, SIGKILL);
		assert_int_equal(process_wait(&t->child), 128 + SIGKILL);
		int status = pager_wait(t);
		assert_true(status == 0 || status == EPIPE);
		process_clean(&t->child);
		process_start(&t->child, &shape, PROCESS_EMPTY);
	}
	kill(t->child.pid, SIGKILL);
	process_wait(&t->child);
}

static int lies(struct rig *t, int sock)
{
	takes_the_request(t, sock);
	ctl_msg_send(sock, CTL_PAGE_IN, 0, NULL, 0, NULL, 0, NULL);
	return pause(); /* and keeps the userfaultfd */
}

/* A guest without memory comes to no good; its VMM does as it is told, or has ended in order. */
static void pager__brings_nothing__only_the_guest_is_harmed(void **state)
{
	struct rig *t = *state;

	rig_load(t, lies);
	rig_loaded(t);
	poll(NULL, 0, 20);
	kill(t->child.pid, SIGTERM);
	int status = process_wait(&t->child);
	assert_true(status == 0 || status == 1);
	kill(t->pager, SIGKILL);
	pager_wait(t);
}

static void load__without_userfaultfd__refused_and_still_empty(void **state)
{
	(void)state;
	const struct vmm_run run = {.count = all_pages, .kind = VMM_RUN_LAZY};
	const struct vmm_load_cfg load = {
		.size = sizeof(load), .memory = {.run = &run, .run_count = 1}, .pager_fd = -1};
	struct vmm_error why;
	struct vm shell;

	pattern_shell(&shell, &shape);
	assert_int_equal(vmm_load(shell.vmm, &load, &why), -ENOTSUP);
	assert_int_equal(vmm_state(shell.vmm), VMM_EMPTY);
	pattern_end(&shell);
}

#define rig_test(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(pager__honest__child_goes_on),
		rig_test(pager__fails__vm_ends),
		rig_test(pager__killed_midway__vm_ends_or_is_whole),
		rig_test(vmm__killed__pager_ends),
		rig_test(pager__brings_nothing__only_the_guest_is_harmed),
		cmocka_unit_test(load__without_userfaultfd__refused_and_still_empty),
	};
	vm_need_kvm();
	if (access("/dev/userfaultfd", R_OK | W_OK)) {
		printf("no usable /dev/userfaultfd: %s\n", strerror(errno));
		return 77;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
