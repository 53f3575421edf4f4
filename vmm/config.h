/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.h - the configuration file of a VM: Firecracker's format, read strictly
 *
 * The file is JSON with the sections and fields of Firecracker's --config-file, so that one file runs
 * under both.  Ours is one key more: a drive's "overlay_path", a copy-on-write layer over
 * "path_on_host".  A network interface without "host_dev_name" is the one that --net-fd connects.  "drives" and "machine-config" may be absent (no drives; 1 vCPU, 128 MiB).
 * A section or field that is not known, or known and not yet supported, is refused by name; null stands
 * for "absent"; nothing is ever ignored.
 *
 * Reading (config_parse, config_load) opens no file but the configuration itself; config_open() then
 * opens what it names.  Both run before the sandbox closes.
 * Thread: ctl.
 */
#ifndef SPORE_VMM_CONFIG_H
#define SPORE_VMM_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "devices/limiter.h"
#include "devices/net.h"
#include "vmm/libvmm.h"
#include "vmm/options.h"

#define CONFIG_BYTES_MAX   (64 * 1024)
#define CONFIG_DEPTH_MAX   8     /* of nested arrays and objects; the format itself needs 4 */
#define CONFIG_ID_MAX      64    /* bytes of a drive_id */
#define CONFIG_ARGS_MAX    2047  /* bytes of boot_args, as in Firecracker */
#define CONFIG_STATS_S_MAX 65535 /* stats_polling_interval_s, as in Firecracker */
#define CONFIG_CID_MIN     3     /* 0 to 2 are the hypervisor, local and host addresses */
#define CONFIG_CID_MAX     UINT64_C(0xfffffffe)
#define CONFIG_MEM_MIB     128         /* when machine-config is absent, as in Firecracker */
#define CONFIG_UDS_NONE    "/dev/null" /* as uds_path: the guest's own connections are refused */
#define CONFIG_UDS_SUFFIX  "_4294967295"

enum config_cache { CONFIG_CACHE_UNSAFE, CONFIG_CACHE_WRITEBACK };

struct config_drive {
	char *id;
	char *path;
	char *overlay_path; /* or NULL */
	char *partuuid;     /* or NULL */
	bool is_root, is_read_only;
	unsigned cache;     /* enum config_cache */
	unsigned io_engine; /* accepted; ours is io_uring either way */
	struct limiter_cfg limit;
};

struct config_net {
	char *id;
	char *tap;    /* or NULL: it has --net-fd */
	char *mac;    /* or NULL: one is drawn */
	uint64_t mtu; /* 0: none is told */
	struct limiter_cfg rx, tx;
};

/* Owns its strings.  Zero-initialized it is empty, and config_free() may be called on it. */
struct config {
	char *kernel_path, *initrd_path, *boot_args; /* the last two may be NULL */
	uint64_t vcpu_count, mem_size_mib;
	bool smt, track_dirty_pages;
	unsigned huge_pages, cpu_template;         /* "None", the only value so far */
	struct config_drive drive[VMM_DRIVES_MAX]; /* the root drive first: it is vda */
	uint32_t drive_count;
	struct config_net net[VMM_NETS_MAX];
	uint32_t net_count;
	bool has_vsock;
	uint64_t guest_cid;
	char *uds_path, *vsock_id;
	bool has_entropy;
	bool has_balloon;
	uint64_t balloon_mib, balloon_stats_s;
	bool balloon_on_oom, balloon_reporting, balloon_hinting;
};

/*
 * config_parse() - read a configuration from memory
 * @out: written only on success; free with config_free()
 * Return: 0; -EINVAL with a sentence that names section, field and value; -E2BIG; -ENOMEM.
 */
int config_parse(struct config *out, const char *text, size_t len, struct errmsg *why)
	__attribute__((warn_unused_result));

/* The same from a file of at most CONFIG_BYTES_MAX bytes; a pipe will do. */
int config_load(struct config *out, const char *path, struct errmsg *why)
	__attribute__((warn_unused_result));

void config_free(struct config *cfg);

/* "06:00:ac:10:00:02", of one interface.  0 or -EINVAL. */
int config_mac(uint8_t mac[NET_MAC_LEN], const char *text);

/*
 * config_open() - open what the configuration names and fill what vmm_create() takes
 * @opt: descriptors handed over on the command line, the path of /dev/kvm
 * @out: borrows the strings of `cfg` and the descriptors of `opt`; release with config_close()
 *
 * Kernel, initrd and bases are opened read-only; images must be regular files or block devices.  A
 * writable image is locked for this process (an open-file-description lock, gone with the last
 * descriptor), a read-only one shared, so that no image is in use for writing twice.
 * A vsock without --vsock-listen-fd gets a socket bound to uds_path; config_close() does not unlink it.
 * Return: 0 or -errno with the object's name in *why; nothing stays open on failure.
 */
int config_open(const struct config *cfg, const struct options *opt, struct vmm_config *out,
		struct errmsg *why) __attribute__((warn_unused_result));

/* Closes what config_open() opened, and leaves what came by number. */
void config_close(const struct options *opt, struct vmm_config *cfg);

#endif
