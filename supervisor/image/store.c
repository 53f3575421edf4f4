/* SPDX-License-Identifier: Apache-2.0 */
/* Names, places and the list.  Making and removing images is in store_stage.c. */
#include "supervisor/image/store.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "supervisor/lifecycle/files.h"

static_assert(LIFE_PATH_MAX == STORE_PATH_MAX, "paths go from one to the other");

int store_root(char *out, struct errmsg *why)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	int len;

	if (data && data[0] == '/')
		len = snprintf(out, STORE_PATH_MAX, "%s/spore/images", data);
	else if (home && home[0] == '/')
		len = snprintf(out, STORE_PATH_MAX, "%s/.local/share/spore/images", home);
	else
		return err_set(why, 0, "no folder for images: HOME is not set"), -ENOENT;
	return len < STORE_PATH_MAX ? 0 : err_set(why, ENAMETOOLONG, "folder of images");
}

static int name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

int store_name_good(const char *name)
{
	size_t len = strlen(name);
	int good = len > 0 && len < STORE_NAME_MAX && name_byte(name[0]);

	for (size_t i = 1; good && i < len; i++)
		good = name_byte(name[i]) || strchr("._-", name[i]);
	return good;
}

int store_name_check(const char *name, struct errmsg *why)
{
	if (store_name_good(name))
		return 0;
	return err_set(why, 0,
		       "'%s' is no name for an image: small letters, digits, '.', '_' and '-', "
		       "at most %d",
		       name, STORE_NAME_MAX - 1);
}

static int file_of(const char *name, const char *file, char *path, struct errmsg *why)
{
	char root[STORE_PATH_MAX];
	int err = store_root(root, why);

	if (err)
		return err;
	if (snprintf(path, STORE_PATH_MAX, "%s/%s/%s", root, name, file) >= STORE_PATH_MAX)
		return err_set(why, ENAMETOOLONG, "image %s", name);
	return 0;
}

int store_resolve(const char *image, char *path, struct errmsg *why)
{
	if (strchr(image, '/')) {
		if (snprintf(path, STORE_PATH_MAX, "%s", image) >= STORE_PATH_MAX)
			return err_set(why, ENAMETOOLONG, "image");
		return access(path, F_OK) ? err_set(why, errno, "image %s", image) : 0;
	}
	int err = store_name_check(image, why);
	if (err)
		return err;
	err = file_of(image, STORE_FILE, path, why);
	if (!err && !access(path, F_OK))
		return 0;
	if (!strcmp(image, STORE_DEFAULT_IMAGE))
		return life_file_find(LIFE_FILE_BASE, NULL, path, why);
	if (!access(image, F_OK))
		return err_set(why, 0, "no image '%s' in the store; the file is './%s'", image,
			       image);
	return err_set(why, 0, "no image '%s' in the store; see 'spore image ls'", image), -ENOENT;
}

static void read_meta(struct store_image *image)
{
	char path[STORE_PATH_MAX];
	const char *source = "";
	json_int_t created = 0;

	json_t *meta = file_of(image->name, STORE_META, path, NULL)
			       ? NULL
			       : json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
	if (meta)
		json_unpack(meta, "{s?s s?I}", "source", &source, "created", &created);
	snprintf(image->source, sizeof(image->source), "%s", source);
	for (char *c = image->source; *c; c++)
		if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
			*c = '?';
	image->created = (int64_t)created;
	json_decref(meta);
}

/* False when the folder holds no complete image. */
static int read_image(const char *name, struct store_image *image)
{
	char path[STORE_PATH_MAX];
	struct stat st;

	*image = (struct store_image){.bytes = 0};
	if (store_name_check(name, NULL) || file_of(name, STORE_FILE, path, NULL) ||
	    stat(path, &st))
		return 0;
	strcpy(image->name, name);
	image->bytes = (uint64_t)st.st_size;
	image->disk_bytes = (uint64_t)st.st_blocks * 512;
	read_meta(image);
	return 1;
}

int store_list(store_on_image on_image, void *arg, struct errmsg *why)
{
	char root[STORE_PATH_MAX];
	struct dirent **names = NULL;
	struct store_image image;
	int err = store_root(root, why);

	if (err)
		return err;
	int count = scandir(root, &names, NULL, alphasort);
	if (count < 0)
		return errno == ENOENT ? 0 : err_set(why, errno, "%s", root);
	for (int i = 0; i < count; i++) {
		if (!err && read_image(names[i]->d_name, &image))
			err = on_image(arg, &image);
		free(names[i]);
	}
	free(names);
	return err;
}
