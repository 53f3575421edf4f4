/* SPDX-License-Identifier: Apache-2.0 */
/* hygiene.c - see hygiene.h */
#include "agent/hygiene.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/random.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"

#define NS_PER_S 1000000000

/* --- clock, entropy ----------------------------------------------------------------------------- */

int64_t hygiene_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

int hygiene_clock(int64_t realtime_ns, uint64_t threshold_ns, struct agent_clock_ok *ok)
{
	*ok = (struct agent_clock_ok){.before_ns = hygiene_now()};
	if (realtime_ns < 0)
		return -EINVAL;
	/* Both are >= 0: the difference cannot overflow. */
	uint64_t off = (uint64_t)llabs(realtime_ns - ok->before_ns);
	ok->stepped = off > threshold_ns;
	if (ok->stepped) {
		struct timespec ts = {.tv_sec = realtime_ns / NS_PER_S,
				      .tv_nsec = (long)(realtime_ns % NS_PER_S)};
		if (clock_settime(CLOCK_REALTIME, &ts) < 0)
			return -errno;
	}
	ok->after_ns = hygiene_now();
	return 0;
}

int hygiene_entropy(const void *data, size_t len)
{
	/* struct rand_pool_info: bits, bytes, data */
	int pool[2 + AGENT_ENTROPY_MAX / sizeof(int)] = {(int)len * 8, (int)len};
	cleanup_close int fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);

	static_assert(sizeof(struct rand_pool_info) == 2 * sizeof(int), "linux/random.h");
	assert(len <= AGENT_ENTROPY_MAX);
	memcpy(pool + 2, data, len);
	int err = fd < 0 || ioctl(fd, RNDADDENTROPY, pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0
			  ? -errno
			  : 0;
	explicit_bzero(pool, sizeof(pool));
	return err;
}

/* --- names -------------------------------------------------------------------------------------- */

static int replace_file(const char *folder, const char *name, const char *line, mode_t mode)
{
	char path[AGENT_PATH_MAX], temp[AGENT_PATH_MAX + 8];

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) >= sizeof(path))
		return -ENAMETOOLONG;
	snprintf(temp, sizeof(temp), "%s.new", path);
	unlink(temp);
	cleanup_close int fd =
		open(temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return -errno;
	int err = fchmod(fd, mode) < 0 || dprintf(fd, "%s\n", line) < 0 || fsync(fd) < 0 ||
				  rename(temp, path) < 0
			  ? -errno
			  : 0;
	if (err < 0)
		unlink(temp);
	return err;
}

static bool hostname_ok(const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < len; i++) {
		if (!isalnum((unsigned char)name[i]) && name[i] != '-' && name[i] != '.')
			return false;
	}
	return len <= HOST_NAME_MAX && name[0] != '-' && name[0] != '.';
}

static bool machine_id_ok(const char *id)
{
	return strlen(id) == 32 && strspn(id, "0123456789abcdef") == 32;
}

int hygiene_check_names(const char *hostname, const char *machine_id, const char **why)
{
	if (hostname[0] && !hostname_ok(hostname))
		*why = "hostname: letters, digits, - and . only";
	else if (machine_id[0] && !machine_id_ok(machine_id))
		*why = "machine-id: 32 lower-case hex digits";
	else
		return 0;
	return -EINVAL;
}

int hygiene_set_names(const char *etc, const char *hostname, const char *machine_id,
		      const char **why)
{
	*why = "hostname";
	if (hostname[0] && sethostname(hostname, strlen(hostname)) < 0)
		return -errno;
	*why = "hostname file";
	int err = hostname[0] ? replace_file(etc, "hostname", hostname, 0644) : 0;
	if (err < 0 && err != -EROFS)
		return err;
	*why = "machine-id file";
	return machine_id[0] ? replace_file(etc, "machine-id", machine_id, 0444) : 0;
}
