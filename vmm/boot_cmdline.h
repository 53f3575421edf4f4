/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_cmdline.h - the kernel command line, built in a fixed buffer
 *
 * The user's text may hold arguments for init behind " -- "; what the VMM adds goes in front of that.
 * Bytes outside 0x20..0x7e are refused: the kernel would cut or garble them.
 * Thread: ctl.
 */
#ifndef SPORE_VMM_BOOT_CMDLINE_H
#define SPORE_VMM_BOOT_CMDLINE_H

#include <stddef.h>

#include "base/err.h"
#include "vmm/layout.h"

/* What a kernel gets when the configuration names no boot arguments: Firecracker's default. */
#define BOOT_CMDLINE_DEFAULT                                                 \
	"reboot=k panic=1 nomodule 8250.nr_uarts=0 i8042.noaux i8042.nomux " \
	"i8042.dumbkbd swiotlb=noforce"

struct boot_cmdline {
	char text[LAYOUT_CMDLINE_MAX]; /* always NUL-terminated */
	size_t len;                    /* without the NUL */
	size_t kernel_len;             /* where " -- " begins, or len */
};

/*
 * boot_cmdline_init() - start from the user's text, or from the default when `args` is NULL
 * @len: bytes of `args`; a NUL among them is refused like any other control byte
 * Return: 0; -EINVAL with the text "kernel command line ..." in *why.
 */
int boot_cmdline_init(struct boot_cmdline *line, const char *args, size_t len, struct errmsg *why)
	__attribute__((warn_unused_result));

/*
 * boot_cmdline_add() - append one argument for the kernel, printf-like, separated by a space
 * Return: 0; -EINVAL too long or not printable; the line is unchanged then.
 */
int boot_cmdline_add(struct boot_cmdline *line, struct errmsg *why, const char *fmt, ...)
	__attribute__((warn_unused_result, format(printf, 3, 4)));

/*
 * boot_cmdline_check() - the rules for a finished line
 * Return: its length, or -EINVAL with the reason.
 */
int boot_cmdline_check(const char *text, size_t len, struct errmsg *why)
	__attribute__((warn_unused_result));

enum boot_root { BOOT_ROOT_RW, BOOT_ROOT_RO };
/* root=/dev/vda, or root=PARTUUID=... when `partuuid` is not NULL; then ro or rw. */
int boot_cmdline_add_root(struct boot_cmdline *line, const char *partuuid, enum boot_root mode,
			  struct errmsg *why) __attribute__((warn_unused_result));

/* virtio_mmio.device=4K@ADDR:GSI of device `index`: for guests booted without ACPI. */
int boot_cmdline_add_virtio(struct boot_cmdline *line, unsigned index, struct errmsg *why)
	__attribute__((warn_unused_result));

#endif
