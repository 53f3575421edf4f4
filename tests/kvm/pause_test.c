/* SPDX-License-Identifier: Apache-2.0 */
/* Pause and resume while disk and vsock are busy: every word once and in order, every sector as written. */
#include "tests/kvm/disk.h"
#include "tests/kvm/sock.h"

#define CYCLES       100
#define WORDS        4096u /* that one turn may send */
#define LOAD_SECTORS 1024u /* of the disk, by the guest */
#define LOAD_BATCH   8u

/* A stream of numbers and its echo, cut wherever the socket cuts it. */
struct talk {
	int fd;
	uint64_t given, taken; /* bytes */
};

static uint8_t byte_at(uint64_t at)
{
	return (uint8_t)((at / 8 * UINT64_C(0x9e3779b97f4a7c15)) >> (at % 8 * 8));
}

/* Sends at most `most` bytes, as far as the socket takes them. */
static void talk_give(struct talk *t, size_t most)
{
	static uint8_t buf[WORDS * 8];

	for (size_t i = 0; i < most; i++)
		buf[i] = byte_at(t->given + i);
	t->given += sock_give(t->fd, buf, most);
}

/* Takes what is there; each byte must be the next one. */
static void talk_take(struct talk *t)
{
	static uint8_t buf[WORDS * 8];
	ssize_t n = sock_take(t->fd, buf, sizeof(buf));

	assert_true(n >= 0);
	for (ssize_t i = 0; i < n; i++)
		if (buf[i] != byte_at(t->taken + (uint64_t)i))
			fail_msg("byte %llu of the echo differs",
				 (unsigned long long)t->taken + (unsigned long long)i);
	t->taken += (uint64_t)n;
	assert_true(t->taken <= t->given);
}

static void talk_until(struct talk *t, uint64_t taken)
{
	while (t->taken < taken) {
		sock_wait(t->fd, POLLIN);
		talk_take(t);
	}
}

/* Paused: nothing is written to the disk any more. */
static void disk_stands_still(int disk)
{
	uint64_t *before = disk_content(disk);
	poll(NULL, 0, 2);
	uint64_t *after = disk_content(disk);
	assert_memory_equal(after, before, DISK_BYTES);
	free(before);
	free(after);
}

static void pause_and_resume(struct vm *vm, struct talk *t, int disk, unsigned cycle)
{
	struct vmm_error why;

	talk_give(t, 100 + cycle * 97 % 8000);
	if (cycle % 3) /* else in the middle of it */
		talk_until(t, t->taken + (t->given - t->taken) / 2);
	if (vmm_pause(vm->vmm, &why))
		fail_msg("vmm_pause: %s", why.text);
	assert_int_equal(vmm_state(vm->vmm), VMM_PAUSED);
	if (cycle % 10 == 0)
		disk_stands_still(disk);
	talk_give(t, cycle * 31 % 5000); /* nobody takes it yet */
	if (vmm_resume(vm->vmm, &why))
		fail_msg("vmm_resume: %s", why.text);
	assert_int_equal(vmm_state(vm->vmm), VMM_RUNNING);
}

/* The sectors as `batches` batches leave them: batch k writes 8 sectors with salt k + 2. */
static void disk_holds(int disk, uint64_t batches)
{
	uint64_t *want = disk_words(), *got = disk_content(disk);

	for (uint64_t n = 0; n < batches * LOAD_BATCH; n++)
		disk_fill(want + n % LOAD_SECTORS * 64, n % LOAD_SECTORS, 1, n / LOAD_BATCH + 2);
	assert_memory_equal(got, want, DISK_BYTES);
	free(want);
	free(got);
}

static void pause__hundred_times_under_load__loses_and_repeats_nothing(void **state)
{
	(void)state;
	struct vm vm;
	struct vmm_error text;
	char dir[] = "/tmp/spore-pause-XXXXXX", uds[64];
	assert_non_null(mkdtemp(dir));
	snprintf(uds, sizeof(uds), "%s/v", dir);
	int host = sock_listen(uds), disk = disk_create();
	struct vmm_config cfg = vm_config(&vm, "load");

	cfg.drive[0] = (struct vmm_drive){.id = "disk", .fd = disk, .overlay_fd = -1};
	cfg.drive_count = 1;
	cfg.has_vsock = true;
	cfg.vsock = (struct vmm_vsock){.guest_cid = 3, .listen_fd = host, .ready_fd = -1};
	vm_start(&vm, &cfg);
	vm_collect(&vm, strlen("listening\n"));
	struct talk t = {.fd = sock_connect(uds, 1024)};
	for (unsigned i = 0; i < CYCLES; i++)
		pause_and_resume(&vm, &t, disk, i);
	talk_until(&t, t.given);
	assert_int_equal(shutdown(t.fd, SHUT_WR), 0);
	vm_collect(&vm, 0);
	assert_int_equal(vm_finish(&vm, &text), VMM_EXIT_RESET);
	unsigned long long batches = 0;
	char verdict[8] = "";
	assert_int_equal(sscanf(vm.text, "listening\n%llx\n%7s", &batches, verdict), 2);
	assert_string_equal(verdict, "good");
	assert_true(batches >= CYCLES / 10);
	disk_holds(disk, batches);
	sock_expect_end(t.fd);
	close(t.fd);
	close(host);
	close(disk);
	unlink(uds);
	rmdir(dir);
	printf("%llu bytes echoed, %llu batches\n", (unsigned long long)t.taken, batches);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pause__hundred_times_under_load__loses_and_repeats_nothing),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
