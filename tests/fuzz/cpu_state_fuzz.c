/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's and a vCPU's section from a file: any bytes for both, the hash of the CPUID entries made right
 * so that what lies behind it is reached.  Input: 104 bytes of struct snap_machine, then the vCPU's.
 */
#include <stdint.h>
#include <string.h>

#include "tests/unit/cpu_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sign(struct snap_machine *m, const uint8_t *vcpu, size_t len)
{
	struct snap_vcpu head;
	struct snap_list list;

	if (len < sizeof(head))
		return;
	memcpy(&head, vcpu, sizeof(head));
	size_t at = sizeof(head) + (size_t)head.xsave_len;
	if (at > len || len - at < sizeof(list))
		return;
	memcpy(&list, vcpu + at, sizeof(list));
	at += sizeof(list);
	if (list.count <= (len - at) / sizeof(struct snap_cpuid))
		m->cpuid_hash = fnv1a(vcpu + at, list.count * sizeof(struct snap_cpuid));
}

static void check(struct fix_host *host, const struct snap_out *out)
{
	const struct vm_shape shape = fix_shape();
	struct snap_in in;
	struct vm_load load;
	struct errmsg why;

	if (snap_in_open(&in, out->buf, out->len, &why))
		return;
	if (machine_check_vm(&host->vm, &host->vcpu, &shape, VM_CLOCK_PASSED, &in, &load, &why))
		return;
	if (vcpu_check(&host->vm, &host->vcpu, &load, &in, &why))
		return;
	machine_load_begin(&load);
	volatile uint64_t passed =
		tsc_passed(&host->vm, &host->vcpu, &load, load.saved.host_tsc_khz);
	(void)passed;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fix_host host;
	struct snap_out out;

	if (size < sizeof(struct snap_machine) || snap_out_init(&out))
		return 0;
	fix_host_init(&host);
	size_t rest = size - sizeof(struct snap_machine);
	struct snap_machine *m = snap_put(&out, SNAP_MACHINE, SNAP_MACHINE_VERSION, 0, sizeof(*m));
	memcpy(m, data, sizeof(*m));
	sign(m, data + sizeof(*m), rest);
	uint8_t *vcpu = snap_put(&out, SNAP_VCPU, SNAP_VCPU_VERSION, 0, rest);
	if (vcpu && rest)
		memcpy(vcpu, data + sizeof(*m), rest);
	if (!snap_out_finish(&out, NULL))
		check(&host, &out);
	fix_host_free(&host);
	snap_out_free(&out);
	return 0;
}
