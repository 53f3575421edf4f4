/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libvmm.h - a virtual machine as an opaque handle: the only public door of the VMM
 *
 * A VM is created from a configuration, driven by a few calls, and watched by one file descriptor.
 * The library never prints, exits, forks or installs signal handlers for the caller's signals, keeps no
 * mutable globals, takes file descriptors rather than paths where a path would be opened late, and
 * leaves no thread behind after vmm_destroy().
 *
 * Threads: calls on one handle come from one thread at a time (the "ctl" thread).  The VM's own threads
 * (io, one a vCPU) are created by vmm_start().
 * Errors: 0 or -errno, with a sentence in `struct vmm_error` that names the object.
 */
#ifndef SPORE_LIBVMM_H
#define SPORE_LIBVMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VMM_API __attribute__((visibility("default")))

#define VMM_CPUS_MAX    32
#define VMM_MEM_MIB_MIN 1
#define VMM_MEM_MIB_MAX (1024 * 1024) /* refused above: 1 TiB */
#define VMM_DRIVES_MAX  8
#define VMM_NETS_MAX    4

struct vmm;

struct vmm_error {
	char text[512];
};

/* A token bucket: `size` tokens, refilled evenly every `refill_ms`; `one_time_burst` more at first.  size 0: no limit. */
struct vmm_bucket {
	uint64_t size, one_time_burst, refill_ms;
};

struct vmm_limit {
	struct vmm_bucket bandwidth, ops; /* bytes; operations */
};

struct vmm_drive {
	const char *id; /* [A-Za-z0-9_]+, unique */
	int fd; /* raw image or base layer; -1: nothing behind it yet; borrowed until vmm_create() returns */
	int overlay_fd; /* own copy-on-write layer over `fd`, or -1: `fd` is then opened read-only */
	bool read_only;
	bool is_root;
	const char *partuuid; /* or NULL; only with is_root */
	bool writeback; /* Firecracker's cache_type Writeback: flush reaches the disk; false: Unsafe */
};

enum vmm_net_kind {
	VMM_NET_TAP, /* a tap with IFF_VNET_HDR and IFF_NO_PI */
	VMM_NET_STREAM, /* a connected stream socket: 4 bytes of length, big-endian, and a frame (passt) */
};

/* What a guest may reach through VMM_NET_STREAM.  A tap is the host's to filter. */
struct vmm_net_egress {
	bool filter;        /* only what the Internet at large could reach; false: everything */
	bool allow_private; /* with filter: private networks, too */
	uint32_t dns;     /* with filter: IPv4 address (host order) open at UDP port 53; 0: none */
	uint32_t gateway; /* with filter: IPv4 address (host order) open altogether; 0: none */
};

struct vmm_net {
	const char *id; /* [A-Za-z0-9_]+, unique */
	enum vmm_net_kind kind;
	int fd;         /* borrowed until vmm_create() returns */
	uint8_t mac[6]; /* all zero: one is drawn */
	uint16_t mtu;   /* told to the guest; 0: none */
	struct vmm_limit rx, tx;
	struct vmm_net_egress egress; /* VMM_NET_STREAM */
};

struct vmm_vsock {
	uint32_t guest_cid; /* >= 3 */
	int listen_fd; /* listening unix stream socket of the hybrid protocol, or -1; borrowed */
	const char *
		uds_path; /* guest-initiated connections go to "<uds_path>_<port>"; or NULL: refused */
	int ready_fd; /* eventfd signalled when the guest first asks for ready_port; or -1; borrowed */
	uint32_t
		ready_port; /* a connection request to it is answered with a reset: it is a doorbell */
};

struct vmm_balloon {
	uint32_t amount_mib; /* that the guest is to give up; at most mem_mib */
	bool deflate_on_oom; /* the guest may take it back rather than kill a process */
	bool reporting;      /* the guest reports free memory by itself, and it leaves the host */
	uint32_t stats_interval_s; /* how often statistics are asked for; 0: never */
};

/* What happens to a guest's console bytes: fd is written non-blocking; what it does not take is dropped. */
struct vmm_serial {
	int out_fd; /* or -1: no output */
	int in_fd;  /* or -1: no input */
};

struct vmm_config {
	size_t size; /* sizeof(struct vmm_config): fields are only ever appended */
	int kernel_fd;
	int initrd_fd;       /* or -1 */
	const char *cmdline; /* or NULL: the default of Firecracker */
	uint32_t cpus;       /* 1..VMM_CPUS_MAX */
	uint64_t mem_mib;
	struct vmm_drive drive[VMM_DRIVES_MAX];
	uint32_t drive_count;
	struct vmm_vsock vsock;
	bool has_vsock;
	bool has_entropy; /* virtio-rng */
	bool track_dirty_pages;
	struct vmm_serial serial;
	bool boot_timer; /* a byte 123 written to 0xc0000000 is stamped as guest_boot */
	int kvm_fd;      /* an open /dev/kvm; borrowed */
	void (*log)(void *ctx, int level, const char *line); /* or NULL; any thread; never blocks */
	void *log_ctx;
	/* For vmm_seal(): */
	uint32_t seal_uid, seal_gid; /* to become when root; 0: 65534 (nobody) */
	bool seal_no_namespaces;     /* for measurements */
	bool seal_no_seccomp;        /* for debugging */
	struct vmm_balloon balloon;
	bool has_balloon;
	struct vmm_net net[VMM_NETS_MAX];
	uint32_t net_count;
	struct vmm_limit drive_limit[VMM_DRIVES_MAX]; /* of drive[] */
	/*
	 * The VM can be captured while it runs (vmm_capture()): a spare KVM VM is built ahead.  Costs its objects
	 * (about half a millisecond, and what the kernel keeps for a page of memory: 8 to 10 bytes on some hosts).
	 */
	bool capturable;
	/*
	 * The VM waits for vmm_load(): no kernel, no memory, and nothing behind its devices yet; of a drive count
	 * only id, read_only, writeback and is_root.  vmm_start() then makes the threads and runs nothing.
	 */
	bool empty;
	bool serial_is_log; /* serial.out_fd is a console log: a ring in a file of fixed size (wire/conlog.h) */
	/*
	 * For an empty VM, both or none: memory may come from a pager (VMM_RUN_LAZY).
	 * uffd_fd: an open /dev/userfaultfd, borrowed; 0 or -1: none.
	 * pager_lost: the pager has ended before all of memory was there.  Threads of this VM may stand in page faults
	 * for good, and vmm_stop() would wait for them: the process must end.  Called once, on a thread of the VM's,
	 * with log_ctx; `why` is a sentence.
	 */
	int uffd_fd;
	void (*pager_lost)(void *ctx, const char *why);
};

enum vmm_exit {
	VMM_EXIT_NONE = 0, /* still running */
	VMM_EXIT_RESET,    /* the guest asked for a reset or power-off */
	VMM_EXIT_STOPPED,  /* vmm_stop() */
	VMM_EXIT_TRIPLE_FAULT,
	VMM_EXIT_GUEST_FAULT, /* the guest did what no device or emulator could carry out */
	VMM_EXIT_ERROR,       /* KVM or the host failed: see the text */
};

enum vmm_state {
	VMM_CREATED,
	VMM_RUNNING,
	VMM_PAUSED,
	VMM_ENDED,
	VMM_EMPTY, /* started and waiting for vmm_load() */
};

/* Phases, CLOCK_MONOTONIC in ns; 0 = has not happened. */
struct vmm_timings {
	uint64_t create_begin, kvm_ready, memory_ready, devices_ready, kernel_loaded, vcpus_ready;
	uint64_t created, started, loaded, first_run, first_exit, guest_boot, ready, ended;
};

/* Counters; monotonic while the VM lives. */
struct vmm_counters {
	uint64_t exits_io, exits_mmio, exits_other;
	uint64_t device_breaks; /* how often the guest broke a device */
	uint64_t serial_bytes, serial_dropped;
};

/* What the guest's driver says of its memory, and what came of it.  Bytes, or how often since the guest booted. */
struct vmm_balloon_stats {
	size_t size; /* sizeof(struct vmm_balloon_stats): fields are only ever appended */
	uint64_t target_mib, actual_mib;         /* asked for; given up */
	uint64_t inflated_bytes, reported_bytes; /* taken so far, each time counted */
	uint64_t given_back_bytes;               /* of both, what left host memory */
	uint64_t answers; /* how often the guest told; 0: nothing below is known */
	uint32_t known;   /* bit n: the n-th of the following is known (in this order) */
	uint64_t swap_in, swap_out, major_faults, minor_faults;
	uint64_t free_bytes, total_bytes, available_bytes, cache_bytes;
	uint64_t hugetlb_allocations, hugetlb_failures;
	uint64_t oom_kills, alloc_stalls, async_scans, direct_scans, async_reclaims,
		direct_reclaims;
};

/* Builds everything up to the first instruction; opens nothing but what the configuration holds. */
VMM_API int vmm_create(struct vmm **out, const struct vmm_config *cfg, struct vmm_error *why);

/*
 * vmm_seal() - narrow the calling process for good (docs/SECURITY.md): namespaces, an empty root, an
 * unprivileged user, no capabilities, Landlock, no_new_privs
 * Optional and once, after vmm_create() and before vmm_start(), in a process of one thread.  vmm_start()
 * then loads the system call filters: into the VM's own threads, and last into the caller's, which from
 * there on can make no threads and open no files.
 */
VMM_API int vmm_seal(struct vmm *vmm, struct vmm_error *why);

VMM_API int vmm_start(struct vmm *vmm, struct vmm_error *why);
/* After it returns no vCPU runs and no device has a request in flight.  Idempotent. */
VMM_API int vmm_pause(struct vmm *vmm, struct vmm_error *why);
VMM_API int vmm_resume(struct vmm *vmm, struct vmm_error *why);
/* Ends the VM; vmm_exit_reason() says VMM_EXIT_STOPPED unless it had ended before. */
VMM_API int vmm_stop(struct vmm *vmm, struct vmm_error *why);

/* What the guest is to give up from now on.  -ENODEV: there is no balloon; -EINVAL: more than it has. */
VMM_API int vmm_balloon_set(struct vmm *vmm, uint32_t amount_mib, struct vmm_error *why);
/* Fills what fits into out->size.  -ENODEV: there is no balloon. */
VMM_API int vmm_balloon_stats(const struct vmm *vmm, struct vmm_balloon_stats *out,
			      struct vmm_error *why);

/*
 * vmm_new_generation() - tell a paused VM that it is a copy: new VM generation id, VMClock counted, interrupt
 * The guest reseeds its random numbers from it.  A load does this by itself; a VM whose memory and state
 * were copied by other means needs it before it resumes.
 */
VMM_API int vmm_new_generation(struct vmm *vmm, struct vmm_error *why);
/* --- capture and load: a machine as bytes and descriptors (docs/DESIGN.md, "The state engine") ------ */

enum vmm_run_kind {
	VMM_RUN_MAP = 1,  /* mapped privately from the source */
	VMM_RUN_ZERO = 2, /* zeroes; source and off are 0 */
	VMM_RUN_LAZY =
		3, /* vmm_load() only: comes from a pager when it is touched; source and off are 0 */
};

/* `count` pages of memory from `page` on (4096 bytes; counted over all of RAM, without the gap). */
struct vmm_run {
	uint64_t page, count;
	uint32_t source; /* index of a descriptor */
	uint32_t kind;   /* enum vmm_run_kind */
	uint64_t off;    /* bytes, a multiple of 4096, in the source */
};

/* All of a machine's memory: runs in order, without a gap.  What the descriptors hold never changes. */
struct vmm_memory {
	const struct vmm_run *run;
	uint64_t run_count;
	const int *fd;
	uint32_t fd_count;
};

#define VMM_LAYERS_MAX    64 /* of one disk */
#define VMM_NO_SOURCE     UINT32_MAX
#define VMM_CAPTURE_STAY  1u /* the VM stays paused; else it runs on if it ran */
#define VMM_CAPTURE_SINCE 2u /* the difference to the last settled capture, not to the base */

struct vmm_capture_cfg {
	size_t size; /* sizeof */
	uint32_t flags;
	/*
	 * For each drive that writes to a layer, in the drives' order; all borrowed:
	 * layer_fd: a fresh layer, open for reading and writing: an empty file, or one that was made on the present top;
	 * below_fd: the present top's file, opened for reading only; -1: it stays open for writing until the VM ends.
	 */
	uint32_t layer_count;
	int layer_fd[VMM_DRIVES_MAX], below_fd[VMM_DRIVES_MAX];
};

/* Everything belongs to the VM and stays as it is until the next vmm_capture() or vmm_destroy(). */
struct vmm_captured {
	const void *state; /* wire/snap.h */
	size_t state_len;
	struct vmm_memory memory;
	uint32_t
		diff_source; /* which source holds what was written since; VMM_NO_SOURCE: no base before this */
	uint64_t diff_pages;
	uint64_t sequence; /* for vmm_settle() */
	uint64_t pause_ns; /* for how long the guest stood still; 0 when it was paused anyway */
	bool rehomed;      /* this capture moved the VM off its own file: now there is a base */
	/*
	 * `memory` holds only what was written since the last capture that was kept: it does not cover the machine.
	 * With VMM_CAPTURE_SINCE, from the second kept capture on.
	 */
	bool partial;
};

/*
 * vmm_capture() - the machine as it is at one instant
 * The VM is running or paused, and was made capturable or loaded.  The guest notices nothing but the pause.  While
 * memory still comes from a pager, it is waited for first.
 * Disks: the present top layers are sealed in the same instant and durable when it returns, the fresh ones are
 * written from then on.
 * Return: 0; -ENOTSUP, -EINVAL, -EBADMSG, -EBUSY (wrong state, layers that do not fit): nothing has happened; another
 * -errno: the VM runs on, perhaps on the fresh layers already, and the next capture holds what this one would have;
 * or it has ended, when its memory could not be made immutable.
 */
VMM_API int vmm_capture(struct vmm *vmm, const struct vmm_capture_cfg *cfg,
			struct vmm_captured *out, struct vmm_error *why);

/*
 * vmm_tidy() - work that a capture has put off: call it when nobody waits
 * After a capture that moved the VM: closes its old KVM VM, unmaps its old memory, adds the last seal.  Until then
 * the memory that went out cannot be written through any descriptor, and nothing uses the mapping that is left.
 * The next capture does it first.  Takes time that grows with memory: 0.2 us a page.
 * Return: 0, or -errno: the VM has ended, because its memory cannot be relied on.
 */
VMM_API int vmm_tidy(struct vmm *vmm, struct vmm_error *why);

enum vmm_outcome { VMM_KEPT, VMM_LOST };
/*
 * vmm_settle() - what became of a capture
 * VMM_KEPT: it is safe, and captures with VMM_CAPTURE_SINCE begin from it.  Return: 0; -ESTALE not the last one.
 */
VMM_API int vmm_settle(struct vmm *vmm, uint64_t sequence, enum vmm_outcome outcome,
		       struct vmm_error *why);

struct vmm_disk {
	int base_fd;
	const int *layer_fd; /* bottom to top, the last open for writing; none: the base alone */
	uint32_t layer_count;
};

#define VMM_LOAD_REALTIME \
	1u /* the guest's clock jumps to the host's; else it goes on where it stood */
#define VMM_LOAD_CLONE 2u /* another machine than the one captured: a new generation id */

struct vmm_load_cfg {
	size_t size; /* sizeof */
	uint32_t flags;
	const void *state; /* aligned to 8; not changed meanwhile */
	size_t state_len;
	struct vmm_memory memory;
	uint32_t disk_count; /* as many as drives */
	struct vmm_disk disk[VMM_DRIVES_MAX];
	int vsock_listen_fd; /* or -1 */
	int pager_fd; /* with VMM_RUN_LAZY: connected SEQPACKET socket to the pager; else not looked at */
};

/*
 * vmm_load() - put a captured machine into an empty VM; it is paused then
 * All descriptors are borrowed and duplicated where needed.  The state is hostile and checked whole.
 * Return: 0; -ENOTSUP memory is to come from a pager, and cannot: the VM is still empty; -EINVAL the VM is not empty, or has another shape; -EBADMSG a state or plan that is none; -errno.
 * After an error the VM can only be destroyed.
 */
VMM_API int vmm_load(struct vmm *vmm, const struct vmm_load_cfg *cfg, struct vmm_error *why);

/* `count` pages from `page` on, as in struct vmm_run. */
struct vmm_page_run {
	uint64_t page;
	uint32_t count;
	uint32_t
		written; /* 1: written; 0: only read, or a neighbour in the page cache of one that was */
};

struct vmm_working_set {
	const struct vmm_page_run
		*run; /* in order; the VM's, until the next call or vmm_destroy() */
	uint64_t run_count, pages, written;
};

/*
 * vmm_working_set() - which pages a loaded VM has touched since its load
 * What the next load of the same machine is to fetch in one piece.  The VM is running or paused.
 * Return: 0; -EINVAL wrong state; -ENOTSUP it was not loaded, or its memory came from a pager; -errno.
 */
VMM_API int vmm_working_set(struct vmm *vmm, struct vmm_working_set *out, struct vmm_error *why);

VMM_API enum vmm_state vmm_state(const struct vmm *vmm);
/* Readable (poll) once the VM has ended.  Owned by the handle. */
VMM_API int vmm_exit_fd(const struct vmm *vmm);
/* @text: may be NULL; else a sentence for VMM_EXIT_ERROR and VMM_EXIT_GUEST_FAULT. */
VMM_API enum vmm_exit vmm_exit_reason(const struct vmm *vmm, struct vmm_error *text);
VMM_API void vmm_timings(const struct vmm *vmm, struct vmm_timings *out);
VMM_API void vmm_counters(const struct vmm *vmm, struct vmm_counters *out);

struct vmm_shape {
	uint32_t cpus;
	uint32_t
		generation; /* 0: memory is the VM's own file; 1: private mappings of files that never change */
	uint64_t mem_mib;
	uint64_t captures; /* taken so far */
	uint64_t sources;  /* descriptors that memory is mapped from */
};
VMM_API void vmm_shape(const struct vmm *vmm, struct vmm_shape *out);
/* NULL is fine; stops the VM first. */
VMM_API void vmm_destroy(struct vmm *vmm);

/* What tiny guests found out about /dev/kvm. */
struct vmm_probe {
	bool opens, permission_denied;
	bool runs_guest;    /* a tiny guest at CPL 0 gave the right answer */
	bool syscall_works; /* SYSCALL from CPL 3 arrived at CPL 0: decides whether Linux can run */
	bool usable;        /* all that Linux needs */
	uint64_t cpl0_instructions,
		cpl0_ns; /* a counted loop at CPL 0 and how long it took; FULL only */
	int api_version;
	char text[256]; /* a sentence: what was found */
};

enum vmm_probe_depth {
	VMM_PROBE_QUICK, /* the deciding SYSCALL only: about a millisecond */
	VMM_PROBE_FULL, /* and a million instructions at CPL 0: about 1 ms native, 0.6 s interpreted */
};

/* Opens `path` ("/dev/kvm") and runs tiny guests, each for a bounded time.  Fills `out` in every case. */
VMM_API void vmm_probe(const char *path, enum vmm_probe_depth depth, struct vmm_probe *out);

VMM_API const char *vmm_version(void);

#ifdef __cplusplus
}
#endif

#endif
