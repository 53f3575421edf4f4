/* SPDX-License-Identifier: Apache-2.0 */
/* copy_list.h - what a folder of the guest is said to hold, checked and bounded */
#ifndef SPORE_SUPERVISOR_LIFECYCLE_COPY_LIST_H
#define SPORE_SUPERVISOR_LIFECYCLE_COPY_LIST_H

#include "supervisor/lifecycle/copy.h"

#define COPY_NAMES_MAX (256u << 20) /* bytes of all paths together */

struct copy_item {
	struct agent_entry entry;
	char *path;   /* relative, safe (copy_path_is_safe) */
	char *target; /* of a symbolic link, safe; else NULL */
};

struct copy_list {
	struct copy_item *item;
	size_t count, cap, name_bytes;
};

/*
 * copy_list_add() - take one entry in, or count it as left out
 * Return: 0; -EBADMSG an unsafe path; -E2BIG; -ENOMEM.
 */
int copy_list_add(struct copy_list *list, struct copy *copy, const struct agentc_entry *entry);

/* All entries below the guest's folder `from`.  copy_list_free() in every case. */
int copy_list_fill(struct copy_list *list, struct copy *copy, const char *from, struct errmsg *why);
void copy_list_free(struct copy_list *list);

#endif
