/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file: any bytes are either refused with a text or give a configuration in bounds. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "vmm/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config cfg = {0};
	struct errmsg why = {.text = ""};

	int err = config_parse(&cfg, (const char *)data, size, &why);
	if (err) {
		assert(err < 0);
		assert(why.text[0]);
		assert(!cfg.kernel_path);
		return 0;
	}
	assert(cfg.kernel_path && cfg.kernel_path[0]);
	assert(cfg.vcpu_count >= 1 && cfg.vcpu_count <= VMM_CPUS_MAX);
	assert(cfg.mem_size_mib >= VMM_MEM_MIB_MIN && cfg.mem_size_mib <= VMM_MEM_MIB_MAX);
	assert(cfg.drive_count <= VMM_DRIVES_MAX);
	for (uint32_t i = 0; i < cfg.drive_count; i++)
		assert(cfg.drive[i].id[0] && cfg.drive[i].path[0] &&
		       (i == 0 || !cfg.drive[i].is_root));
	assert(!cfg.has_vsock || cfg.guest_cid >= CONFIG_CID_MIN);
	config_free(&cfg);
	return 0;
}
