/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cli/wake.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "supervisor/agentc/agentc.h"
#include "supervisor/cli/watch.h"
#include "supervisor/lifecycle/files.h"
#include "supervisor/lifecycle/load.h"

#define STEP_MS        20
#define MACHINE_ID_LEN 16 /* bytes; twice as many hex digits */

int wake_start(struct life_vm **out, const struct box *box, struct errmsg *why)
{
	const struct box_meta *meta = &box->meta;
	bool expires = meta->on_timeout == BOX_TIMEOUT_KILL;
	const struct life_home home = {.fd = box->fd,
				       .expire_ms = expires ? (uint32_t)meta->timeout_ms : 0};
	const char *kvm = getenv("SPORE_KVM");
	char vmm[LIFE_PATH_MAX];
	struct life_config cfg = {
		.vmm = vmm,
		.kernel = meta->kernel,
		.initrd = meta->initrd,
		.image = meta->image,
		.kvm = kvm && *kvm ? kvm : NULL,
		.cpus = meta->cpus,
		.memory_mib = meta->memory_mib,
		.console_copy_fd = -1,
		.empty = true,
		.home = &home,
	};

	int err = life_file_find(LIFE_FILE_VMM, NULL, vmm, why);
	return err ? err : life_vm_start(out, &cfg, why);
}

static int new_machine_id(char out[static 2 * MACHINE_ID_LEN + 1])
{
	uint8_t id[MACHINE_ID_LEN];

	if (getrandom(id, sizeof(id), 0) != sizeof(id))
		return -EIO;
	for (unsigned i = 0; i < sizeof(id); i++)
		snprintf(out + 2 * i, 3, "%02x", id[i]);
	return 0;
}

/* The guest takes the reset of its vsock before it takes connections: the first tries may fail. */
int wake_finish(struct life_vm *vm, const struct box *box, enum wake_as as, struct errmsg *why)
{
	struct agentc at = agentc_vsock(life_vm_socket(vm));
	char machine_id[2 * MACHINE_ID_LEN + 1] = "";
	const char *name = *box->meta.name ? box->meta.name : box->meta.id;
	struct agentc_wake wake = {.hostname = as == WAKE_CLONE ? name : NULL,
				   .machine_id = machine_id};
	uint64_t deadline = clock_now() + WAKE_LIMIT_MS * NS_PER_MS;
	struct agentc_woke woke;
	int err = as == WAKE_CLONE ? new_machine_id(machine_id) : 0;

	if (err)
		return err_set(why, err, "machine id");
	while ((err = agentc_wake(&at, &wake, &woke, why)) != 0 && clock_now() < deadline) {
		if (life_vm_wait(vm, STEP_MS) == LIFE_ENDED)
			return err_set(why, ESRCH, "the VM ended");
		poll(NULL, 0, STEP_MS);
	}
	return err;
}

int wake_enter(struct life_vm *vm, struct box *box, const struct state *st, struct errmsg *why)
{
	const struct box_meta *meta = &box->meta;

	box->meta.deadline_s =
		meta->timeout_ms ? time(NULL) + (int64_t)(meta->timeout_ms / 1000) : 0;
	int err = box_enter(box, BOX_RUNNING, why);
	if (err)
		return err;
	life_vm_keep(vm);
	watch_start(box, st);
	return 0;
}

int wake_folder(struct life_vm **out, struct box *box, const struct state *st, enum wake_as as,
		struct errmsg *why)
{
	int err = wake_start(out, box, why);

	if (!err)
		err = life_load_folder(box->fd, box->meta.image, CTL_LOAD_CLONE, why);
	if (!err)
		err = wake_finish(*out, box, as, why);
	return err ? err : wake_enter(*out, box, st, why);
}
