/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack.h - archives into a folder, as layers
 *
 * The archive is hostile.  Every path is resolved beneath the folder as if the folder were "/"
 * (openat2 RESOLVE_IN_ROOT): a link in the image may lead anywhere inside it and nowhere else.  Names with
 * ".." are refused.  Device nodes and sockets are left out: the guest's kernel makes its own devices.
 *
 * OCI whiteouts: `.wh.NAME` removes NAME, `.wh..wh..opq` empties a folder; both speak of the layers
 * below only, so they are applied first, in a pass of their own, whatever their place in the archive.
 *
 * Owners are kept where this process may set them; where it may not, they are counted as lost.
 *
 * Thread: any; no globals.
 */
#ifndef SPORE_SUPERVISOR_IMAGE_UNPACK_H
#define SPORE_SUPERVISOR_IMAGE_UNPACK_H

#include <stdint.h>

#include "base/err.h"

#define UNPACK_ENTRIES_MAX 4000000u
#define UNPACK_PATH_MAX    4096

struct unpack {
	int root; /* the folder */
	uint64_t bytes_left, entries_left;
	/* out */
	uint64_t owners_lost, attributes_lost, left_out;
};

enum unpack_kind { UNPACK_TAR, UNPACK_LAYER /* with whiteouts */ };

/*
 * unpack_archive() - one archive over what the folder already holds
 * @fd: a regular file, read from its start; any compression that libarchive knows
 * Return: 0; -EBADMSG no archive, or a damaged or hostile one; -EFBIG over the bounds; -errno.
 */
int unpack_archive(struct unpack *u, int fd, enum unpack_kind kind, struct errmsg *why);

#endif
