/* SPDX-License-Identifier: Apache-2.0 */
/*
 * files.h - where the VMM, the guest's kernel and the agent's initramfs are
 *
 * Each file is looked for in this order: what the caller names, its environment variable, beside the
 * running executable (a build tree: spore-vmm, guest/vmlinux, guest/agent.cpio), and PREFIX/lib/spore of
 * an executable in PREFIX/bin.  The first that is named or exists wins; one that was named must exist.
 *
 * Thread: any; no globals.
 */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_FILES_H
#define SPORE_SUPERVISOR_LIFECYCLE_FILES_H

#include "base/err.h"

#define LIFE_PATH_MAX 4096

enum life_file {
	LIFE_FILE_VMM,    /* SPORE_VMM */
	LIFE_FILE_KERNEL, /* SPORE_KERNEL */
	LIFE_FILE_INITRD, /* SPORE_INITRD */
	LIFE_FILE_BASE,   /* SPORE_IMAGE: the base image of a build tree */
	LIFE_FILE_RECIPE, /* SPORE_RECIPE: the script that makes an image */
};

/*
 * life_file_find() - one file
 * @named: the caller's wish, or NULL
 * @out:   LIFE_PATH_MAX bytes
 * Return: 0; -errno with the name and what to do in *why.
 */
int life_file_find(enum life_file file, const char *named, char *out, struct errmsg *why);

struct life_files {
	char vmm[LIFE_PATH_MAX], kernel[LIFE_PATH_MAX], initrd[LIFE_PATH_MAX];
};

/* All that a VM needs besides an image, by the rules alone. */
int life_files_find(struct life_files *out, struct errmsg *why);

/*
 * life_check_kernel(), life_check_image(), life_check_initrd() - look at a file before a VM is started for it
 * So that the common mistakes get a sentence about the file rather than a guest that does not boot.
 * An image that is shorter than its superblock says is refused too.
 * Return: 0; -EINVAL, -EISDIR, -errno of open.
 */
int life_check_kernel(const char *path, struct errmsg *why);
int life_check_initrd(const char *path, struct errmsg *why);
int life_check_image(const char *path, struct errmsg *why);

#endif
