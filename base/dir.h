/* SPDX-License-Identifier: Apache-2.0 */
/* dir.h - the names in a folder that is open.  Any thread. */
#ifndef SPORE_BASE_DIR_H
#define SPORE_BASE_DIR_H

#include <dirent.h>

/*
 * dir_names() - read a folder from its beginning
 * @dir_fd: of the folder; stays the caller's, and where it stands in it
 * Return: to be closed with closedir(); NULL with errno.
 */
DIR *dir_names(int dir_fd);

#endif
