/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rules.h - every system call that a thread of a running VMM may make, and who needs it
 *
 * The only place to change: mkfilter.c turns these rows into one BPF program for each role at build
 * time, and tests/unit/seccomp_test.c tries each row, and mutations of its arguments, against them.
 * To add one: RULE(roles, call, why) or with an argument RULE1(roles, call, argument, why); rows of one
 * call are alternatives.  What is not named here ends the process (docs/SECURITY.md).
 *
 * io_uring's operations never pass these filters: base/loop.c restricts the ring itself.
 */
#ifndef SPORE_VMM_GEN_RULES_H
#define SPORE_VMM_GEN_RULES_H

#include <asm/unistd.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/compat_pagemap.h"

enum { CTL = 1 << 0, IO = 1 << 1, VCPU = 1 << 2, ALL = CTL | IO | VCPU };

/* Passes when (argument & mask) == value; mask 0 = no condition. */
struct rule_arg {
	unsigned index;
	uint64_t mask, value;
};

struct rule {
	unsigned roles;
	int nr;
	const char *name;
	struct rule_arg arg[2];
	const char *why;
};

#define RULE_PID  UINT32_C(0x2d706964) /* stands for the process's own id; put in when loading */
#define RULE_KICK 34                   /* SIGRTMIN of glibc, which is no constant: vcpu.c */

#define RULE_INT UINT32_MAX /* the kernel looks at the low half of an int */

#define RULE(roles, call, why)                                         \
	{                                                              \
		roles, __NR_##call, #call, {{0, 0, 0}, {0, 0, 0}}, why \
	}
#define RULE1(roles, call, a, why)                             \
	{                                                      \
		roles, __NR_##call, #call, {a, {0, 0, 0}}, why \
	}
#define RULE2(roles, call, a, b, why)                  \
	{                                              \
		roles, __NR_##call, #call, {a, b}, why \
	}
#define ARG_IS(index, value)           \
	{                              \
		index, RULE_INT, value \
	}
#define ARG_MASKED(index, mask, value) \
	{                              \
		index, mask, value     \
	}
/* A macro's argument may hold no bare braces with commas: conditions have names. */
#define NO_EXEC      ARG_MASKED(2, PROT_EXEC, 0)
#define ANON         ARG_MASKED(3, MAP_ANONYMOUS | MAP_FIXED, MAP_ANONYMOUS)
#define READ_WRITE   ARG_IS(2, PROT_READ | PROT_WRITE)
#define ANON_OVER    ARG_IS(3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED)
#define PUNCH_HOLE   ARG_IS(1, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define REQUEST(req) ARG_IS(1, req)
#define SEND_NOW     ARG_IS(2, MSG_DONTWAIT | MSG_NOSIGNAL)
#define OWN_PID      ARG_IS(0, RULE_PID)

static const struct rule rules[] = {
	/* Threads, memory, time: what the C library does on its own. */
	RULE(ALL, futex, "mutexes, conditions, pthread_join"),
	RULE(ALL, exit, "end of a thread"),
	RULE(ALL, exit_group, "end of the process; the SIGSYS handler"),
	RULE(ALL, rt_sigreturn, "return from a signal handler"),
	RULE(ALL, rt_sigprocmask, "pthread_kill, abort, end of a thread"),
	RULE(ALL, restart_syscall, "a wait that a stop signal interrupted"),
	RULE(ALL, clock_gettime, "where the vDSO cannot read the clock"),
	RULE(ALL, gettid, "abort"),
	RULE(ALL, getpid, "pthread_kill, abort"),
	RULE(ALL, sched_yield, "the allocator's and liburing's short waits"),
	RULE2(ALL, tgkill, OWN_PID, ARG_IS(2, SIGABRT), "abort: a failed assertion"),
	RULE2(CTL | VCPU | IO, tgkill, OWN_PID, ARG_IS(2, RULE_KICK),
	      "take vCPUs out of the guest"),
	RULE(ALL, munmap, "free, stacks of ended threads"),
	RULE(ALL, madvise, "free, stacks of ended threads"),
	RULE(ALL, brk, "malloc; in a vCPU the text of a failed assertion"),
	RULE2(ALL, mmap, NO_EXEC, ANON, "malloc; in a vCPU the text of a failed assertion"),
	RULE1(CTL, mmap, NO_EXEC, "memory received as a descriptor"),
	RULE1(ALL, mprotect, NO_EXEC, "malloc grows the arena of a thread"),
	RULE(CTL | IO, mremap, "realloc of large blocks"),

	/* Descriptors that are open already. */
	RULE(ALL, write, "eventfds: interrupts, wake-ups, end of the VM; messages"),
	RULE(CTL | IO, read, "eventfds, signals, sockets"),
	RULE(ALL, writev, "the text of a failed assertion"),
	RULE(CTL | IO, close, "connections; taking the VM down"),

	/* ctl */
	RULE(CTL, poll, "wait for signals, the end of the VM, the API"),
	RULE(CTL, ppoll, "wait for signals, the end of the VM, the API"),
	RULE(CTL, clock_nanosleep, "bounded waits while taking the VM down"),
	RULE(CTL, accept4, "control socket: a client"),
	RULE(CTL, recvmsg, "control socket: requests, and descriptors by SCM_RIGHTS"),
	RULE(CTL, sendmsg, "control socket: replies, and descriptors by SCM_RIGHTS"),
	RULE(CTL, memfd_create, "capture: state, plan and changed pages in memory files"),
	RULE(CTL, ftruncate, "capture: how long the file of changed pages is"),
	RULE1(CTL, fcntl, ARG_IS(1, F_ADD_SEALS), "capture: what goes out never changes"),
	RULE1(CTL, fcntl, ARG_IS(1, F_DUPFD_CLOEXEC),
	      "load: keep the sources of memory, and layers"),
	RULE1(CTL, ioctl, REQUEST(PAGEMAP_SCAN), "capture: which pages were written"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_USER_MEMORY_REGION), "settle: switch the dirty log on"),
	RULE1(CTL, ioctl, REQUEST(KVM_GET_DIRTY_LOG), "capture: which pages the guest wrote"),
	RULE1(CTL, ioctl, REQUEST(KVM_CLEAR_DIRTY_LOG),
	      "capture: which pages it writes from now on"),
	RULE(CTL, pread64,
	     "load: state, plan, pages; capture: /proc/self/pagemap before Linux 6.7"),
	RULE(CTL, pwrite64, "vmm_destroy: the marks of a copy-on-write layer since its last flush"),
	RULE(CTL, fdatasync, "a disk's layer is sealed"),
	RULE1(CTL, fcntl, ARG_IS(1, F_OFD_SETLK), "a disk's layers: who reads, who writes"),
	RULE1(CTL, fcntl, ARG_IS(1, F_GETFL), "a disk's layers: open for reading only?"),
	RULE1(CTL, newfstatat, ARG_IS(3, AT_EMPTY_PATH), "stdio: fstat before the first write"),
	RULE(CTL, lseek, "stdio: closing the timings' file"),
	RULE1(CTL, ioctl, REQUEST(TCGETS), "stdio: is it a terminal?"),

	RULE1(CTL, ioctl, REQUEST(UFFDIO_REGISTER), "load: memory that comes when it is touched"),

	/* ctl: a paused machine's state, out and in (vmm/kvm_state.c) */
	RULE1(CTL, ioctl, REQUEST(KVM_GET_MP_STATE), "state of a paused vCPU"),
	RULE1(CTL, ioctl, REQUEST(KVM_GET_REGS), "state of a paused vCPU"),
	RULE1(CTL, ioctl, REQUEST(KVM_GET_SREGS2), "state of a paused vCPU"),
	RULE1(CTL, ioctl, REQUEST(KVM_GET_SREGS), "the same before SREGS2"),
	RULE1(CTL, ioctl, REQUEST(KVM_GET_XSAVE2), "state of a paused vCPU"),
	RULE1(CTL, ioctl, REQUEST(KVM_GET_XSAVE), "the same before XSAVE2"),
	RULE1(CTL, ioctl, REQUEST(KVM_GET_XCRS), "state of a paused vCPU"),
	RULE1(CTL, ioctl, REQUEST(KVM_GET_DEBUGREGS), "state of a paused vCPU"),
	RULE1(CTL, ioctl, REQUEST(KVM_GET_MSRS), "state of a paused vCPU"),
	RULE1(CTL, ioctl, REQUEST(KVM_GET_LAPIC), "state of a paused vCPU"),
	RULE1(CTL, ioctl, REQUEST(KVM_GET_VCPU_EVENTS), "state of a paused vCPU"),
	RULE1(CTL, ioctl, REQUEST(KVM_GET_DEVICE_ATTR), "state of a paused vCPU: TSC offset"),
	RULE1(CTL, ioctl, REQUEST(KVM_GET_CLOCK), "state of a paused machine: kvmclock"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_CPUID2), "load: a vCPU that saw a lesser processor"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_TSC_KHZ), "load: a TSC frequency that is not the host's"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_MP_STATE), "load: state of a vCPU that has not run"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_REGS), "load: state of a vCPU that has not run"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_SREGS2), "load: state of a vCPU that has not run"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_SREGS), "the same before SREGS2"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_XSAVE), "load: state of a vCPU that has not run"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_XCRS), "load: state of a vCPU that has not run"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_DEBUGREGS), "load: state of a vCPU that has not run"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_LAPIC), "load: state of a vCPU that has not run"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_DEVICE_ATTR), "load: TSC offset"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_MSRS), "load: state of a vCPU that has not run"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_VCPU_EVENTS), "load: state of a vCPU that has not run"),
	RULE1(CTL, ioctl, REQUEST(KVM_KVMCLOCK_CTRL), "load: the guest's watchdogs are told"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_CLOCK), "load: kvmclock"),
	RULE1(CTL, ioctl, REQUEST(KVM_SET_GSI_ROUTING), "load: the IOAPIC's pins"),

	/* io */
	RULE(IO, io_uring_enter, "the reactor"),
	RULE1(IO, io_uring_register, ARG_IS(1, IORING_REGISTER_ENABLE_RINGS),
	      "the reactor's first turn"),
	RULE(CTL | IO, getrandom, "virtio-rng; a new VM generation id"),
	RULE1(IO, fallocate, PUNCH_HOLE, "balloon: pages of memory that is ours alone"),
	RULE2(IO, mmap, READ_WRITE, ANON_OVER, "balloon: pages of memory mapped privately"),
	RULE1(IO, ioctl, REQUEST(UFFDIO_UNREGISTER), "watch: all of memory has come"),
	RULE1(IO, socket, ARG_IS(0, AF_UNIX), "vsock: a connection that the guest opens"),
	RULE(IO, connect, "vsock: a connection that the guest opens"),
	RULE(CTL | IO, shutdown, "vsock: half-closed connections; the end of a pager"),
	RULE1(IO, sendmsg, SEND_NOW, "network: a frame to passt"),
	RULE1(CTL | IO, ioctl, REQUEST(TUNSETOFFLOAD),
	      "network: what the driver can take from a tap"),

	/* vcpu */
	RULE1(VCPU, ioctl, REQUEST(KVM_RUN), "the guest"),
	RULE1(VCPU, ioctl, REQUEST(KVM_SET_GSI_ROUTING), "the guest programs the IOAPIC"),
	RULE1(VCPU, ioctl, REQUEST(KVM_GET_REGS), "where the guest was when KVM gave up"),
	RULE(VCPU, rt_sigtimedwait, "take the kick that ended KVM_RUN"),
};

#endif
