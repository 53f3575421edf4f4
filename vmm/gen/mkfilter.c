/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkfilter - rules.h to constant BPF programs, at build time
 *
 * libseccomp sorts each role's calls into a binary tree; what comes out is a header with one array a
 * role, which sandbox_seccomp.c hands to the kernel.  The VMM itself links no libseccomp.
 * Writes the header to standard output.
 */
#include <linux/filter.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vmm/gen/rules.h"

#define COUNT(a)      (sizeof(a) / sizeof((a)[0]))
#define PROGRAM_MAX   4096 /* instructions; the kernel's BPF_MAXINSNS */
#define OPTIMIZE_TREE 2

static void must(int err, const char *what)
{
	if (err < 0) {
		fprintf(stderr, "mkfilter: %s: error %d\n", what, err);
		exit(1);
	}
}

static void add_rule(scmp_filter_ctx ctx, const struct rule *rule)
{
	struct scmp_arg_cmp cmp[COUNT(rule->arg)];
	unsigned count = 0;

	for (size_t i = 0; i < COUNT(rule->arg); i++)
		if (rule->arg[i].mask)
			cmp[count++] = (struct scmp_arg_cmp){
				.arg = rule->arg[i].index,
				.op = SCMP_CMP_MASKED_EQ,
				.datum_a = rule->arg[i].mask,
				.datum_b = rule->arg[i].value,
			};
	must(seccomp_rule_add_exact_array(ctx, SCMP_ACT_ALLOW, rule->nr, count, cmp), rule->name);
}

static void print_program(scmp_filter_ctx ctx, const char *name)
{
	static struct sock_filter program[PROGRAM_MAX];
	FILE *file = tmpfile();

	if (!file)
		must(-1, "tmpfile");
	must(seccomp_export_bpf(ctx, fileno(file)), "export");
	rewind(file);
	size_t count = fread(program, sizeof(program[0]), PROGRAM_MAX, file);
	fclose(file);
	if (count == 0)
		must(-1, "empty program");
	printf("\nstatic const struct sock_filter filter_%s[%zu] = {\n", name, count);
	for (size_t i = 0; i < count; i++)
		printf("\t{0x%02x, %u, %u, 0x%08x},\n", program[i].code, program[i].jt,
		       program[i].jf, program[i].k);
	printf("};\n");
}

static void make_role(unsigned role, const char *name)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);

	if (!ctx)
		must(-1, "init");
	must(seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), "architecture");
	must(seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, OPTIMIZE_TREE), "optimize");
	for (size_t i = 0; i < COUNT(rules); i++)
		if (rules[i].roles & role)
			add_rule(ctx, &rules[i]);
	print_program(ctx, name);
	seccomp_release(ctx);
}

int main(void)
{
	printf("/* Made by vmm/gen/mkfilter.c from vmm/gen/rules.h: change those. */\n");
	make_role(CTL, "ctl");
	make_role(IO, "io");
	make_role(VCPU, "vcpu");
	return fflush(stdout) ? 1 : 0;
}
