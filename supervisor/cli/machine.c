/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/cli/machine.h"

#include <stdlib.h>

#include "base/clock.h"
#include "supervisor/cli/command.h"
#include "supervisor/cli/doctor.h"
#include "supervisor/cli/report.h"
#include "supervisor/cli/signals.h"
#include "supervisor/cli/term.h"

#define MEMORY_MIB      512
#define BOOT_TIMEOUT_MS 60000
#define BOOT_TICK_MS    200

static int find_files(struct machine *m, struct errmsg *why)
{
	const struct machine_args *a = m->args;
	int err = life_file_find(LIFE_FILE_VMM, a->vmm, m->files.vmm, why);

	if (!err)
		err = life_file_find(LIFE_FILE_KERNEL, a->kernel, m->files.kernel, why);
	if (!err)
		err = life_check_kernel(m->files.kernel, why);
	if (!err)
		err = life_file_find(LIFE_FILE_INITRD, a->initrd, m->files.initrd, why);
	if (!err)
		err = life_check_initrd(m->files.initrd, why);
	if (!err)
		err = store_resolve(a->image ? a->image : STORE_DEFAULT_IMAGE, m->image, why);
	return err ? err : life_check_image(m->image, why);
}

static int check_kvm(struct machine *m, struct errmsg *why)
{
	const char *chosen = m->args->kvm ? m->args->kvm : getenv("SPORE_KVM");
	struct vmm_probe probe;

	m->kvm = chosen && *chosen ? chosen : NULL;
	if (m->args->force_kvm)
		return 0;
	vmm_probe(m->kvm ? m->kvm : "/dev/kvm", VMM_PROBE_QUICK, &probe);
	const char *refusal = doctor_kvm_refusal(&probe);
	return refusal ? err_set(why, 0, "%s", refusal) : 0;
}

int machine_find(struct machine *out, const struct machine_args *args, struct errmsg *why)
{
	out->args = args;
	int err = find_files(out, why);
	return err ? err : check_kvm(out, why);
}

struct life_config machine_config(const struct machine *machine)
{
	const struct machine_args *a = machine->args;

	return (struct life_config){
		.vmm = machine->files.vmm,
		.kernel = machine->files.kernel,
		.initrd = machine->files.initrd,
		.image = machine->image,
		.kvm = machine->kvm,
		.cpus = a->cpus ? a->cpus : 1,
		.memory_mib = a->memory_mib ? a->memory_mib : MEMORY_MIB,
		.console_copy_fd = -1,
	};
}

int machine_boot(const struct machine *machine, struct life_vm *vm, const char *command)
{
	uint64_t chosen = machine->args->boot_timeout_ms;
	uint64_t limit_ms = chosen ? chosen : BOOT_TIMEOUT_MS;
	uint64_t deadline = clock_now() + limit_ms * NS_PER_MS;
	struct progress progress = progress_begin("starting the VM");
	int event;

	do {
		event = life_vm_wait(vm, BOOT_TICK_MS);
		progress_tick(&progress, 0);
	} while (event == LIFE_TIME && clock_now() < deadline);
	progress_end(&progress);
	if (event == LIFE_READY)
		return -1;
	if (signals_fatal())
		return CLI_INTERRUPTED;
	return report_boot(command, vm, (enum life_event)event, limit_ms);
}
