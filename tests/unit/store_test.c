/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes as folders: made, found, locked, settled after a crash.  A child of ours plays the VMM. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "supervisor/image/tree.h"
#include "supervisor/lifecycle/home.h"
#include "supervisor/lifecycle/lock.h"
#include "supervisor/store/box.h"

static char folder[64];
static struct state st;
static struct errmsg why;

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/spore-store-XXXXXX");
	return mkdtemp(folder) ? state_open(&st, folder, &why) : -1;
}

static int teardown(void **state)
{
	(void)state;
	state_close(&st);
	return tree_remove(AT_FDCWD, folder, &why);
}

static const struct box_meta plain = {
	.image = "/img/base.ext4", .kernel = "/k", .initrd = "/i", .cpus = 2, .memory_mib = 512};

static struct box new_box(const char *name, enum box_state state)
{
	struct box_meta wish = plain;
	struct box box;

	strcpy(wish.name, name);
	assert_int_equal(box_create(&box, &st, &wish, &why), 0);
	if (state != BOX_CREATING)
		assert_int_equal(box_enter(&box, state, &why), 0);
	return box;
}

/* A process that has the lock and has written its number, as a VMM does. */
static pid_t start_vmm(const struct box *box)
{
	int ready[2];
	char byte;

	assert_int_equal(pipe(ready), 0);
	pid_t pid = fork();
	if (!pid) {
		close(box->lock_fd); /* as exec does */
		int fd = openat(box->fd, HOME_VMM, O_RDWR | O_CREAT, 0600);
		if (fd < 0 || lock_take(fd) || dprintf(fd, "%d\n", getpid()) < 0 ||
		    write(ready[1], "r", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static int killed(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static char *folder_of(const char *id, const char *file, char path[static 256])
{
	snprintf(path, 256, "%s/sandboxes/%s/%s", folder, id, file);
	return path;
}

/* --- state and ids -------------------------------------------------------------------------------- */

static void state_open__new__folders_for_us_alone(void **state)
{
	char path[256];
	struct stat info;

	(void)state;
	for (const char *name = "sandboxes"; name;
	     name = *name == 's' && name[1] == 'a' ? "snapshots" : NULL) {
		snprintf(path, sizeof(path), "%s/%s", folder, name);
		assert_int_equal(stat(path, &info), 0);
		assert_int_equal(info.st_mode & 07777, 0700);
	}
}

static void state_open__environment__in_order(void **state)
{
	char data[128];
	struct state other;

	(void)state;
	snprintf(data, sizeof(data), "%s/xdg", folder);
	setenv("XDG_STATE_HOME", data, 1);
	unsetenv("SPORE_STATE");
	assert_int_equal(state_open(&other, NULL, &why), 0);
	assert_non_null(strstr(other.path, "/xdg/spore"));
	state_close(&other);
	snprintf(data, sizeof(data), "%s/env", folder);
	setenv("SPORE_STATE", data, 1);
	assert_int_equal(state_open(&other, NULL, &why), 0);
	assert_string_equal(other.path, data);
	state_close(&other);
	unsetenv("SPORE_STATE");
	unsetenv("XDG_STATE_HOME");
	unsetenv("HOME");
	assert_int_equal(state_open(&other, NULL, &why), -ENOENT);
	assert_string_equal(why.text, "no folder for sandboxes: HOME is not set");
}

static void state_new_id__many__differ_and_are_ids(void **state)
{
	char id[2][STATE_ID_MAX] = {"", ""};

	(void)state;
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(state_new_id(id[i & 1], &why), 0);
		assert_int_equal(strlen(id[i & 1]), STATE_ID_LEN);
		assert_true(state_id_prefix(id[i & 1]));
		assert_string_not_equal(id[0], id[1]);
	}
	assert_false(state_id_prefix(""));
	assert_false(state_id_prefix("abcl"));
	assert_false(state_id_prefix("../x"));
	assert_false(state_id_prefix("abcdefghijk"));
}

/* --- meta.json ------------------------------------------------------------------------------------ */

static void meta__round_trip__equal(void **state)
{
	struct box box = new_box("name.1", BOX_RUNNING);
	struct box_meta back;
	struct stat info;

	(void)state;
	box.meta.timeout_ms = 5000;
	box.meta.on_timeout = BOX_TIMEOUT_PAUSE;
	box.meta.deadline_s = 1234567890;
	strcpy(box.meta.why, "because");
	assert_int_equal(box_enter(&box, BOX_PAUSED, &why), 0);
	assert_int_equal(meta_read(&back, box.fd, box.meta.id, &why), 0);
	assert_memory_equal(&back, &box.meta, sizeof(back));
	assert_int_equal(fstatat(box.fd, "meta.json", &info, 0), 0);
	assert_int_equal(info.st_mode & 07777, 0600);
	box_close(&box);
}

static void put_meta(const struct box *box, const char *text, size_t len)
{
	char path[256];
	int fd = open(folder_of(box->meta.id, "meta.json", path), O_WRONLY | O_CREAT | O_TRUNC,
		      0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	close(fd);
}

static char *get_meta(const struct box *box, char *buf, size_t cap)
{
	char path[256];
	FILE *f = fopen(folder_of(box->meta.id, "meta.json", path), "r");

	assert_non_null(f);
	buf[fread(buf, 1, cap - 1, f)] = '\0';
	fclose(f);
	return buf;
}

/* Replaces the first `from` in the meta.json as it was written. */
static void swap_meta(const struct box *box, const char *good, const char *from, const char *to)
{
	char text[8192];
	const char *at = strstr(good, from);

	assert_non_null(at);
	snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
	put_meta(box, text, strlen(text));
}

static void meta_read__hostile__refused_whole(void **state)
{
	static const char *const swaps[][2] = {
		{"\"running\"", "\"flying\""},
		{"\"running\"", "7"},
		{"\"cpus\": 2", "\"cpus\": 0"},
		{"\"cpus\": 2", "\"cpus\": 33"},
		{"\"cpus\": 2", "\"cpus\": \"2\""},
		{"\"cpus\": 2", "\"cpus\": 2, \"cpus\": 3"},
		{"\"memory_mib\": 512", "\"memory_mib\": 1048577"},
		{"\"timeout_ms\": 0", "\"timeout_ms\": -1"},
		{"\"timeout_ms\": 0", "\"timeout_ms\": 4294967295"},
		{"\"created\"", "\"craeted\""},
		{"\"/img/base.ext4\"", "\"img/base.ext4\""},
		{"\"/img/base.ext4\"", "\"/img\\u0000/x\""},
		{"\"good\"", "\"../../etc\""},
		{"\"id\": \"", "\"id\": \"x"},
		{"{", "["},
	};
	struct box box = new_box("good", BOX_RUNNING);
	struct box_meta out = {.cpus = 99};
	char good[4096];

	(void)state;
	get_meta(&box, good, sizeof(good));
	for (size_t i = 0; i < ARRAY_LEN(swaps); i++) {
		swap_meta(&box, good, swaps[i][0], swaps[i][1]);
		assert_int_equal(meta_read(&out, box.fd, box.meta.id, &why), -EBADMSG);
		assert_string_equal(why.text, "its meta.json is damaged");
		assert_int_equal(out.cpus, 99);
	}
	for (size_t len = 0; len + 1 < strlen(good); len += 7) {
		put_meta(&box, good, len);
		assert_int_equal(meta_read(&out, box.fd, box.meta.id, &why), -EBADMSG);
	}
	swap_meta(&box, good, "\"version\": 1", "\"version\": 2");
	assert_int_equal(meta_read(&out, box.fd, box.meta.id, &why), -EBADMSG);
	assert_non_null(strstr(why.text, "it was made by a newer Spore"));
	put_meta(&box, good, strlen(good));
	assert_int_equal(meta_read(&out, box.fd, box.meta.id, &why), 0);
	box_close(&box);
}

static void meta_read__huge_link_fifo__refused(void **state)
{
	struct box box = new_box("", BOX_DEAD);
	struct box_meta out;
	char path[256];

	(void)state;
	folder_of(box.meta.id, "meta.json", path);
	assert_int_equal(truncate(path, META_BYTES_MAX + 1), 0);
	assert_int_equal(meta_read(&out, box.fd, box.meta.id, &why), -EBADMSG);
	unlink(path);
	assert_int_equal(symlink("/proc/self/status", path), 0);
	assert_int_equal(meta_read(&out, box.fd, box.meta.id, &why), -EBADMSG);
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(meta_read(&out, box.fd, box.meta.id, &why), -EBADMSG);
	box_close(&box);
}

/* --- finding -------------------------------------------------------------------------------------- */

static void find_says(const char *word, int err, const char *text)
{
	struct box box;

	assert_int_equal(box_find(&box, &st, word, &why), err);
	assert_string_equal(why.text, text);
}

static void box_find__id_name_prefix__found(void **state)
{
	struct box made = new_box("my-box", BOX_DEAD), box;
	char prefix[STATE_ID_MAX];

	(void)state;
	box_close(&made);
	for (size_t len = 1; len <= STATE_ID_LEN; len++) {
		snprintf(prefix, sizeof(prefix), "%.*s", (int)len, made.meta.id);
		assert_int_equal(box_find(&box, &st, prefix, &why), 0);
		assert_string_equal(box.meta.id, made.meta.id);
		box_close(&box);
	}
	assert_int_equal(box_find(&box, &st, "my-box", &why), 0);
	assert_string_equal(box.meta.id, made.meta.id);
	box_close(&box);
	find_says("my-bo", -ENOENT, "there is no sandbox 'my-bo'; see 'spore ls'");
	find_says("", -ENOENT, "there is no sandbox ''; see 'spore ls'");
	find_says("../sandboxes", -ENOENT, "there is no sandbox '../sandboxes'; see 'spore ls'");
}

static void box_find__two_begin_alike__named(void **state)
{
	char from[256], to[256], text[128], meta[4096];
	struct box one = new_box("", BOX_DEAD), two = new_box("", BOX_DEAD), box;
	char prefix[2] = {one.meta.id[0], '\0'};

	(void)state;
	/* The second gets an id that begins like the first. */
	get_meta(&two, meta, sizeof(meta));
	char *id = strstr(meta, two.meta.id);
	memcpy(id, one.meta.id, STATE_ID_LEN);
	id[STATE_ID_LEN - 1] = one.meta.id[STATE_ID_LEN - 1] == '2' ? '3' : '2';
	put_meta(&two, meta, strlen(meta));
	folder_of(two.meta.id, "", from);
	memcpy(two.meta.id, id, STATE_ID_LEN);
	assert_int_equal(rename(from, folder_of(two.meta.id, "", to)), 0);
	const char *first = strcmp(one.meta.id, two.meta.id) < 0 ? one.meta.id : two.meta.id;
	const char *second = first == one.meta.id ? two.meta.id : one.meta.id;
	snprintf(text, sizeof(text), "'%s' could be %s or %s: give more of the id", prefix, first,
		 second);
	box_close(&one);
	box_close(&two);
	find_says(prefix, -EINVAL, text);
	assert_int_equal(box_find(&box, &st, one.meta.id, &why), 0);
	box_close(&box);
}

static void box_create__name_taken_or_bad__refused(void **state)
{
	struct box made = new_box("taken", BOX_DEAD), box;
	struct box_meta wish = plain;

	(void)state;
	box_close(&made);
	strcpy(wish.name, "taken");
	assert_int_equal(box_create(&box, &st, &wish, &why), -EEXIST);
	assert_string_equal(why.text, "there is a sandbox called 'taken' already");
	strcpy(wish.name, "a/b");
	assert_int_equal(box_create(&box, &st, &wish, &why), -EINVAL);
}

/* --- locks ---------------------------------------------------------------------------------------- */

static void box_lock__held__says_by_whom(void **state)
{
	struct box mine = new_box("", BOX_DEAD), other;
	char text[160], doing[BOX_DOING_MAX];

	(void)state;
	assert_int_equal(box_find(&other, &st, mine.meta.id, &why), 0);
	assert_true(box_busy(&other, doing));
	assert_string_equal(doing, "create");
	assert_int_equal(box_lock(&other, "pause", &why), -EBUSY);
	snprintf(text, sizeof(text),
		 "sandbox %s is busy: another command (create, process %d) works on it",
		 mine.meta.id, getpid());
	assert_string_equal(why.text, text);
	strcpy(mine.meta.why, "seen after the lock");
	assert_int_equal(box_enter(&mine, BOX_DEAD, &why), 0);
	box_close(&mine);
	assert_int_equal(box_lock(&other, "pause", &why), 0);
	assert_string_equal(other.meta.why, "seen after the lock");
	assert_false(box_busy(&other, doing) && strcmp(doing, "pause") != 0);
	box_close(&other);
}

static void box_lock__removed_meanwhile__gone(void **state)
{
	struct box mine = new_box("", BOX_DEAD), other;

	(void)state;
	assert_int_equal(box_find(&other, &st, mine.meta.id, &why), 0);
	assert_int_equal(box_remove(&mine, &st, &why), 0);
	assert_int_equal(box_lock(&other, "pause", &why), -ENOENT);
	assert_non_null(strstr(why.text, "was removed meanwhile"));
	box_close(&other);
}

/* --- settling ------------------------------------------------------------------------------------- */

static void settle__running_without_vmm__dead(void **state)
{
	struct box made = new_box("", BOX_RUNNING), box;

	(void)state;
	box_close(&made);
	assert_int_equal(box_find(&box, &st, made.meta.id, &why), 0);
	assert_int_equal(box.meta.state, BOX_DEAD);
	assert_string_equal(box.meta.why, "its VMM ended");
	box_close(&box);
}

static void settle__running_with_vmm__left_alone(void **state)
{
	struct box made = new_box("", BOX_RUNNING), box;
	pid_t vmm = start_vmm(&made);
	int pid = 0;

	(void)state;
	box_close(&made);
	assert_int_equal(box_find(&box, &st, made.meta.id, &why), 0);
	assert_int_equal(box.meta.state, BOX_RUNNING);
	cleanup_close int pidfd = home_vmm(box.fd, &pid, &why);
	assert_true(pidfd >= 0);
	assert_int_equal(pid, vmm);
	assert_int_equal(home_kill(box.fd, &why), 0);
	assert_int_equal(killed(vmm), SIGKILL);
	assert_int_equal(home_vmm(box.fd, &pid, &why), -ESRCH);
	box_close(&box);
}

static void settle__paused_with_vmm__vmm_ended(void **state)
{
	struct box made = new_box("", BOX_PAUSED), box;
	pid_t vmm = start_vmm(&made);

	(void)state;
	box_close(&made);
	assert_int_equal(box_find(&box, &st, made.meta.id, &why), 0);
	assert_int_equal(box.meta.state, BOX_PAUSED);
	assert_int_equal(killed(vmm), SIGKILL);
	box_close(&box);
}

static void settle__half_made__gone_with_its_vmm(void **state)
{
	struct box made = new_box("", BOX_CREATING), box;
	pid_t vmm = start_vmm(&made);
	char path[256];

	(void)state;
	/* Its maker is at work: nobody touches it. */
	assert_int_equal(box_find(&box, &st, made.meta.id, &why), 0);
	assert_int_equal(box.meta.state, BOX_CREATING);
	box_close(&box);
	box_close(&made);
	assert_int_equal(box_find(&box, &st, made.meta.id, &why), -ENOENT);
	assert_int_equal(killed(vmm), SIGKILL);
	assert_int_equal(access(folder_of(made.meta.id, "", path), F_OK), -1);
}

static void sweep__leftovers__gone(void **state)
{
	struct box unborn = new_box("", BOX_CREATING), kept = new_box("", BOX_DEAD);
	char path[256];

	(void)state;
	unlink(folder_of(unborn.meta.id, "meta.json", path));
	box_close(&unborn);
	box_close(&kept);
	mkdir(folder_of(".gone-abc", "", path), 0700);
	box_sweep(&st);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(access(folder_of(unborn.meta.id, "", path), F_OK), -1);
	assert_int_equal(access(folder_of(kept.meta.id, "", path), F_OK), 0);
}

static void box_remove__running__takes_vmm_and_folder(void **state)
{
	struct box box = new_box("", BOX_RUNNING);
	pid_t vmm = start_vmm(&box);
	char path[256];

	(void)state;
	folder_of(box.meta.id, "", path);
	assert_int_equal(box_remove(&box, &st, &why), 0);
	assert_int_equal(killed(vmm), SIGKILL);
	assert_int_equal(access(path, F_OK), -1);
}

/*
 * A writer killed at random instants: the state that is read is always a whole one, and the one before
 * or after.
 */
static void meta_write__killed_anywhere__old_or_new(void **state)
{
	struct box box = new_box("", BOX_RUNNING);
	struct box_meta back;

	(void)state;
	for (int round = 0; round < 60; round++) {
		pid_t pid = fork();
		if (!pid) {
			for (unsigned i = 0;; i++) {
				box.meta.timeout_ms = i;
				snprintf(box.meta.why, sizeof(box.meta.why), "%u", i);
				if (meta_write(&box.meta, box.fd, NULL))
					_exit(1);
			}
		}
		usleep((useconds_t)(200 + round * 137 % 4000));
		kill(pid, SIGKILL);
		assert_int_equal(killed(pid), SIGKILL);
		assert_int_equal(meta_read(&back, box.fd, box.meta.id, &why), 0);
		if (*back.why)
			assert_int_equal(strtoull(back.why, NULL, 10), back.timeout_ms);
	}
	box_close(&box);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(state_open__new__folders_for_us_alone),
		CASE(state_open__environment__in_order),
		CASE(state_new_id__many__differ_and_are_ids),
		CASE(meta__round_trip__equal),
		CASE(meta_read__hostile__refused_whole),
		CASE(meta_read__huge_link_fifo__refused),
		CASE(meta_write__killed_anywhere__old_or_new),
		CASE(box_find__id_name_prefix__found),
		CASE(box_find__two_begin_alike__named),
		CASE(box_create__name_taken_or_bad__refused),
		CASE(box_lock__held__says_by_whom),
		CASE(box_lock__removed_meanwhile__gone),
		CASE(settle__running_without_vmm__dead),
		CASE(settle__running_with_vmm__left_alone),
		CASE(settle__paused_with_vmm__vmm_ended),
		CASE(settle__half_made__gone_with_its_vmm),
		CASE(sweep__leftovers__gone),
		CASE(box_remove__running__takes_vmm_and_folder),
	};

	alarm(300);
	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
