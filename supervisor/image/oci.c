/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/image/oci.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdbool.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"

#define DIGEST_PREFIX "sha256:"
#define HEX_LEN       64
#define NESTING_MAX   2

static int bad(struct errmsg *why, const char *what)
{
	return err_set(why, 0, "OCI layout: %s", what), -EBADMSG;
}

/* --- blobs -------------------------------------------------------------------------------------- */

static int digest_file(int fd, char hex[HEX_LEN + 1])
{
	unsigned char block[65536], sum[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	ssize_t n = 0;
	int good = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);

	while (good && (n = read(fd, block, sizeof(block))) > 0)
		good = EVP_DigestUpdate(ctx, block, (size_t)n);
	good = good && !n && EVP_DigestFinal_ex(ctx, sum, NULL);
	EVP_MD_CTX_free(ctx);
	for (int i = 0; good && i < HEX_LEN / 2; i++)
		sprintf(hex + 2 * i, "%02x", sum[i]);
	return good ? 0 : -EIO;
}

static bool is_digest(const char *digest)
{
	size_t prefix = strlen(DIGEST_PREFIX);

	return digest && !strncmp(digest, DIGEST_PREFIX, prefix) &&
	       strspn(digest + prefix, "0123456789abcdef") == HEX_LEN && !digest[prefix + HEX_LEN];
}

/* Opens and checks what a descriptor (digest and size) names.  A file at offset 0, or -errno. */
static int open_blob(int layout, const json_t *descriptor, struct errmsg *why)
{
	const char *digest = json_string_value(json_object_get(descriptor, "digest"));
	const json_t *size = json_object_get(descriptor, "size");
	char path[16 + HEX_LEN], hex[HEX_LEN + 1] = "";
	struct stat st;

	if (!is_digest(digest) || !json_is_integer(size))
		return bad(why, "a descriptor without a sha256 digest and a size");
	const char *name = digest + strlen(DIGEST_PREFIX);
	snprintf(path, sizeof(path), "blobs/sha256/%s", name);
	cleanup_close int fd = openat(layout, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return err_set(why, errno, "OCI layout: blob %.12s", name);
	if (!S_ISREG(st.st_mode) || st.st_size != json_integer_value(size) ||
	    digest_file(fd, hex) || strcmp(hex, name) != 0)
		return err_set(why, 0, "OCI layout: blob %.12s: not what its digest says", name),
		       -EBADMSG;
	return lseek(fd, 0, SEEK_SET) ? err_set(why, errno, "seek") : steal_fd(&fd);
}

static int parse_json(int fd, json_t **out, struct errmsg *why)
{
	cleanup_free char *text = malloc(OCI_JSON_MAX);
	size_t len = 0;
	ssize_t n;

	if (!text)
		return err_set(why, ENOMEM, "OCI layout");
	while ((n = read(fd, text + len, OCI_JSON_MAX - len)) > 0)
		len += (size_t)n;
	if (n < 0)
		return err_set(why, errno, "OCI layout: read");
	if (len == OCI_JSON_MAX)
		return bad(why, "a JSON file over 4 MiB");
	*out = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	return *out ? 0 : bad(why, "not JSON");
}

/* --- index, manifest, layers -------------------------------------------------------------------- */

static bool is_ours(const json_t *descriptor)
{
	const json_t *platform = json_object_get(descriptor, "platform");
	const char *os = json_string_value(json_object_get(platform, "os"));
	const char *arch = json_string_value(json_object_get(platform, "architecture"));

	return !platform || (os && arch && !strcmp(os, "linux") && !strcmp(arch, "amd64"));
}

static const json_t *pick_manifest(const json_t *index)
{
	const json_t *list = json_object_get(index, "manifests");

	for (size_t i = 0; i < json_array_size(list); i++)
		if (is_ours(json_array_get(list, i)))
			return json_array_get(list, i);
	return NULL;
}

static int unpack_layer(struct unpack *u, int layout, const json_t *layer, struct errmsg *why)
{
	const char *type = json_string_value(json_object_get(layer, "mediaType"));

	if (!type || !strstr(type, "tar"))
		return bad(why, "a layer that is no tar");
	cleanup_close int fd = open_blob(layout, layer, why);
	return fd < 0 ? fd : unpack_archive(u, fd, UNPACK_LAYER, why);
}

static int unpack_layers(struct unpack *u, int layout, const json_t *manifest, struct errmsg *why)
{
	const json_t *layers = json_object_get(manifest, "layers");
	size_t count = json_array_size(layers);
	int err = 0;

	if (!count || count > OCI_LAYERS_MAX)
		return bad(why, "a manifest without layers, or with too many");
	for (size_t i = 0; !err && i < count; i++) {
		err = unpack_layer(u, layout, json_array_get(layers, i), why);
		if (err)
			err_wrap(why, err, "layer %zu of %zu", i + 1, count);
	}
	return err;
}

/* An index leads to a manifest, perhaps by one more index. */
static int follow(struct unpack *u, int layout, int fd, unsigned depth, struct errmsg *why)
{
	cleanup_close int held = fd;
	json_t *json = NULL;
	int err = parse_json(held, &json, why);

	if (err)
		return err;
	if (json_object_get(json, "layers")) {
		err = unpack_layers(u, layout, json, why);
	} else if (depth > NESTING_MAX || !pick_manifest(json)) {
		err = bad(why, "no manifest for linux/amd64");
	} else {
		int next = open_blob(layout, pick_manifest(json), why);
		err = next < 0 ? next : follow(u, layout, next, depth + 1, why);
	}
	json_decref(json);
	return err;
}

int oci_unpack(struct unpack *u, const char *path, struct errmsg *why)
{
	cleanup_close int layout = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (layout < 0)
		return err_set(why, errno, "%s", path);
	int index = openat(layout, "index.json", O_RDONLY | O_CLOEXEC);
	if (index < 0)
		return err_set(why, errno, "%s/index.json", path);
	return follow(u, layout, index, 0, why);
}
