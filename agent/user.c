/* SPDX-License-Identifier: Apache-2.0 */
/* user.c - see user.h.  Bounded lines: one that is longer than USER_LINE_MAX is skipped. */
#include "agent/user.h"

#include <errno.h>
#include <grp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define USER_LINE_MAX 16384
#define FIELDS_MAX    7

struct db {
	FILE *file;
	char line[USER_LINE_MAX];
	char *field[FIELDS_MAX];
};

static void skip_rest(FILE *file)
{
	int c;
	do
		c = getc(file);
	while (c != '\n' && c != EOF);
}

/* The next line with at least `need` fields, split at colons.  False at the end. */
static bool db_next(struct db *db, int need)
{
	while (fgets(db->line, sizeof(db->line), db->file)) {
		size_t len = strlen(db->line);
		if (len == 0 || db->line[len - 1] != '\n') {
			if (len == sizeof(db->line) - 1) {
				skip_rest(db->file);
				continue;
			}
		} else {
			db->line[len - 1] = '\0';
		}
		int count = 0;
		char *rest = db->line;
		while (rest && count < FIELDS_MAX)
			db->field[count++] = strsep(&rest, ":");
		if (count >= need)
			return true;
	}
	return false;
}

static bool db_open(struct db *db, const char *path)
{
	db->file = fopen(path, "re");
	return db->file;
}

static bool number(const char *text, uint32_t *out)
{
	char *end;
	errno = 0;
	unsigned long v = strtoul(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || v >= UINT32_MAX)
		return false;
	*out = (uint32_t)v;
	return true;
}

static void copy(char *out, size_t cap, const char *text)
{
	snprintf(out, cap, "%s", text);
}

static bool passwd_entry(struct user *user, struct db *db)
{
	uint32_t uid, gid;

	if (!number(db->field[2], &uid) || !number(db->field[3], &gid))
		return false;
	user->uid = uid;
	user->gid = gid;
	copy(user->name, sizeof(user->name), db->field[0]);
	copy(user->home, sizeof(user->home), db->field[5]);
	copy(user->shell, sizeof(user->shell), db->field[6]);
	return true;
}

/* By name when it is not NULL, else by uid. */
static bool passwd_find(struct user *user, const char *name, uint32_t uid)
{
	struct db db;
	bool found = false;

	if (!db_open(&db, "/etc/passwd"))
		return false;
	while (!found && db_next(&db, 7)) {
		uint32_t id;
		if (name ? strcmp(db.field[0], name) == 0 : number(db.field[2], &id) && id == uid)
			found = passwd_entry(user, &db);
	}
	fclose(db.file);
	return found;
}

static bool group_find(const char *name, uint32_t gid, struct db *db)
{
	bool found = false;

	if (!db_open(db, "/etc/group"))
		return false;
	while (!found && db_next(db, 3)) {
		uint32_t id;
		found = name ? strcmp(db->field[0], name) == 0
			     : number(db->field[2], &id) && id == gid;
	}
	fclose(db->file);
	return found;
}

static bool is_member(char *members, const char *name)
{
	while (members) {
		const char *one = strsep(&members, ",");
		if (strcmp(one, name) == 0)
			return true;
	}
	return false;
}

static void load_groups(struct user *user)
{
	struct db db;

	user->group[0] = user->gid;
	user->group_count = 1;
	if (!user->name[0] || !db_open(&db, "/etc/group"))
		return;
	while (user->group_count < USER_GROUPS_MAX && db_next(&db, 4)) {
		uint32_t gid;
		if (number(db.field[2], &gid) && gid != user->gid &&
		    is_member(db.field[3], user->name))
			user->group[user->group_count++] = gid;
	}
	fclose(db.file);
}

static void bare(struct user *user, uint32_t uid)
{
	user->uid = uid;
	user->gid = uid;
	snprintf(user->name, sizeof(user->name), "%u", uid);
	if (uid == 0)
		copy(user->name, sizeof(user->name), "root");
	copy(user->home, sizeof(user->home), "/");
	copy(user->shell, sizeof(user->shell), "/bin/sh");
}

static bool find_default(struct user *user)
{
	if (geteuid() == 0 && passwd_find(user, "user", 0))
		return true;
	if (!passwd_find(user, NULL, geteuid()))
		bare(user, geteuid());
	return true;
}

int user_find(struct user *user, const char *who)
{
	uint32_t uid;

	memset(user, 0, sizeof(*user));
	if (!who[0])
		find_default(user);
	else if (passwd_find(user, who, 0))
		;
	else if (strcmp(who, "root") == 0)
		bare(user, 0);
	else if (!number(who, &uid))
		return -ENOENT;
	else if (!passwd_find(user, NULL, uid))
		bare(user, uid);
	load_groups(user);
	return 0;
}

int user_become(const struct user *user)
{
	if (geteuid() != 0)
		return user->uid == geteuid() ? 0 : -EPERM;
	if (setgroups((size_t)user->group_count, user->group) < 0)
		return -errno;
	if (setresgid(user->gid, user->gid, user->gid) < 0)
		return -errno;
	if (setresuid(user->uid, user->uid, user->uid) < 0)
		return -errno;
	return 0;
}

int user_parse_owner(const char *text, uid_t *uid, gid_t *gid)
{
	char name[256];
	const char *colon = strchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : strlen(text);
	uint32_t id;

	*uid = (uid_t)-1;
	*gid = (gid_t)-1;
	if (len >= sizeof(name))
		return -ENOENT;
	memcpy(name, text, len);
	name[len] = '\0';
	if (len) {
		struct user user;
		if (passwd_find(&user, name, 0))
			*uid = user.uid;
		else if (number(name, &id))
			*uid = id;
		else
			return -ENOENT;
	}
	if (colon && colon[1]) {
		struct db db;
		bool found = group_find(colon + 1, 0, &db) && number(db.field[2], &id);
		if (!found && !number(colon + 1, &id))
			return -ENOENT;
		*gid = id;
	}
	return 0;
}

void user_name(uid_t uid, char *buf, size_t cap)
{
	struct user user;

	if (passwd_find(&user, NULL, uid))
		copy(buf, cap, user.name);
	else
		snprintf(buf, cap, "%u", uid);
}

void user_group_name(gid_t gid, char *buf, size_t cap)
{
	struct db db;

	if (group_find(NULL, gid, &db))
		copy(buf, cap, db.field[0]);
	else
		snprintf(buf, cap, "%u", gid);
}
