/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h - what the file operations share: one job per worker, already running as its user
 */
#ifndef SPORE_AGENT_FILE_H
#define SPORE_AGENT_FILE_H

#include <sys/stat.h>

#include "agent/user.h"
#include "agent/worker.h"

struct job {
	struct worker *w;
	struct agent_file file;
	struct user user;
	const char *asked; /* the path as the client wrote it */
	const char *arg;
	char path[AGENT_PATH_MAX]; /* absolute */
};

/* Makes a path of the client absolute: ~ and relative ones count from the user's home.
 * Return: 0; -EINVAL empty; -ENAMETOOLONG. */
int job_path(const struct job *job, const char *asked, char out[AGENT_PATH_MAX]);
/* Ends the worker with "what 'path': error". */
void job_fail(struct job *job, int err, const char *what) __attribute__((noreturn));
/* Sends ENTRY of folder/name (lstat), shown as `shown`.  Return: 0 or -errno, nothing sent. */
int job_send_entry(struct job *job, int folder, const char *name, const char *shown);

/* Opens the folder that a path lies in; *name: the last part, inside path.  @make: create missing
 * folders (0755).  Return: fd (O_PATH), or -errno. */
enum parents { PARENTS_MUST_EXIST, PARENTS_MAKE };
int open_parent(const char *path, const char **name, enum parents make);
/* mkdir -p of the folders above the last part.  Return: how many were made, or -errno. */
int make_parents(const char *path);

/* file.c, transfer.c, tree.c, attr.c */
void job_read(struct job *job);
void job_write(struct job *job);
void job_list(struct job *job);
void job_mkdir(struct job *job);
void job_move(struct job *job);
void job_remove(struct job *job);
void job_chmod(struct job *job);
void job_chown(struct job *job);
void job_xattr(struct job *job, uint16_t type);
void job_readlink(struct job *job);
void job_symlink(struct job *job);
void job_watch(struct job *job);

#endif
