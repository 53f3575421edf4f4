/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.h - one VM: its parts, and who may touch them
 *
 * machine.c builds and dismantles it, lifecycle.c runs, pauses and ends it, vcpu.c executes it.
 * Tags at the fields: const = after vmm_create(); ctl, io, vcpu = that thread; lock = m->lock.
 */
#ifndef SPORE_VMM_MACHINE_H
#define SPORE_VMM_MACHINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/gmem.h"
#include "base/loop.h"
#include "devices/i8042.h"
#include "devices/ioapic.h"
#include "devices/mmio.h"
#include "devices/serial.h"
#include "vmm/bus.h"
#include "vmm/console.h"
#include "vmm/irq.h"
#include "vmm/kvm.h"
#include "vmm/lazy.h"
#include "vmm/libvmm.h"
#include "vmm/ram.h"
#include "vmm/sandbox.h"
#include "vmm/vmgenid.h"

#define MACHINE_DEV_MAX (VMM_DRIVES_MAX + VMM_NETS_MAX + 3)

struct vmm;
struct capture;

struct vcpu {
	struct vmm *m;       /* const */
	unsigned id;         /* const */
	struct kvm_vcpu kvm; /* vcpu; ctl while parked */
	pthread_t thread;    /* ctl */
	bool started;        /* atomic; written by ctl */
	bool unfinished; /* vcpu: an exit was answered in the run page; KVM has not consumed it yet */
	uint64_t exits_io, exits_mmio, exits_other; /* atomic; written by vcpu */
};

/* What the vCPUs are to do; they look at it before every entry into the guest. */
enum machine_want { WANT_PARKED, WANT_RUNNING, WANT_ENDED };

struct vmm {
	/* const */
	uint32_t cpus;
	bool boot_timer;
	void (*log)(void *ctx, int level, const char *line);
	void *log_ctx;
	struct ram ram;
	struct gmem gm;
	struct kvm_vm kvm;
	struct bus mmio_bus, port_bus;
	struct mmio *dev[MACHINE_DEV_MAX];
	unsigned dev_count;
	unsigned drive_count;                        /* the first so many of `dev` are disks */
	struct blk_backend *layered[VMM_DRIVES_MAX]; /* those that write to a layer; else NULL */
	struct dev *vsock;                           /* or NULL */
	struct ioapic *ioapic;
	struct serial *serial;
	struct i8042 *i8042;
	struct dev *balloon;     /* one of dev[], or NULL */
	struct console *console; /* NULL: no output */
	struct irq irq;
	struct loop *loop;
	int exit_fd;
	struct vcpu *vcpu; /* cpus of them */

	/* ctl */
	enum vmm_state state;
	pthread_t io_thread;
	bool io_started;
	bool sealed;             /* the process is narrowed */
	bool empty;              /* const: made to be loaded */
	struct capture *capture; /* or NULL: not made to be captured or loaded */
	struct sandbox_cfg seal; /* const; its uds_path is seal_path, or NULL */
	char seal_path[108];     /* const; as long as an address of a unix socket */

	struct lazy lazy;       /* as it says itself */
	struct vmgenid vmgenid; /* ctl while no vCPU runs */

	/* atomic: enum machine_want */
	int want;

	pthread_mutex_t lock;   /* leaf */
	pthread_cond_t changed; /* want, parked, gone */
	unsigned parked;        /* lock: vCPU threads waiting in vcpu_park() */
	unsigned gone;          /* lock: vCPU threads that have ended */
	enum vmm_exit exit;     /* lock: the first reason wins */
	struct vmm_error exit_text;
	struct vmm_timings timings; /* lock */
};

/* vcpu.c */
/* A vCPU of KVM's with our CPUID and kick signal.  On failure kvm_vcpu_destroy() takes what there is. */
int vcpu_make(struct kvm_vcpu *vcpu, const struct kvm_vm *vm, unsigned id, unsigned cpus,
	      const struct cpuid_table *host, struct errmsg *why);
/* Makes vCPU `id`: KVM object, CPUID, boot registers come later. */
int vcpu_create(struct vcpu *vcpu, struct vmm *m, unsigned id, const struct cpuid_table *host,
		struct errmsg *why);
int vcpu_start(struct vcpu *vcpu, struct errmsg *why);
/* Any thread: makes KVM_RUN of a started vCPU return soon. */
void vcpu_kick(struct vcpu *vcpu);

/* lifecycle.c */
/* Any thread: the VM is over; the first reason wins. */
void machine_end(struct vmm *m, enum vmm_exit reason, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* vCPU thread: waits while WANT_PARKED.  Return: false when the thread is to end. */
bool machine_park(struct vmm *m);
/* vCPU thread: leaves for good. */
void machine_gone(struct vmm *m);
enum machine_want machine_want(const struct vmm *m);
/* Stamps a phase, the first time only.  Any thread. */
void machine_stamp(struct vmm *m, uint64_t *phase);
/* Loads the filter of `role` into the calling thread, if the VM is sealed and has filters. */
int machine_confine(const struct vmm *m, enum sandbox_role role, struct errmsg *why);
int machine_run(struct vmm *m, struct errmsg *why);
int machine_pause(struct vmm *m, struct errmsg *why);
/* Ends and joins all threads. */
void machine_halt(struct vmm *m);

/* machine.c */
int machine_create(struct vmm **out, const struct vmm_config *cfg, struct errmsg *why);
void machine_destroy(struct vmm *m);

#endif
