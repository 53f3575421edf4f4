/* SPDX-License-Identifier: Apache-2.0 */
/* pattern_vm.h - VMs that run the guest "pattern", and the judge of the memory that their captures hold. */
#ifndef SPORE_TESTS_PATTERN_VM_H
#define SPORE_TESTS_PATTERN_VM_H

#include <sys/mman.h>

#include "base/clock.h"
#include "tests/kvm/guest/pattern.h"
#include "tests/kvm/vm.h"

#define PATTERN_PAGE 4096u

struct pattern_cfg {
	unsigned cpus, mem_mib;
	uint64_t pages;
	bool idle; /* stops writing once every page is written */
};

/* How this KVM lets a guest down to CPL 3: guest/cpl3.h. */
static inline unsigned pattern_enter(void)
{
	static int enter = -1;
	struct vmm_probe probe;

	if (enter < 0) {
		vmm_probe("/dev/kvm", VMM_PROBE_QUICK, &probe);
		enter = !probe.syscall_works;
	}
	return (unsigned)enter;
}

/* @cmdline: 128 bytes that live as long as the configuration */
static inline struct vmm_config pattern_config(struct vm *vm, const struct pattern_cfg *cfg,
					       char *cmdline)
{
	struct vmm_config to = vm_config(vm, "pattern");

	snprintf(cmdline, 128, "cpus=%u pages=%llu enter=%u idle=%u", cfg->cpus,
		 (unsigned long long)cfg->pages, pattern_enter(), cfg->idle);
	to.cmdline = cmdline;
	to.cpus = cfg->cpus;
	to.mem_mib = cfg->mem_mib;
	to.boot_timer = true;
	to.capturable = true;
	return to;
}

/* Boots it and waits until every page is written once. */
static inline void pattern_start(struct vm *vm, const struct pattern_cfg *cfg)
{
	char cmdline[128];
	struct vmm_config to = pattern_config(vm, cfg, cmdline);
	struct vmm_timings t = {0};

	vm_start(vm, &to);
	for (unsigned ms = 0; !t.guest_boot; ms++) {
		if (ms == VM_LIMIT_MS || vmm_state(vm->vmm) == VMM_ENDED)
			fail_msg("the pattern guest did not come up");
		poll(NULL, 0, 1);
		vmm_timings(vm->vmm, &t);
	}
}

/* An empty VM of the same shape, started and waiting. */
static inline void pattern_shell(struct vm *vm, const struct pattern_cfg *cfg)
{
	char cmdline[128];
	struct vmm_config to = pattern_config(vm, cfg, cmdline);

	close(to.kernel_fd);
	to.kernel_fd = -1;
	to.capturable = false;
	to.empty = true;
	struct vmm_error why;
	if (vmm_create(&vm->vmm, &to, &why))
		fail_msg("vmm_create: %s", why.text);
	close(to.kvm_fd);
	if (vmm_start(vm->vmm, &why))
		fail_msg("vmm_start: %s", why.text);
	assert_int_equal(vmm_state(vm->vmm), VMM_EMPTY);
}

static inline void pattern_end(struct vm *vm)
{
	vm_finish(vm, NULL);
}

static inline struct vmm_captured pattern_capture(struct vm *vm, uint32_t flags)
{
	const struct vmm_capture_cfg cfg = {.size = sizeof(cfg), .flags = flags};
	struct vmm_captured got;
	struct vmm_error why;

	if (vmm_capture(vm->vmm, &cfg, &got, &why))
		fail_msg("vmm_capture: %s", why.text);
	return got;
}

static inline void pattern_load(struct vm *vm, const struct vmm_captured *from)
{
	const struct vmm_load_cfg cfg = {.size = sizeof(cfg),
					 .state = from->state,
					 .state_len = from->state_len,
					 .memory = from->memory,
					 .vsock_listen_fd = -1};
	struct vmm_error why;

	if (vmm_load(vm->vmm, &cfg, &why))
		fail_msg("vmm_load: %s", why.text);
	assert_int_equal(vmm_state(vm->vmm), VMM_PAUSED);
}

/* Puts runs into flat memory. */
static inline void pattern_apply(uint8_t *flat, const struct vmm_memory *mem)
{
	for (uint64_t i = 0; i < mem->run_count; i++) {
		const struct vmm_run *run = &mem->run[i];
		uint64_t len = run->count * PATTERN_PAGE;
		uint8_t *to = flat + run->page * PATTERN_PAGE;
		if (run->kind == VMM_RUN_ZERO)
			memset(to, 0, len);
		for (uint64_t done = 0; run->kind == VMM_RUN_MAP && done < len;) {
			ssize_t n = pread(mem->fd[run->source], to + done, len - done,
					  (off_t)(run->off + done));
			assert_true(n > 0);
			done += (uint64_t)n;
		}
	}
}

static inline uint8_t *pattern_blank(uint64_t bytes)
{
	uint8_t *flat = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(flat, MAP_FAILED);
	return flat;
}

/* The memory that a whole plan describes, as one private copy of `bytes`; munmap() it. */
static inline uint8_t *pattern_memory(const struct vmm_memory *mem, uint64_t bytes)
{
	uint64_t next = 0;

	for (uint64_t i = 0; i < mem->run_count; i++) {
		assert_int_equal(mem->run[i].page, next);
		next += mem->run[i].count;
	}
	assert_int_equal(next * PATTERN_PAGE, bytes);
	uint8_t *flat = pattern_blank(bytes);
	pattern_apply(flat, mem);
	return flat;
}

/* A guest-physical address in flat memory: without the gap. */
static inline const void *pattern_ptr(const uint8_t *flat, uint64_t at)
{
	return flat + (at < 0xc0000000ull ? at : at - 0x40000000ull);
}

static inline const struct pattern *pattern_control(const uint8_t *flat)
{
	return pattern_ptr(flat, PATTERN_CONTROL);
}

static inline bool pattern_page_is(const uint8_t *flat, uint64_t page, uint64_t seq)
{
	const uint64_t *word = pattern_ptr(flat, pattern_at(page));

	for (unsigned k = 0; k < 8; k++)
		if (word[k * 64] != pattern_word(page, seq, k))
			return false;
	return true;
}

/* One processor's slice at one instant: see guest/pattern.h. */
static inline void pattern_judge_cpu(const uint8_t *flat, unsigned cpu)
{
	const struct pattern *c = pattern_control(flat);
	const uint64_t *version = pattern_ptr(flat, PATTERN_VERSIONS);
	uint64_t first = pattern_first(c->pages, cpu, (unsigned)c->cpus), newest = 0;
	uint64_t end = pattern_first(c->pages, cpu + 1, (unsigned)c->cpus);
	uint64_t seq = c->cpu[cpu].seq, cur = c->cpu[cpu].cur;

	for (uint64_t page = first; page < end; page++) {
		uint64_t v = version[page];
		if (v == 0 || v > seq)
			fail_msg("cpu %u: page %llu has version %llu, it is %llu", cpu,
				 (unsigned long long)page, (unsigned long long)v,
				 (unsigned long long)seq);
		if (page != cur && !pattern_page_is(flat, page, v))
			fail_msg("cpu %u: page %llu is not of version %llu", cpu,
				 (unsigned long long)page, (unsigned long long)v);
		newest = v > newest ? v : newest;
	}
	assert_true(newest == seq || (newest + 1 == seq && cur != PATTERN_NONE));
}

/* Is this memory of one instant?  Return: the sum of all seq, which only grows. */
static inline uint64_t pattern_judge_flat(const uint8_t *flat, const struct pattern_cfg *cfg)
{
	const struct pattern *c = pattern_control(flat);
	uint64_t sum = 0;

	assert_int_equal(c->magic, PATTERN_MAGIC);
	assert_int_equal(c->cpus, cfg->cpus);
	assert_int_equal(c->pages, cfg->pages);
	for (unsigned i = 0; i < cfg->cpus; i++) {
		pattern_judge_cpu(flat, i);
		sum += c->cpu[i].seq;
	}
	return sum;
}

static inline uint64_t pattern_judge(const struct vmm_captured *got, const struct pattern_cfg *cfg)
{
	uint64_t bytes = (uint64_t)cfg->mem_mib << 20;
	uint8_t *flat = pattern_memory(&got->memory, bytes);
	uint64_t sum = pattern_judge_flat(flat, cfg);

	munmap(flat, bytes);
	return sum;
}

/*
 * Captures until the guest is beyond `sum`: on a busy machine a processor may not run for a while.
 * Return: the last capture's sum.
 */
static inline uint64_t pattern_beyond(struct vm *vm, const struct pattern_cfg *cfg, uint32_t flags,
				      uint64_t sum)
{
	for (unsigned ms = 0; ms < VM_LIMIT_MS; ms++) {
		struct vmm_captured got = pattern_capture(vm, 0);
		uint64_t now = pattern_judge(&got, cfg);
		if (now > sum) {
			if (flags & VMM_CAPTURE_STAY) {
				got = pattern_capture(vm, flags);
				now = pattern_judge(&got, cfg);
			}
			return now;
		}
		poll(NULL, 0, 1);
	}
	fail_msg("the guest does not go on");
	return 0;
}

#endif
