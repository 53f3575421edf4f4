/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/options.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

enum option_kind {
	OPT_FLAG,    /* bool */
	OPT_TEXT,    /* const char * */
	OPT_ID,      /* const char *, checked */
	OPT_NUMBER,  /* uint32_t within min..max */
	OPT_FD,      /* int, an open descriptor */
	OPT_KVM,     /* path or descriptor number */
	OPT_TIMINGS, /* flag with an optional text */
	OPT_REFUSED, /* Firecracker's, not ours yet: `help` says what instead */
};

struct option_row {
	const char *name, *arg;
	enum option_kind kind;
	size_t offset;
	uint32_t min, max;
	const char *help;
};

#define AT(field) offsetof(struct options, field)

static const struct option_row table[] = {
	{"--config-file", "FILE", OPT_TEXT, AT(config_file), 0, 0,
	 "machine, kernel and devices, in Firecracker's JSON format"},
	{"--no-api", NULL, OPT_FLAG, AT(no_api), 0, 0, "start the VM of --config-file at once"},
	{"--id", "ID", OPT_ID, AT(id), 0, 0, "name of the VM in messages [anonymous-instance]"},
	{"--boot-timer", NULL, OPT_FLAG, AT(boot_timer), 0, 0,
	 "stamp the time at which the guest writes 123 to 0xc0000000"},
	{"--timings", "[FILE]", OPT_TIMINGS, AT(timings_file), 0, 0,
	 "write the time of every phase as JSON to FILE [standard error]"},
	{"--console-fd", "N", OPT_FD, AT(console_fd), 0, 0,
	 "descriptor for the guest's console output [1]"},
	{"--console-in-fd", "N", OPT_FD, AT(console_in_fd), 0, 0,
	 "descriptor for the guest's console input [none]"},
	{"--console-log-fd", "N", OPT_FD, AT(console_log_fd), 0, 0,
	 "console log to write to instead of --console-fd: a ring in a file of fixed size"},
	{"--expire-ms", "MS", OPT_NUMBER, AT(expire_ms), 1, UINT32_MAX - 1,
	 "end the VM after so many milliseconds [never]"},
	{"--vsock-listen-fd", "N", OPT_FD, AT(vsock_listen_fd), 0, 0,
	 "listening unix socket to use instead of binding uds_path"},
	{"--ready-fd", "N", OPT_FD, AT(ready_fd), 0, 0,
	 "eventfd to signal when the guest knocks on --ready-port"},
	{"--ready-port", "PORT", OPT_NUMBER, AT(ready_port), 1, UINT32_MAX - 1,
	 "vsock port of the host that means: the guest is ready"},
	{"--net-fd", "N", OPT_FD, AT(net_fd), 0, 0,
	 "connected stream socket (passt) for the interface without host_dev_name"},
	{"--net-filter", NULL, OPT_FLAG, AT(net_filter), 0, 0,
	 "let frames out by --net-fd to public addresses only"},
	{"--net-private", NULL, OPT_FLAG, AT(net_private), 0, 0,
	 "with --net-filter: and to private networks"},
	{"--net-dns", "ADDR", OPT_TEXT, AT(net_dns), 0, 0,
	 "with --net-filter: and to UDP port 53 of this address"},
	{"--net-gateway", "ADDR", OPT_TEXT, AT(net_gateway), 0, 0,
	 "with --net-filter: and to this address"},
	{"--ctl-fd", "N", OPT_FD, AT(ctl_fd), 0, 0,
	 "listening control socket: pause, capture, load; the VM can be captured while it runs"},
	{"--empty", NULL, OPT_FLAG, AT(empty), 0, 0,
	 "build the VM of --config-file without kernel, memory and disks, and wait for a load"},
	{"--uffd-fd", "N", OPT_FD, AT(uffd_fd), 0, 0,
	 "with --empty: an open /dev/userfaultfd, so that memory may come from a pager [opened if "
	 "permitted]"},
	{"--kvm", "PATH|N", OPT_KVM, AT(kvm_path), 0, 0,
	 "KVM device, or the descriptor of an open one [/dev/kvm]"},
	{"--uid", "N", OPT_NUMBER, AT(uid), 1, UINT32_MAX - 1,
	 "user to become when started as root [65534]"},
	{"--gid", "N", OPT_NUMBER, AT(gid), 1, UINT32_MAX - 1,
	 "group to become when started as root [65534]"},
	{"--no-seccomp", NULL, OPT_FLAG, AT(no_seccomp), 0, 0,
	 "debugging only: no system call filters"},
	{"--no-sandbox", NULL, OPT_FLAG, AT(no_sandbox), 0, 0,
	 "debugging only: no namespaces, no Landlock, no change of user, no filters"},
	{"--version", NULL, OPT_FLAG, AT(version), 0, 0, "print the version"},
	{"--help", NULL, OPT_FLAG, AT(help), 0, 0, "print this text"},

	{"--api-sock", "PATH", OPT_REFUSED, 0, 0, 0, "it comes with the API; use --config-file"},
	{"--metadata", "FILE", OPT_REFUSED, 0, 0, 0, "there is no metadata service yet"},
	{"--log-path", "FILE", OPT_REFUSED, 0, 0, 0, "messages go to standard error"},
	{"--level", "LEVEL", OPT_REFUSED, 0, 0, 0, "messages go to standard error"},
	{"--metrics-path", "FILE", OPT_REFUSED, 0, 0, 0, "use --timings"},
	{"--seccomp-filter", "FILE", OPT_REFUSED, 0, 0, 0, "the filters are built in"},
	{"--enable-pci", NULL, OPT_REFUSED, 0, 0, 0, "devices are virtio-mmio"},
};

static void *field_at(struct options *opt, const struct option_row *row)
{
	return (char *)opt + row->offset;
}

static int parse_number(const char *text, uint32_t min, uint32_t max, uint32_t *out)
{
	char *end;

	if (!isdigit((unsigned char)*text))
		return -EINVAL;
	errno = 0;
	unsigned long long value = strtoull(text, &end, 10);
	if (errno || *end || value < min || value > max)
		return -EINVAL;
	*out = (uint32_t)value;
	return 0;
}

static int take_number(void *field, const struct option_row *row, const char *text,
		       struct errmsg *why)
{
	uint32_t value;

	if (parse_number(text, row->min, row->max, &value))
		return err_set(why, 0, "%s: '%s' is not a number from %u to %u", row->name, text,
			       row->min, row->max);
	memcpy(field, &value, sizeof(value));
	return 0;
}

static int take_fd(int *fd, const struct option_row *row, const char *text, struct errmsg *why)
{
	uint32_t value;

	if (parse_number(text, 0, INT32_MAX, &value))
		return err_set(why, 0, "%s: '%s' is not a descriptor number", row->name, text);
	if (fcntl((int)value, F_GETFD) < 0)
		return err_set(why, 0, "%s: descriptor %u is not open", row->name, value);
	*fd = (int)value;
	return 0;
}

static int take_id(const char **id, const struct option_row *row, const char *text,
		   struct errmsg *why)
{
	size_t len = strlen(text);

	if (len == 0 || len > OPTIONS_ID_MAX)
		return err_set(why, 0, "%s: %zu characters; 1 to %d are allowed", row->name, len,
			       OPTIONS_ID_MAX);
	for (const char *c = text; *c; c++)
		if (!isalnum((unsigned char)*c) && *c != '-')
			return err_set(why, 0, "%s: '%s' has more than letters, digits and '-'",
				       row->name, text);
	*id = text;
	return 0;
}

static int take_kvm(struct options *opt, const struct option_row *row, const char *text,
		    struct errmsg *why)
{
	if (isdigit((unsigned char)*text))
		return take_fd(&opt->kvm_fd, row, text, why);
	opt->kvm_path = text;
	return 0;
}

static int take_value(struct options *opt, const struct option_row *row, const char *text,
		      struct errmsg *why)
{
	if (!*text)
		return err_set(why, 0, "%s: the value is empty", row->name);
	switch (row->kind) {
	case OPT_NUMBER: return take_number(field_at(opt, row), row, text, why);
	case OPT_FD: return take_fd(field_at(opt, row), row, text, why);
	case OPT_ID: return take_id(field_at(opt, row), row, text, why);
	case OPT_KVM: return take_kvm(opt, row, text, why);
	default: *(const char **)field_at(opt, row) = text; return 0;
	}
}

static const struct option_row *row_find(const char *arg, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		if (strlen(table[i].name) == len && !strncmp(table[i].name, arg, len))
			return &table[i];
	return NULL;
}

/* Takes the option at argv[0].  Return: words used, or -EINVAL. */
static int take_option(struct options *opt, const struct option_row *row, char *const argv[],
		       struct errmsg *why)
{
	const char *equals = strchr(argv[0], '=');
	const char *value = equals ? equals + 1 : argv[1];
	int used = equals ? 1 : 2;

	if (row->kind == OPT_REFUSED)
		return err_set(why, 0, "%s is not supported yet: %s", row->name, row->help);
	if (row->kind == OPT_FLAG) {
		if (equals)
			return err_set(why, 0, "%s takes no value", row->name);
		*(bool *)field_at(opt, row) = true;
		return 1;
	}
	if (row->kind == OPT_TIMINGS) {
		opt->timings = true;
		if (!equals && (!value || value[0] == '-'))
			return 1;
	}
	if (!value)
		return err_set(why, 0, "%s needs a value: %s %s", row->name, row->name, row->arg);
	int err = take_value(opt, row, value, why);
	return err ? err : used;
}

static int options_check(const struct options *opt, struct errmsg *why)
{
	if (!opt->no_api)
		return err_set(why, 0,
			       "--no-api --config-file FILE is needed: the API over a "
			       "socket is not there yet");
	if (!opt->config_file)
		return err_set(why, 0, "--no-api needs --config-file FILE");
	if ((opt->ready_fd >= 0) != (opt->ready_port != 0))
		return err_set(why, 0, "--ready-fd and --ready-port go together");
	if (opt->empty && opt->ctl_fd < 0)
		return err_set(why, 0, "--empty needs --ctl-fd: nothing else could load the VM");
	if (opt->console_fd >= 0 && opt->console_log_fd >= 0)
		return err_set(why, 0, "--console-fd and --console-log-fd exclude each other");
	if (opt->uffd_fd >= 0 && !opt->empty)
		return err_set(why, 0,
			       "--uffd-fd needs --empty: only what is loaded comes from a pager");
	return 0;
}

int options_parse(int argc, char *const argv[], struct options *out, struct errmsg *why)
{
	struct options opt = {
		.kvm_path = "/dev/kvm",
		.id = "anonymous-instance",
		.kvm_fd = -1,
		.vsock_listen_fd = -1,
		.ready_fd = -1,
		.ctl_fd = -1,
		.uffd_fd = -1,
		.console_fd = -1,
		.console_in_fd = -1,
		.net_fd = -1,
		.console_log_fd = -1,
	};
	bool seen[ARRAY_LEN(table)] = {false};

	for (int i = 1; i < argc;) {
		const struct option_row *row = row_find(argv[i], strcspn(argv[i], "="));
		if (!row)
			return err_set(why, 0, "unknown option '%s' (see --help)", argv[i]);
		if (seen[row - table])
			return err_set(why, 0, "%s was given twice", row->name);
		seen[row - table] = true;
		int used = take_option(&opt, row, argv + i, why);
		if (used < 0)
			return used;
		i += used;
	}
	int err = opt.help || opt.version ? 0 : options_check(&opt, why);
	if (!err)
		*out = opt;
	return err;
}

void options_help(FILE *to)
{
	fprintf(to, "spore-vmm: run one virtual machine\n\n"
		    "usage: spore-vmm --no-api --config-file FILE [OPTION]...\n\n");
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		const struct option_row *row = &table[i];
		int len = row->kind == OPT_REFUSED
				  ? 0
				  : fprintf(to, "  %s %s", row->name, row->arg ? row->arg : "");
		if (len > 0)
			fprintf(to, "%*s%s\n", len < 26 ? 26 - len : 1, "", row->help);
	}
	fprintf(to,
		"\nExit status: 0 the guest ended, 1 an error, 148 a system call outside the "
		"filter,\n%d bad configuration, %d bad arguments.\n",
		EXIT_STATUS_BAD_CONFIG, EXIT_STATUS_BAD_ARGUMENTS);
}

/* A leading or inner '-' is an option's minus sign in man(7), not a hyphen. */
static void man_text(FILE *to, const char *text)
{
	for (; *text; text++) {
		if (*text == '-')
			fputc('\\', to);
		fputc(*text, to);
	}
}

void options_man(FILE *to)
{
	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		if (table[i].kind == OPT_REFUSED)
			continue;
		fputs(".TP\n.B ", to);
		man_text(to, table[i].name);
		if (table[i].arg)
			fprintf(to, " \\fI%s\\fR", table[i].arg);
		fputc('\n', to);
		man_text(to, table[i].help);
		fputc('\n', to);
	}
}
