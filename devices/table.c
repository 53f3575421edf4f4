/* SPDX-License-Identifier: Apache-2.0 */
/* The one list of all devices. */
#include <stddef.h>

#include "devices/dev.h"
#include "devices/vrng.h"
#include "devices/vsock.h"

const struct dev_ops *const dev_table[] = {
	&vrng_ops,
	&vsock_ops,
	NULL,
};
