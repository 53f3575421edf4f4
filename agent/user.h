/* SPDX-License-Identifier: Apache-2.0 */
/*
 * user.h - who a request runs as
 *
 * Reads /etc/passwd and /etc/group itself: the C library's lookups may ask a daemon, and a guest's
 * root could make that hang.  Called in forked children only, so a strange file system under /etc
 * never holds up the agent.
 */
#ifndef SPORE_AGENT_USER_H
#define SPORE_AGENT_USER_H

#include <sys/types.h>

#define USER_GROUPS_MAX 256

struct user {
	uid_t uid;
	gid_t gid;
	char name[256];
	char home[4096];
	char shell[4096];
	int group_count;
	gid_t group[USER_GROUPS_MAX];
};

/*
 * user_find() - by name, or by number when no such name; "" is "user" if there is one, else root
 * (an agent that is not root: itself).  A number without an entry gets itself as group and / as home.
 * Return: 0; -ENOENT no such user.
 */
int user_find(struct user *user, const char *who);

/* Becomes the user for good.  Return: 0; -EPERM not root and somebody else; -errno. */
int user_become(const struct user *user);

/* Numbers of "user:group" (names or numbers; a missing part gives -1).  Return: 0 or -ENOENT. */
int user_parse_owner(const char *text, uid_t *uid, gid_t *gid);

/* Name of a uid or gid into buf, or its number. */
void user_name(uid_t uid, char *buf, size_t cap);
void user_group_name(gid_t gid, char *buf, size_t cap);

#endif
