/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each section is a table of fields: name, kind, bounds, where it goes.  One walk compares an object
 * with its table in both directions (every key is known, every required field is there), so a field
 * that no table names cannot slip through.  What spans fields is checked behind the walk.
 */
#include "vmm/config.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "vmm/config_int.h"

#define PATH_LEN_MAX (PATH_MAX - 1)
#define UDS_LEN_MAX  (sizeof(((struct sockaddr_un *)0)->sun_path) - sizeof(CONFIG_UDS_SUFFIX))

static const char *const words_none[] = {"None", NULL};
static const char *const words_cache[] = {"Unsafe", "Writeback", NULL};
static const char *const words_engine[] = {"Sync", "Async", NULL};

#define AT(member) offsetof(struct config, member)
static const struct field boot_fields[] = {
	{"kernel_image_path", FIELD_TEXT, true, AT(kernel_path), 1, PATH_LEN_MAX, NULL, NULL},
	{"initrd_path", FIELD_TEXT, false, AT(initrd_path), 1, PATH_LEN_MAX, NULL, NULL},
	{"boot_args", FIELD_TEXT, false, AT(boot_args), 0, CONFIG_ARGS_MAX, NULL, NULL},
};
static const struct field machine_fields[] = {
	{"vcpu_count", FIELD_UINT, true, AT(vcpu_count), 1, VMM_CPUS_MAX, NULL, NULL},
	{"mem_size_mib", FIELD_UINT, true, AT(mem_size_mib), VMM_MEM_MIB_MIN, VMM_MEM_MIB_MAX, NULL,
	 NULL},
	{"smt", FIELD_BOOL, false, AT(smt), 0, 0, NULL, NULL},
	{"track_dirty_pages", FIELD_BOOL, false, AT(track_dirty_pages), 0, 0, NULL, NULL},
	{"huge_pages", FIELD_WORD, false, AT(huge_pages), 0, 0, words_none, NULL},
	{"cpu_template", FIELD_WORD, false, AT(cpu_template), 0, 0, words_none, NULL},
};
static const struct field vsock_fields[] = {
	{"guest_cid", FIELD_UINT, true, AT(guest_cid), CONFIG_CID_MIN, CONFIG_CID_MAX, NULL, NULL},
	{"uds_path", FIELD_TEXT, true, AT(uds_path), 1, UDS_LEN_MAX, NULL, NULL},
	{"vsock_id", FIELD_TEXT, false, AT(vsock_id), 1, CONFIG_ID_MAX, NULL, NULL},
};
static const struct field balloon_fields[] = {
	{"amount_mib", FIELD_UINT, true, AT(balloon_mib), 0, VMM_MEM_MIB_MAX, NULL, NULL},
	{"deflate_on_oom", FIELD_BOOL, true, AT(balloon_on_oom), 0, 0, NULL, NULL},
	{"stats_polling_interval_s", FIELD_UINT, false, AT(balloon_stats_s), 0, CONFIG_STATS_S_MAX,
	 NULL, NULL},
	{"free_page_reporting", FIELD_BOOL, false, AT(balloon_reporting), 0, 0, NULL, NULL},
	{"free_page_hinting", FIELD_BOOL, false, AT(balloon_hinting), 0, 0, NULL, NULL},
};
static const struct field entropy_fields[] = {
	{"rate_limiter", FIELD_REFUSED, false, 0, 0, 0, NULL,
	 "the entropy device has its own bounds; leave it out"},
};
#undef AT
#define AT(member) offsetof(struct config_drive, member)
static const struct field drive_fields[] = {
	{"drive_id", FIELD_TEXT, true, AT(id), 1, CONFIG_ID_MAX, NULL, NULL},
	{"is_root_device", FIELD_BOOL, true, AT(is_root), 0, 0, NULL, NULL},
	{"path_on_host", FIELD_TEXT, true, AT(path), 1, PATH_LEN_MAX, NULL, NULL},
	{"is_read_only", FIELD_BOOL, false, AT(is_read_only), 0, 0, NULL, NULL},
	{"overlay_path", FIELD_TEXT, false, AT(overlay_path), 1, PATH_LEN_MAX, NULL, NULL},
	{"partuuid", FIELD_TEXT, false, AT(partuuid), 1, CONFIG_ID_MAX, NULL, NULL},
	{"cache_type", FIELD_WORD, false, AT(cache), 0, 0, words_cache, NULL},
	{"io_engine", FIELD_WORD, false, AT(io_engine), 0, 0, words_engine, NULL},
	{"rate_limiter", FIELD_LIMITER, false, AT(limit), 0, 0, NULL, NULL},
	{"socket", FIELD_REFUSED, false, 0, 0, 0, NULL,
	 "vhost-user drives are not supported; use path_on_host"},
};
#undef AT

/* A value as JSON text in ASCII, cut to QUOTE_MAX: safe to print whatever the file holds. */
const char *config_quote(const json_t *value, char out[static QUOTE_MAX])
{
	cleanup_free char *text =
		json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII);
	size_t len = text ? strlen(text) : 0;

	if (len < QUOTE_MAX) {
		memcpy(out, text ? text : "?", len + (text ? 1 : 2));
	} else {
		memcpy(out, text, QUOTE_MAX - 4);
		memcpy(out + QUOTE_MAX - 4, "...", 4);
	}
	return out;
}

static const char *quote_key(const char *key, char out[static QUOTE_MAX])
{
	json_t *text = json_string(key);
	config_quote(text, out);
	json_decref(text);
	return out;
}

static int take_text(char **out, const struct field *field, const json_t *value, const char *where,
		     struct errmsg *why)
{
	char shown[QUOTE_MAX];

	if (!json_is_string(value))
		return err_set(why, 0, "%s.%s: expected a string, got %s", where, field->name,
			       config_quote(value, shown));
	size_t len = json_string_length(value);
	if (len < field->min)
		return err_set(why, 0, "%s.%s: is empty", where, field->name);
	if (len > field->max)
		return err_set(why, 0, "%s.%s: %zu bytes, at most %llu are allowed", where,
			       field->name, len, (unsigned long long)field->max);
	char *copy = strdup(json_string_value(value));
	if (!copy)
		return err_set(why, ENOMEM, "%s.%s", where, field->name);
	free(*out);
	*out = copy;
	return 0;
}

static int take_uint(uint64_t *out, const struct field *field, const json_t *value,
		     const char *where, struct errmsg *why)
{
	char shown[QUOTE_MAX];

	if (!json_is_integer(value))
		return err_set(why, 0, "%s.%s: expected an integer, got %s", where, field->name,
			       config_quote(value, shown));
	json_int_t number = json_integer_value(value);
	if (number < 0 || (uint64_t)number < field->min || (uint64_t)number > field->max)
		return err_set(why, 0, "%s.%s: %lld is outside %llu to %llu", where, field->name,
			       (long long)number, (unsigned long long)field->min,
			       (unsigned long long)field->max);
	*out = (uint64_t)number;
	return 0;
}

static int take_bool(bool *out, const struct field *field, const json_t *value, const char *where,
		     struct errmsg *why)
{
	char shown[QUOTE_MAX];

	if (!json_is_boolean(value))
		return err_set(why, 0, "%s.%s: expected true or false, got %s", where, field->name,
			       config_quote(value, shown));
	*out = json_is_true(value);
	return 0;
}

static int take_word(unsigned *out, const struct field *field, const json_t *value,
		     const char *where, struct errmsg *why)
{
	char shown[QUOTE_MAX], all[QUOTE_MAX] = "";
	const char *text = json_string_value(value); /* NULL when it is no string */

	for (unsigned i = 0; field->word[i]; i++) {
		if (text && !strcmp(text, field->word[i])) {
			*out = i;
			return 0;
		}
		strcat(all, i ? " or `" : "`"); /* our own short words: they fit */
		strcat(all, field->word[i]);
		strcat(all, "`");
	}
	return err_set(why, 0, "%s.%s: %s is not supported, expected %s", where, field->name,
		       config_quote(value, shown), all);
}

static int take_field(void *base, const struct field *field, json_t *value, const char *where,
		      struct errmsg *why)
{
	void *at = (char *)base + field->offset;

	switch (field->kind) {
	case FIELD_TEXT: return take_text(at, field, value, where, why);
	case FIELD_UINT: return take_uint(at, field, value, where, why);
	case FIELD_BOOL: return take_bool(at, field, value, where, why);
	case FIELD_WORD: return take_word(at, field, value, where, why);
	case FIELD_LIMITER: return config_take_limiter(at, field->name, value, where, why);
	case FIELD_REFUSED: break;
	}
	return err_set(why, 0, "%s.%s: %s", where, field->name, field->reason);
}

static int unknown_field(const char *key, const struct field *fields, size_t count,
			 const char *where, struct errmsg *why)
{
	char shown[QUOTE_MAX], all[256] = "";

	for (size_t i = 0; i < count; i++) { /* our own names: they fit */
		strcat(all, i ? ", `" : "`");
		strcat(all, fields[i].name);
		strcat(all, "`");
	}
	return err_set(why, 0, "%s: unknown field %s, expected one of %s", where,
		       quote_key(key, shown), all);
}

int config_take_object(void *base, const struct field *fields, size_t count, json_t *object,
		       const char *where, struct errmsg *why)
{
	char shown[QUOTE_MAX];
	const char *key;
	json_t *value;

	if (!json_is_object(object))
		return err_set(why, 0, "%s: expected an object, got %s", where,
			       config_quote(object, shown));
	json_object_foreach(object, key, value)
	{
		size_t i = 0;
		while (i < count && strcmp(key, fields[i].name))
			i++;
		if (i == count)
			return unknown_field(key, fields, count, where, why);
		int err = json_is_null(value) ? 0 : take_field(base, &fields[i], value, where, why);
		if (err)
			return err;
	}
	for (size_t i = 0; i < count; i++) {
		value = json_object_get(object, fields[i].name);
		if (fields[i].required && (!value || json_is_null(value)))
			return err_set(why, 0, "%s: missing field `%s`", where, fields[i].name);
	}
	return 0;
}

static int take_boot(struct config *cfg, json_t *object, struct errmsg *why)
{
	return TAKE_OBJECT(cfg, boot_fields, object, "boot-source", why);
}

static int take_machine(struct config *cfg, json_t *object, struct errmsg *why)
{
	int err = TAKE_OBJECT(cfg, machine_fields, object, "machine-config", why);

	if (!err && cfg->smt)
		return err_set(why, 0,
			       "machine-config.smt: true is not supported: "
			       "every vCPU is a core of its own");
	return err;
}

static int take_vsock(struct config *cfg, json_t *object, struct errmsg *why)
{
	cfg->has_vsock = true;
	return TAKE_OBJECT(cfg, vsock_fields, object, "vsock", why);
}

static int take_entropy(struct config *cfg, json_t *object, struct errmsg *why)
{
	cfg->has_entropy = true;
	return TAKE_OBJECT(cfg, entropy_fields, object, "entropy", why);
}

static int take_balloon(struct config *cfg, json_t *object, struct errmsg *why)
{
	int err = TAKE_OBJECT(cfg, balloon_fields, object, "balloon", why);

	if (!err && cfg->balloon_hinting)
		return err_set(why, 0,
			       "balloon.free_page_hinting: true is not supported: "
			       "use free_page_reporting");
	cfg->has_balloon = true;
	return err;
}

static void drive_free(struct config_drive *drive)
{
	free(drive->id);
	free(drive->path);
	free(drive->overlay_path);
	free(drive->partuuid);
	*drive = (struct config_drive){0};
}

bool config_only_characters(const char *text, const char *more)
{
	for (; *text; text++)
		if (!isalnum((unsigned char)*text) && !strchr(more, *text))
			return false;
	return true;
}

static int drive_check(const struct config *cfg, const struct config_drive *drive,
		       const char *where, struct errmsg *why)
{
	if (!config_only_characters(drive->id, "_"))
		return err_set(why, 0,
			       "%s.drive_id: API Resource IDs can only contain alphanumeric "
			       "characters and underscores.",
			       where);
	for (uint32_t i = 0; i < cfg->drive_count; i++) {
		if (!strcmp(cfg->drive[i].id, drive->id))
			return err_set(why, 0, "%s.drive_id: '%s' was used before", where,
				       drive->id);
		if (cfg->drive[i].is_root && drive->is_root)
			return err_set(why, 0,
				       "%s.is_root_device: drive '%s' is the root device already",
				       where, cfg->drive[i].id);
	}
	if (drive->partuuid && !drive->is_root)
		return err_set(why, 0, "%s.partuuid: drive '%s' is not the root device", where,
			       drive->id);
	if (drive->partuuid && !config_only_characters(drive->partuuid, "-/="))
		return err_set(why, 0, "%s.partuuid: not a partition's UUID", where);
	if (drive->overlay_path && drive->is_read_only)
		return err_set(why, 0, "%s.overlay_path: drive '%s' is read-only and needs none",
			       where, drive->id);
	return 0;
}

/* The root drive goes to the front: it is the guest's first disk wherever it stands in the file. */
static void drive_insert(struct config *cfg, const struct config_drive *drive)
{
	uint32_t at = drive->is_root ? 0 : cfg->drive_count;

	assert(cfg->drive_count < VMM_DRIVES_MAX);
	memmove(&cfg->drive[at + 1], &cfg->drive[at],
		(cfg->drive_count - at) * sizeof(cfg->drive[0]));
	cfg->drive[at] = *drive;
	cfg->drive_count++;
}

static int take_drive(struct config *cfg, size_t index, json_t *object, struct errmsg *why)
{
	struct config_drive drive = {0};
	char where[32];

	snprintf(where, sizeof(where), "drives[%zu]", index);
	int err = TAKE_OBJECT(&drive, drive_fields, object, where, why);
	if (!err)
		err = drive_check(cfg, &drive, where, why);
	if (err)
		drive_free(&drive);
	else
		drive_insert(cfg, &drive);
	return err;
}

static int take_drives(struct config *cfg, json_t *array, struct errmsg *why)
{
	char shown[QUOTE_MAX];
	json_t *object;
	size_t i;

	if (!json_is_array(array))
		return err_set(why, 0, "drives: expected an array, got %s",
			       config_quote(array, shown));
	if (json_array_size(array) > VMM_DRIVES_MAX)
		return err_set(why, 0, "drives: %zu of them, at most %d are allowed",
			       json_array_size(array), VMM_DRIVES_MAX);
	json_array_foreach(array, i, object)
	{
		int err = take_drive(cfg, i, object, why);
		if (err)
			return err;
	}
	return 0;
}

static const struct section {
	const char *name;
	int (*take)(struct config *cfg, json_t *value, struct errmsg *why);
	const char *reason; /* when it is known, but not taken */
} sections[] = {
	{"boot-source", take_boot, NULL},
	{"drives", take_drives, NULL},
	{"machine-config", take_machine, NULL},
	{"vsock", take_vsock, NULL},
	{"entropy", take_entropy, NULL},
	{"balloon", take_balloon, NULL},
	{"network-interfaces", config_take_nets, NULL},
	{"mmds-config", NULL, "there is no metadata service; pass data by vsock or a drive"},
	{"logger", NULL, "messages go to standard error"},
	{"metrics", NULL, "use --timings"},
	{"cpu-config", NULL, "guests see the host's CPU features"},
	{"pmem", NULL, "use drives"},
	{"memory-hotplug", NULL, "guest memory has a fixed size"},
	{"serial", NULL, "use --console-fd"},
};

static int take_section(struct config *cfg, const char *key, json_t *value, struct errmsg *why)
{
	char shown[QUOTE_MAX];
	bool empty = json_is_array(value) && json_array_size(value) == 0;

	for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
		if (strcmp(key, sections[i].name))
			continue;
		if (json_is_null(value) || (!sections[i].take && empty))
			return 0;
		if (sections[i].take)
			return sections[i].take(cfg, value, why);
		return err_set(why, 0, "section '%s' is not supported yet: %s", key,
			       sections[i].reason);
	}
	return err_set(why, 0, "unknown section %s", quote_key(key, shown));
}

static int take_root(struct config *cfg, json_t *root, struct errmsg *why)
{
	char shown[QUOTE_MAX];
	const char *key;
	json_t *value;

	if (!json_is_object(root))
		return err_set(why, 0, "expected an object of sections, got %s",
			       config_quote(root, shown));
	json_object_foreach(root, key, value)
	{
		int err = take_section(cfg, key, value, why);
		if (err)
			return err;
	}
	if (cfg->balloon_mib > cfg->mem_size_mib)
		return err_set(why, 0, "balloon.amount_mib: %llu is more than mem_size_mib, %llu",
			       (unsigned long long)cfg->balloon_mib,
			       (unsigned long long)cfg->mem_size_mib);
	if (!cfg->kernel_path)
		return err_set(why, 0, "missing section `boot-source`");
	return 0;
}

/* The parser recurses: how deep is decided here, before it runs. */
static int check_depth(const char *text, size_t len, struct errmsg *why)
{
	unsigned depth = 0;
	bool in_string = false;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > CONFIG_DEPTH_MAX)
				return err_set(why, 0, "nested deeper than %d levels",
					       CONFIG_DEPTH_MAX);
		} else if ((c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return 0;
}

static bool only_spaces(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!strchr(" \t\r\n", text[i]) || !text[i])
			return false;
	return true;
}

/* The library quotes the file as it is: nothing of it may reach a terminal raw. */
static int bad_syntax(json_error_t *at, struct errmsg *why)
{
	for (char *c = at->text; *c; c++)
		if (!isprint((unsigned char)*c))
			*c = '?';
	return err_set(why, 0, "line %d column %d: %s", at->line, at->column, at->text);
}

int config_parse(struct config *out, const char *text, size_t len, struct errmsg *why)
{
	struct config cfg = {.vcpu_count = 1, .mem_size_mib = CONFIG_MEM_MIB};
	json_error_t at;

	if (len > CONFIG_BYTES_MAX)
		return err_set(why, E2BIG, "more than %d bytes", CONFIG_BYTES_MAX);
	if (only_spaces(text, len))
		return err_set(why, 0, "is empty");
	int err = check_depth(text, len, why);
	if (err)
		return err;
	json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &at);
	if (!root)
		return bad_syntax(&at, why);
	err = take_root(&cfg, root, why);
	json_decref(root);
	if (err)
		config_free(&cfg);
	else
		*out = cfg;
	return err;
}

static int read_all(int fd, char *text, size_t room, size_t *len, struct errmsg *why)
{
	for (*len = 0; *len < room;) {
		ssize_t got = read(fd, text + *len, room - *len);
		if (got == 0)
			return 0;
		if (got < 0 && errno != EINTR)
			return err_set(why, errno, "read");
		if (got > 0)
			*len += (size_t)got;
	}
	return err_set(why, E2BIG, "more than %d bytes", CONFIG_BYTES_MAX);
}

int config_load(struct config *out, const char *path, struct errmsg *why)
{
	cleanup_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_set(why, errno, "config file '%s'", path);
	cleanup_free char *text = calloc(1, CONFIG_BYTES_MAX + 2);
	if (!text)
		return err_set(why, ENOMEM, "config file '%s'", path);
	size_t len;
	int err = read_all(fd, text, CONFIG_BYTES_MAX + 1, &len, why);
	if (!err)
		err = config_parse(out, text, len, why);
	return err ? err_wrap(why, err, "config file '%s'", path) : 0;
}

void config_free(struct config *cfg)
{
	free(cfg->kernel_path);
	free(cfg->initrd_path);
	free(cfg->boot_args);
	free(cfg->uds_path);
	free(cfg->vsock_id);
	for (uint32_t i = 0; i < cfg->drive_count; i++)
		drive_free(&cfg->drive[i]);
	for (uint32_t i = 0; i < cfg->net_count; i++)
		config_net_free(&cfg->net[i]);
	*cfg = (struct config){0};
}
