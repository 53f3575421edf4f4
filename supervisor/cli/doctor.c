/* SPDX-License-Identifier: Apache-2.0 */
/* spore doctor: KVM first, because it decides, then the tables of checks. */
#include "supervisor/cli/doctor.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "supervisor/cli/cmd_run.h"
#include "supervisor/cli/command.h"

#define NAME_COLUMNS 16

const struct opt doctor_options[] = {
	{.name = "json",
	 .help = "print one JSON object",
	 .set = opt_set_flag,
	 .offset = offsetof(struct doctor_args, json)},
	{.name = "kvm",
	 .value = "PATH",
	 .help = "the KVM device",
	 .set = opt_set_text,
	 .offset = offsetof(struct doctor_args, kvm),
	 .show = OPT_HIDDEN},
	{.name = NULL},
};

static const char *const status_name[] = {"ok", "degraded", "missing"};

void doctor_found(struct doctor_finding *out, enum doctor_status status, const char *fmt, ...)
{
	va_list ap;

	out->status = status;
	va_start(ap, fmt);
	vsnprintf(out->found, sizeof(out->found), fmt, ap);
	va_end(ap);
}

const char *doctor_kvm_flavour(const struct vmm_probe *probe)
{
	if (probe->usable)
		return "usable";
	if (probe->permission_denied)
		return "denied";
	if (!probe->opens)
		return "absent";
	return probe->runs_guest ? "interpreting" : "broken";
}

static const struct kvm_advice {
	const char *flavour, *refusal, *how;
} kvm_advice[] = {
	{"denied", "no permission to open /dev/kvm: join the group kvm (see 'spore doctor')",
	 "as root: adduser USER kvm, then log in again"},
	{"absent",
	 "there is no /dev/kvm on this machine: Linux guests cannot run (see 'spore doctor')",
	 "switch on virtualization in the firmware, load kvm_intel or kvm_amd; in a VM: nested "
	 "virtualization"},
	{"interpreting",
	 "this /dev/kvm cannot run Linux guests: it interprets them (see 'spore doctor'; "
	 "--force-kvm tries anyway)",
	 "a machine whose KVM is VMX or SVM; a tree of Spore has a lab in software: tests/lab/run"},
	{"broken", "this /dev/kvm does not work (see 'spore doctor'; --force-kvm tries anyway)",
	 "see the kernel's log"},
};

static const struct kvm_advice *advice(const struct vmm_probe *probe)
{
	const char *flavour = doctor_kvm_flavour(probe);

	for (size_t i = 0; i < ARRAY_LEN(kvm_advice); i++)
		if (!strcmp(kvm_advice[i].flavour, flavour))
			return &kvm_advice[i];
	return NULL;
}

const char *doctor_kvm_refusal(const struct vmm_probe *probe)
{
	return probe->usable ? NULL : advice(probe)->refusal;
}

static struct doctor_check kvm_check(const struct vmm_probe *probe)
{
	return (struct doctor_check){
		.name = "kvm",
		.lost = "Linux guests cannot run",
		.how = probe->usable ? "" : advice(probe)->how,
	};
}

static void print_line(const struct doctor_check *check, const struct doctor_finding *f)
{
	printf("%-9s %-*s %s\n", status_name[f->status], NAME_COLUMNS, check->name, f->found);
	if (f->status == DOCTOR_OK)
		return;
	printf("%*s without: %s\n", NAME_COLUMNS + 10, "", check->lost);
	printf("%*s to get it: %s\n", NAME_COLUMNS + 10, "", check->how);
}

static void add_json(json_t *list, const struct doctor_check *check, const struct doctor_finding *f)
{
	json_array_append_new(list, json_pack("{ss ss ss ss ss}", "name", check->name, "status",
					      status_name[f->status], "found", f->found, "lost",
					      f->status ? check->lost : "", "how",
					      f->status ? check->how : ""));
}

/* @list: NULL: print. */
static void report(json_t *list, const struct doctor_check *check, const struct doctor_finding *f)
{
	if (list)
		add_json(list, check, f);
	else
		print_line(check, f);
}

static void run_checks(json_t *list, const struct doctor_check *checks)
{
	for (; checks->name; checks++) {
		struct doctor_finding found = {.found = ""};
		checks->check(&found);
		report(list, checks, &found);
	}
}

static json_t *kvm_json(const struct vmm_probe *p)
{
	return json_pack("{ss sb sb sb sb si sI sI}", "flavour", doctor_kvm_flavour(p), "opens",
			 p->opens, "runs_guest", p->runs_guest, "syscall_works", p->syscall_works,
			 "usable", p->usable, "api_version", p->api_version, "cpl0_instructions",
			 (json_int_t)p->cpl0_instructions, "cpl0_ns", (json_int_t)p->cpl0_ns);
}

static void print_json(json_t *list, const struct vmm_probe *probe)
{
	json_t *root = json_pack("{ss sb so so}", "version", SPORE_VERSION, "usable", probe->usable,
				 "kvm", kvm_json(probe), "checks", list);

	json_dumpf(root, stdout, JSON_INDENT(2));
	putchar('\n');
	json_decref(root);
}

int cmd_doctor(void *config, int argc, char **argv)
{
	const struct doctor_args *args = config;
	const char *kvm = args->kvm ? args->kvm : getenv("SPORE_KVM");
	struct doctor_finding found = {.found = ""};
	struct vmm_probe probe;
	json_t *list = args->json ? json_array() : NULL;

	(void)argc, (void)argv;
	vmm_probe(kvm ? kvm : "/dev/kvm", VMM_PROBE_FULL, &probe);
	struct doctor_check check = kvm_check(&probe);
	doctor_found(&found, probe.usable ? DOCTOR_OK : DOCTOR_MISSING, "%s", probe.text);
	report(list, &check, &found);
	run_checks(list, doctor_kernel_checks);
	run_checks(list, doctor_host_checks);
	if (list)
		print_json(list, &probe);
	else
		printf("\nLinux guests %s on this machine.\n",
		       probe.usable ? "can run" : "cannot run");
	return probe.usable ? CLI_OK : CLI_NO;
}
