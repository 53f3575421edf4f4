/* SPDX-License-Identifier: Apache-2.0 */
/*
 * machine.h - what `run` and `create` ask of a machine: checked, found, started, up
 * Thread: main.
 */
#ifndef SPORE_SUPERVISOR_CLI_MACHINE_H
#define SPORE_SUPERVISOR_CLI_MACHINE_H

#include "supervisor/cli/opt.h"
#include "supervisor/image/store.h"
#include "supervisor/lifecycle/files.h"
#include "supervisor/lifecycle/vm.h"

struct machine_args {
	const char *image, *kernel, *initrd, *vmm; /* NULL: found by the rules of files.h */
	const char *kvm;                           /* NULL: /dev/kvm */
	uint32_t cpus;                             /* 0: 1 */
	uint64_t memory_mib;                       /* 0: 512 */
	uint64_t boot_timeout_ms;                  /* 0: 60 s */
	bool force_kvm;
};

struct machine {
	const struct machine_args *args;
	struct life_files files;
	char image[STORE_PATH_MAX];
	const char *kvm;
};

/*
 * machine_find() - every file that the arguments and the rules name, and a KVM that can run Linux
 * Return: 0; -errno with a sentence about the file.
 */
int machine_find(struct machine *out, const struct machine_args *args, struct errmsg *why);

/* The VM to start.  It points into the machine. */
struct life_config machine_config(const struct machine *machine);

/* Waits for the guest's agent, with a line of progress.  Return: -1 it is up; else the exit status. */
int machine_boot(const struct machine *machine, struct life_vm *vm, const char *command);

/* The rows of an option table: `type` has the arguments in `field`. */
#define MACHINE_OPTIONS(type, field)                                                           \
	{.name = "image",                                                                      \
	 .value = "NAME|PATH",                                                                 \
	 .help = "root file system: an image of the store, or an ext4 file (default base)",    \
	 .set = opt_set_text,                                                                  \
	 .offset = offsetof(type, field.image),                                                \
	 .complete = OPT_IMAGE},                                                               \
		{.name = "kernel",                                                             \
		 .value = "PATH",                                                              \
		 .help = "guest kernel: an ELF vmlinux or a bzImage",                          \
		 .set = opt_set_text,                                                          \
		 .offset = offsetof(type, field.kernel),                                       \
		 .complete = OPT_FILE},                                                        \
		{.name = "cpus",                                                               \
		 .value = "N",                                                                 \
		 .help = "virtual CPUs, 1 to 32 (default 1)",                                  \
		 .set = opt_set_cpus,                                                          \
		 .offset = offsetof(type, field.cpus)},                                        \
		{.name = "memory",                                                             \
		 .value = "SIZE",                                                              \
		 .help = "guest memory, such as 512M or 2G (default 512M)",                    \
		 .set = opt_set_memory,                                                        \
		 .offset = offsetof(type, field.memory_mib)},                                  \
		{.name = "boot-timeout",                                                       \
		 .value = "TIME",                                                              \
		 .help = "how long the guest may take to boot (default 60s)",                  \
		 .set = opt_set_duration,                                                      \
		 .offset = offsetof(type, field.boot_timeout_ms)},                             \
		{.name = "force-kvm",                                                          \
		 .help = "try even where the probe says that Linux guests cannot run",         \
		 .set = opt_set_flag,                                                          \
		 .offset = offsetof(type, field.force_kvm)},                                   \
		{.name = "initrd",                                                             \
		 .value = "PATH",                                                              \
		 .help = "the agent's initramfs",                                              \
		 .set = opt_set_text,                                                          \
		 .offset = offsetof(type, field.initrd),                                       \
		 .show = OPT_HIDDEN},                                                          \
		{.name = "vmm",                                                                \
		 .value = "PATH",                                                              \
		 .help = "the spore-vmm to start",                                             \
		 .set = opt_set_text,                                                          \
		 .offset = offsetof(type, field.vmm),                                          \
		 .show = OPT_HIDDEN},                                                          \
	{                                                                                      \
		.name = "kvm", .value = "PATH", .help = "the KVM device", .set = opt_set_text, \
		.offset = offsetof(type, field.kvm), .show = OPT_HIDDEN                        \
	}

#endif
