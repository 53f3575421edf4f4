/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/lifecycle/copy_list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "supervisor/lifecycle/copy_path.h"

static bool wanted(const struct agentc_entry *entry)
{
	switch (entry->raw.type) {
	case AGENT_TYPE_FILE:
	case AGENT_TYPE_DIR: return true;
	case AGENT_TYPE_SYMLINK: return copy_link_is_safe(entry->path, entry->target);
	default: return false;
	}
}

static int grow(struct copy_list *list)
{
	if (list->count < list->cap)
		return 0;
	size_t cap = list->cap ? list->cap * 2 : 64;
	struct copy_item *more = realloc(list->item, cap * sizeof(*more));
	if (!more)
		return -ENOMEM;
	list->item = more;
	list->cap = cap;
	return 0;
}

int copy_list_add(struct copy_list *list, struct copy *copy, const struct agentc_entry *entry)
{
	if (!copy_path_is_safe(entry->path))
		return -EBADMSG;
	if (++copy->entries > copy->entries_max)
		return -E2BIG;
	if (!wanted(entry)) {
		copy->left_out++;
		return 0;
	}
	bool is_link = entry->raw.type == AGENT_TYPE_SYMLINK;
	list->name_bytes += strlen(entry->path) + (is_link ? strlen(entry->target) : 0);
	if (list->name_bytes > COPY_NAMES_MAX)
		return -E2BIG;
	if (grow(list))
		return -ENOMEM;
	struct copy_item item = {.entry = entry->raw, .path = strdup(entry->path)};
	if (is_link)
		item.target = strdup(entry->target);
	list->item[list->count++] = item;
	return item.path && (!is_link || item.target) ? 0 : -ENOMEM;
}

struct fill {
	struct copy_list *list;
	struct copy *copy;
};

static int on_entry(void *arg, const struct agentc_entry *entry)
{
	struct fill *fill = arg;

	return copy_list_add(fill->list, fill->copy, entry);
}

int copy_list_fill(struct copy_list *list, struct copy *copy, const char *from, struct errmsg *why)
{
	struct agentc_file file = agentc_file(copy->user, from);
	struct fill fill = {.list = list, .copy = copy};

	file.depth = COPY_DEPTH_MAX;
	int64_t n = agentc_list(copy->at, &file, on_entry, &fill, why);
	if (n == -EBADMSG)
		return err_set(why, 0, "the guest named a file outside the folder"), -EBADMSG;
	if (n == -E2BIG)
		return err_set(why, 0, "more than %llu files in all",
			       (unsigned long long)copy->entries_max),
		       -E2BIG;
	return n < 0 ? (int)n : 0;
}

void copy_list_free(struct copy_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->item[i].path);
		free(list->item[i].target);
	}
	free(list->item);
	*list = (struct copy_list){.count = 0};
}
