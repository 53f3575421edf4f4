/* SPDX-License-Identifier: Apache-2.0 */
/*
 * doctor.h - what this machine can do
 *
 * Each check is a row: it tries the thing itself (a system call, a tiny guest) rather than a version
 * number, and says what was found; the row says what is lost without it and how to get it.
 *
 * Thread: main.
 */
#ifndef SPORE_SUPERVISOR_CLI_DOCTOR_H
#define SPORE_SUPERVISOR_CLI_DOCTOR_H

#include "vmm/libvmm.h"

enum doctor_status {
	DOCTOR_OK,
	DOCTOR_DEGRADED, /* Spore works, something is slower or absent */
	DOCTOR_MISSING,
};

struct doctor_finding {
	enum doctor_status status;
	char found[256];
};

struct doctor_check {
	const char *name; /* stable: key in JSON */
	/* Fills *out; has no effect that outlives it. */
	void (*check)(struct doctor_finding *out);
	const char *lost; /* without it */
	const char *how;  /* to get it */
};

extern const struct doctor_check doctor_kernel_checks[]; /* ended by a NULL name */
extern const struct doctor_check doctor_host_checks[];

void doctor_found(struct doctor_finding *out, enum doctor_status status, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* "usable", "interpreting" (runs guests, not Linux), "denied", "absent" or "broken". */
const char *doctor_kvm_flavour(const struct vmm_probe *probe);

/* Why `run` refuses this KVM: a sentence that names the way out.  NULL: usable. */
const char *doctor_kvm_refusal(const struct vmm_probe *probe);

#endif
