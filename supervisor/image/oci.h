/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oci.h - an image in OCI layout: a folder with index.json and blobs/sha256/
 *
 * index.json names a manifest (for linux/amd64, where there are several; an index may nest once), the
 * manifest its layers, bottom first.  Every blob is checked against its digest and size before a byte of
 * it is used.  Source: OCI image specification 1.0: image-layout, image-index, manifest, layer.
 */
#ifndef SPORE_SUPERVISOR_IMAGE_OCI_H
#define SPORE_SUPERVISOR_IMAGE_OCI_H

#include "supervisor/image/unpack.h"

#define OCI_JSON_MAX   (4u << 20)
#define OCI_LAYERS_MAX 512

/*
 * oci_unpack() - all layers, in order
 * Return: 0; -EBADMSG not a layout, damaged or hostile; -EFBIG; -errno.
 */
int oci_unpack(struct unpack *u, const char *path, struct errmsg *why);

#endif
