/* SPDX-License-Identifier: Apache-2.0 */
/* The one list of all devices. */
#include <stddef.h>

#include "devices/dev.h"
#include "devices/vballoon.h"
#include "devices/vblk.h"
#include "devices/vnet.h"
#include "devices/vrng.h"
#include "devices/vsock.h"

const struct dev_ops *const dev_table[] = {
	&vblk_ops, &vrng_ops, &vsock_ops, &vballoon_ops, &vnet_ops, NULL,
};
