/* SPDX-License-Identifier: Apache-2.0 */
/* boot_cmdline.c - see boot_cmdline.h */
#include "vmm/boot_cmdline.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define INIT_SEPARATOR " -- "

int boot_cmdline_check(const char *text, size_t len, struct errmsg *why)
{
	if (len > LAYOUT_CMDLINE_MAX - 1)
		return err_set(why, 0, "kernel command line has %zu bytes, more than %u", len,
			       LAYOUT_CMDLINE_MAX - 1);
	for (size_t i = 0; i < len; i++)
		if (text[i] < 0x20 || text[i] > 0x7e)
			return err_set(why, 0,
				       "kernel command line has byte 0x%02x at %zu: only printable "
				       "ASCII may be there",
				       (unsigned char)text[i], i);
	return (int)len;
}

int boot_cmdline_init(struct boot_cmdline *line, const char *args, size_t len, struct errmsg *why)
{
	if (!args) {
		args = BOOT_CMDLINE_DEFAULT;
		len = strlen(args);
	}
	int err = boot_cmdline_check(args, len, why);
	if (err < 0)
		return err;
	memcpy(line->text, args, len);
	line->text[len] = '\0';
	line->len = len;
	const char *init = strstr(line->text, INIT_SEPARATOR);
	line->kernel_len = init ? (size_t)(init - line->text) : len;
	return 0;
}

/* Makes room for `len` bytes in front of the arguments for init, and puts `arg` there. */
static void cmdline_insert(struct boot_cmdline *line, const char *arg, size_t len)
{
	char *at = line->text + line->kernel_len;

	memmove(at + len, at, line->len - line->kernel_len + 1);
	memcpy(at, arg, len);
	line->len += len;
	line->kernel_len += len;
}

int boot_cmdline_add(struct boot_cmdline *line, struct errmsg *why, const char *fmt, ...)
{
	char arg[LAYOUT_CMDLINE_MAX] = " ";
	size_t skip = line->kernel_len ? 0 : 1; /* no space before the first argument */
	va_list ap;

	va_start(ap, fmt);
	int len = vsnprintf(arg + 1, sizeof(arg) - 1, fmt, ap);
	va_end(ap);
	assert(len >= 0);
	size_t need = (size_t)len + 1 - skip;
	if (line->len + need > LAYOUT_CMDLINE_MAX - 1)
		return err_set(why, 0, "kernel command line has %zu bytes, more than %u",
			       line->len + need, LAYOUT_CMDLINE_MAX - 1);
	int err = boot_cmdline_check(arg + skip, need, why);
	if (err < 0)
		return err;
	cmdline_insert(line, arg + skip, need);
	return 0;
}

int boot_cmdline_add_root(struct boot_cmdline *line, const char *partuuid, enum boot_root mode,
			  struct errmsg *why)
{
	const char *how = mode == BOOT_ROOT_RO ? "ro" : "rw";

	if (partuuid)
		return boot_cmdline_add(line, why, "root=PARTUUID=%s %s", partuuid, how);
	return boot_cmdline_add(line, why, "root=/dev/vda %s", how);
}

int boot_cmdline_add_virtio(struct boot_cmdline *line, unsigned index, struct errmsg *why)
{
	return boot_cmdline_add(line, why, "virtio_mmio.device=4K@0x%" PRIx64 ":%" PRIu32,
				layout_virtio_addr(index), layout_virtio_gsi(index));
}
