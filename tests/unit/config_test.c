/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration file: what it may hold, and every refusal word by word. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/cleanup.h"
#include "vmm/config.h"

#define BOOT          "\"boot-source\":{\"kernel_image_path\":\"k\"}"
#define MACHINE(rest) "{" BOOT ",\"machine-config\":{" rest "}}"
#define DRIVE(rest)   "{\"drive_id\":\"d\",\"is_root_device\":false,\"path_on_host\":\"p\"" rest "}"
#define DRIVES(list)  "{" BOOT ",\"drives\":[" list "]}"
#define NETS(list)    "{" BOOT ",\"network-interfaces\":[" list "]}"
#define VSOCK(rest)   "{" BOOT ",\"vsock\":{" rest "}}"
#define X16           "xxxxxxxxxxxxxxxx"
#define X96           X16 X16 X16 X16 X16 X16

static const char machine_unknown[] = "machine-config: unknown field \"cpus\", expected one of "
				      "`vcpu_count`, `mem_size_mib`, `smt`, "
				      "`track_dirty_pages`, `huge_pages`, `cpu_template`";

static const struct refusal {
	const char *json, *text;
} refusals[] = {
	{"", "is empty"},
	{" \n\t", "is empty"},
	{"{", "line 1 column 1: string or '}' expected near end of file"},
	{"{" BOOT, "line 1 column 40: '}' expected near end of file"},
	{"\x7f"
	 "ELF",
	 "line 1 column 1: '[' or '{' expected near '?'"},
	{"{" BOOT "}x", "line 1 column 42: end of file expected near 'x'"},
	{"[]", "expected an object of sections, got []"},
	{"{}", "missing section `boot-source`"},
	{"{\"drives\":[]}", "missing section `boot-source`"},
	{"{" BOOT "," BOOT "}", "line 1 column 54: duplicate object key near '\"boot-source\"'"},
	{"[[[[[[[[[1]]]]]]]]]", "nested deeper than 8 levels"},
	{"{" BOOT ",\"boot\":{}}", "unknown section \"boot\""},
	{"{" BOOT ",\"\\u001b[2J\":{}}", "unknown section \"\\u001B[2J\""},
	{"{\"boot-source\":3}", "boot-source: expected an object, got 3"},
	{"{\"boot-source\":{}}", "boot-source: missing field `kernel_image_path`"},
	{"{\"boot-source\":{\"kernel_image_path\":null}}",
	 "boot-source: missing field `kernel_image_path`"},
	{"{\"boot-source\":{\"kernel_image_path\":\"\"}}",
	 "boot-source.kernel_image_path: is empty"},
	{"{\"boot-source\":{\"kernel_image_path\":[1]}}",
	 "boot-source.kernel_image_path: expected a string, got [1]"},
	{MACHINE(""), "machine-config: missing field `vcpu_count`"},
	{MACHINE("\"vcpu_count\":1"), "machine-config: missing field `mem_size_mib`"},
	{MACHINE("\"vcpu_count\":0,\"mem_size_mib\":1"),
	 "machine-config.vcpu_count: 0 is outside 1 to 32"},
	{MACHINE("\"vcpu_count\":33,\"mem_size_mib\":1"),
	 "machine-config.vcpu_count: 33 is outside 1 to 32"},
	{MACHINE("\"vcpu_count\":-1,\"mem_size_mib\":1"),
	 "machine-config.vcpu_count: -1 is outside 1 to 32"},
	{MACHINE("\"vcpu_count\":\"2\",\"mem_size_mib\":1"),
	 "machine-config.vcpu_count: expected an integer, got \"2\""},
	{MACHINE("\"vcpu_count\":1.5,\"mem_size_mib\":1"),
	 "machine-config.vcpu_count: expected an integer, got 1.5"},
	{MACHINE("\"vcpu_count\":1,\"mem_size_mib\":0"),
	 "machine-config.mem_size_mib: 0 is outside 1 to 1048576"},
	{MACHINE("\"vcpu_count\":1,\"mem_size_mib\":1048577"),
	 "machine-config.mem_size_mib: 1048577 is outside 1 to 1048576"},
	{MACHINE("\"vcpu_count\":1,\"mem_size_mib\":99999999999999999999"),
	 "line 1 column 109: too big integer near '99999999999999999999'"},
	{MACHINE("\"vcpu_count\":2,\"mem_size_mib\":1,\"smt\":true"),
	 "machine-config.smt: true is not supported: every vCPU is a core of its own"},
	{MACHINE("\"vcpu_count\":2,\"mem_size_mib\":1,\"smt\":\"no\""),
	 "machine-config.smt: expected true or false, got \"no\""},
	{MACHINE("\"vcpu_count\":1,\"mem_size_mib\":1,\"huge_pages\":\"2M\""),
	 "machine-config.huge_pages: \"2M\" is not supported, expected `None`"},
	{MACHINE("\"vcpu_count\":1,\"mem_size_mib\":1,\"cpu_template\":\"T2\""),
	 "machine-config.cpu_template: \"T2\" is not supported, expected `None`"},
	{MACHINE("\"cpus\":1"), machine_unknown},
	{"{" BOOT ",\"drives\":{}}", "drives: expected an array, got {}"},
	{DRIVES("1"), "drives[0]: expected an object, got 1"},
	{DRIVES("{}"), "drives[0]: missing field `drive_id`"},
	{DRIVES(DRIVE("") "," DRIVE("")), "drives[1].drive_id: 'd' was used before"},
	{DRIVES("{\"drive_id\":\"a/b\",\"is_root_device\":true,\"path_on_host\":\"p\"}"),
	 "drives[0].drive_id: API Resource IDs can only contain alphanumeric characters and "
	 "underscores."},
	{DRIVES("{\"drive_id\":\"a\",\"is_root_device\":true,\"path_on_host\":\"p\"},"
		"{\"drive_id\":\"b\",\"is_root_device\":true,\"path_on_host\":\"p\"}"),
	 "drives[1].is_root_device: drive 'a' is the root device already"},
	{DRIVES(DRIVE(",\"partuuid\":\"1\"")),
	 "drives[0].partuuid: drive 'd' is not the root device"},
	{DRIVES("{\"drive_id\":\"a\",\"is_root_device\":true,\"path_on_host\":\"p\","
		"\"partuuid\":\"1 init=/x\"}"),
	 "drives[0].partuuid: not a partition's UUID"},
	{DRIVES(DRIVE(",\"is_read_only\":true,\"overlay_path\":\"o\"")),
	 "drives[0].overlay_path: drive 'd' is read-only and needs none"},
	{DRIVES(DRIVE(",\"cache_type\":\"None\"")),
	 "drives[0].cache_type: \"None\" is not supported, expected `Unsafe` or `Writeback`"},
	{DRIVES(DRIVE(",\"io_engine\":7")),
	 "drives[0].io_engine: 7 is not supported, expected `Sync` or `Async`"},
	{DRIVES(DRIVE(",\"rate_limiter\":{\"bytes\":{}}")),
	 "drives[0].rate_limiter: unknown field, expected one of `bandwidth`, `ops`"},
	{DRIVES(DRIVE(",\"rate_limiter\":{\"ops\":{\"size\":1}}")),
	 "drives[0].rate_limiter.ops: missing field `refill_time`"},
	{DRIVES(DRIVE(",\"socket\":\"s\"")),
	 "drives[0].socket: vhost-user drives are not supported; use path_on_host"},
	{DRIVES("1,1,1,1,1,1,1,1,1"), "drives: 9 of them, at most 8 are allowed"},
	{VSOCK("\"guest_cid\":2,\"uds_path\":\"v\""),
	 "vsock.guest_cid: 2 is outside 3 to 4294967294"},
	{VSOCK("\"guest_cid\":3"), "vsock: missing field `uds_path`"},
	{VSOCK("\"guest_cid\":3,\"uds_path\":\"" X96 "x\""),
	 "vsock.uds_path: 97 bytes, at most 96 are allowed"},
	{"{" BOOT ",\"entropy\":{\"rate_limiter\":{\"ops\":1}}}",
	 "entropy.rate_limiter: the entropy device has its own bounds; leave it out"},
	{"{" BOOT ",\"network-interfaces\":[{}]}",
	 "network-interfaces[0]: missing field `iface_id`"},
	{NETS("{\"iface_id\":\"a-b\"}"), "network-interfaces[0].iface_id: API Resource IDs can "
					 "only contain alphanumeric characters "
					 "and underscores."},
	{NETS("{\"iface_id\":\"a\",\"guest_mac\":\"06:00:ac:10:00:0g\"}"),
	 "network-interfaces[0].guest_mac: not the address of one interface"},
	{NETS("{\"iface_id\":\"a\",\"guest_mac\":\"07:00:ac:10:00:02\"}"),
	 "network-interfaces[0].guest_mac: not the address of one interface"},
	{NETS("{\"iface_id\":\"a\",\"mtu\":67}"),
	 "network-interfaces[0].mtu: 67 is outside 68 to 65535"},
	{NETS("{\"iface_id\":\"a\"},{\"iface_id\":\"a\",\"host_dev_name\":\"t\"}"),
	 "network-interfaces[1].iface_id: 'a' was used before"},
	{NETS("{\"iface_id\":\"a\"},{\"iface_id\":\"b\"}"),
	 "network-interfaces[1]: interface 'a' has no host_dev_name either; only one can have "
	 "--net-fd"},
	{NETS("1,1,1,1,1"), "network-interfaces: 5 of them, at most 4 are allowed"},
	{"{" BOOT ",\"balloon\":{\"amount_mib\":1}}", "balloon: missing field `deflate_on_oom`"},
	{"{" BOOT ",\"balloon\":{\"deflate_on_oom\":true}}", "balloon: missing field `amount_mib`"},
	{"{" BOOT ",\"balloon\":{\"amount_mib\":129,\"deflate_on_oom\":true}}",
	 "balloon.amount_mib: 129 is more than mem_size_mib, 128"},
	{"{" BOOT ",\"balloon\":{\"amount_mib\":0,\"deflate_on_oom\":true,"
	 "\"stats_polling_interval_s\":65536}}",
	 "balloon.stats_polling_interval_s: 65536 is outside 0 to 65535"},
	{"{" BOOT ",\"balloon\":{\"amount_mib\":0,\"deflate_on_oom\":true,"
	 "\"free_page_hinting\":true}}",
	 "balloon.free_page_hinting: true is not supported: use free_page_reporting"},
	{"{" BOOT ",\"logger\":{}}",
	 "section 'logger' is not supported yet: messages go to standard error"},
	{"{" BOOT ",\"pmem\":[1]}", "section 'pmem' is not supported yet: use drives"},
};

static void config_parse__bad_input__names_section_field_and_value(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
		struct config cfg = {0};
		struct errmsg why = {.text = ""};
		int err = config_parse(&cfg, refusals[i].json, strlen(refusals[i].json), &why);

		if (err != -EINVAL)
			fail_msg("%s: returned %d", refusals[i].json, err);
		assert_string_equal(why.text, refusals[i].text);
		assert_null(cfg.kernel_path);
	}
}

static void config_parse__oversized__e2big(void **state)
{
	(void)state;
	cleanup_free char *text = malloc(CONFIG_BYTES_MAX + 1);
	struct errmsg why;
	struct config cfg;

	memset(text, ' ', CONFIG_BYTES_MAX + 1);
	assert_int_equal(config_parse(&cfg, text, CONFIG_BYTES_MAX + 1, &why), -E2BIG);
	assert_string_equal(why.text, "more than 65536 bytes: Argument list too long");
	memcpy(text, "{" BOOT "}", strlen("{" BOOT "}"));
	assert_int_equal(config_parse(&cfg, text, CONFIG_BYTES_MAX, &why), 0);
	config_free(&cfg);
}

static void config_parse__long_value__is_cut_in_the_message(void **state)
{
	(void)state;
	const char *json = MACHINE("\"vcpu_count\":\"" X96 X96 "\"");
	struct errmsg why;
	struct config cfg;

	assert_int_equal(config_parse(&cfg, json, strlen(json), &why), -EINVAL);
	assert_string_equal(why.text,
			    "machine-config.vcpu_count: expected an integer, got \"" X16 X16 X16 X16
			    "xxxxxxxxxxx...");
}

/* Every truncation of a good file is refused: there is no prefix that means something else. */
static void config_parse__truncated_anywhere__refused(void **state)
{
	(void)state;
	const char *json = MACHINE("\"vcpu_count\":1,\"mem_size_mib\":1");
	struct errmsg why;
	struct config cfg;

	for (size_t len = 0; len < strlen(json); len++)
		assert_int_equal(config_parse(&cfg, json, len, &why), -EINVAL);
	assert_int_equal(config_parse(&cfg, json, strlen(json), &why), 0);
	config_free(&cfg);
}

static void config_parse__firecracker_file__all_fields(void **state)
{
	(void)state;
	struct config cfg;
	struct errmsg why;
	static const char json[] =
		"{\"boot-source\":{\"kernel_image_path\":\"vmlinux\",\"boot_args\":\"quiet\","
		"\"initrd_path\":null},\"drives\":[" DRIVE(
			",\"is_read_only\":true,\"partuuid\":null") ","
								    "{\"drive_id\":\"root_1\",\"is_"
								    "root_device\":true,\"path_on_"
								    "host\":\"img\","
								    "\"partuuid\":\"0eaa91a0-01\","
								    "\"cache_type\":\"Writeback\","
								    "\"io_engine\":\"Async\","
								    "\"overlay_path\":\"cow\","
								    "\"rate_limiter\":null,"
								    "\"socket\":null}],"
								    "\"machine-config\":{\"vcpu_"
								    "count\":4,\"mem_size_mib\":"
								    "512,\"smt\":false,"
								    "\"track_dirty_pages\":true,"
								    "\"huge_pages\":\"None\"},"
								    "\"cpu-config\":null,"
								    "\"balloon\":null,\"network-"
								    "interfaces\":[],\"pmem\":[],"
								    "\"logger\":null,"
								    "\"vsock\":{\"guest_cid\":7,"
								    "\"uds_path\":\"v.sock\"},"
								    "\"entropy\":{}}";

	if (config_parse(&cfg, json, strlen(json), &why))
		fail_msg("%s", why.text);
	assert_string_equal(cfg.kernel_path, "vmlinux");
	assert_string_equal(cfg.boot_args, "quiet");
	assert_null(cfg.initrd_path);
	assert_int_equal(cfg.vcpu_count, 4);
	assert_int_equal(cfg.mem_size_mib, 512);
	assert_true(cfg.track_dirty_pages);
	assert_int_equal(cfg.drive_count, 2);
	assert_string_equal(cfg.drive[0].id, "root_1");
	assert_string_equal(cfg.drive[0].overlay_path, "cow");
	assert_string_equal(cfg.drive[0].partuuid, "0eaa91a0-01");
	assert_int_equal(cfg.drive[0].cache, CONFIG_CACHE_WRITEBACK);
	assert_true(cfg.drive[0].is_root && !cfg.drive[0].is_read_only);
	assert_string_equal(cfg.drive[1].id, "d");
	assert_int_equal(cfg.drive[1].cache, CONFIG_CACHE_UNSAFE);
	assert_true(cfg.drive[1].is_read_only && !cfg.drive[1].is_root);
	assert_true(cfg.has_vsock && cfg.has_entropy);
	assert_int_equal(cfg.guest_cid, 7);
	assert_string_equal(cfg.uds_path, "v.sock");
	config_free(&cfg);
}

static void config_parse__only_a_kernel__firecracker_defaults(void **state)
{
	(void)state;
	const char *json = "{" BOOT ",\"drives\":null}";
	struct errmsg why;
	struct config cfg;

	assert_int_equal(config_parse(&cfg, json, strlen(json), &why), 0);
	assert_int_equal(cfg.vcpu_count, 1);
	assert_int_equal(cfg.mem_size_mib, 128);
	assert_int_equal(cfg.drive_count, 0);
	assert_false(cfg.has_vsock || cfg.has_entropy || cfg.track_dirty_pages);
	config_free(&cfg);
}

static void config_parse__balloon__taken(void **state)
{
	(void)state;
	const char *json = "{" BOOT ",\"balloon\":{\"amount_mib\":64,\"deflate_on_oom\":true,"
			   "\"stats_polling_interval_s\":5,\"free_page_reporting\":true,"
			   "\"free_page_hinting\":false}}";
	struct errmsg why;
	struct config cfg;

	if (config_parse(&cfg, json, strlen(json), &why))
		fail_msg("%s", why.text);
	assert_true(cfg.has_balloon && cfg.balloon_on_oom && cfg.balloon_reporting);
	assert_int_equal(cfg.balloon_mib, 64);
	assert_int_equal(cfg.balloon_stats_s, 5);
	config_free(&cfg);
}

/* --- files ---------------------------------------------------------------------------------------- */

static int enter_folder(void **state)
{
	static char path[32];

	strcpy(path, "/tmp/config_test.XXXXXX");
	*state = mkdtemp(path);
	return !*state || chdir(path);
}

static int leave_folder(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -r %s", (const char *)*state);
	return chdir("/") || system(command);
}

static void put(const char *path, const char *text)
{
	cleanup_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static void config_load__bad_file__names_it(void **state)
{
	(void)state;
	struct errmsg why;
	struct config cfg;

	assert_int_equal(config_load(&cfg, "none.json", &why), -ENOENT);
	assert_string_equal(why.text, "config file 'none.json': No such file or directory");
	put("c.json", "");
	assert_int_equal(config_load(&cfg, "c.json", &why), -EINVAL);
	assert_string_equal(why.text, "config file 'c.json': is empty");
	assert_int_equal(config_load(&cfg, ".", &why), -EISDIR);
	assert_string_equal(why.text, "config file '.': read: Is a directory");
	assert_int_equal(config_load(&cfg, "/dev/zero", &why), -E2BIG);
	assert_string_equal(
		why.text, "config file '/dev/zero': more than 65536 bytes: Argument list too long");
}

static struct options no_options(void)
{
	return (struct options){
		.kvm_path = "/dev/null", /* opens like a device does */
		.kvm_fd = -1,
		.vsock_listen_fd = -1,
		.net_fd = -1,
		.ready_fd = -1,
		.console_fd = -1,
		.console_in_fd = -1,
		.console_log_fd = -1,
	};
}

static int load_and_open(const char *json, const struct options *opt, struct config *cfg,
			 struct vmm_config *out, struct errmsg *why)
{
	put("c.json", json);
	int err = config_load(cfg, "c.json", why);
	return err ? err : config_open(cfg, opt, out, why);
}

static unsigned open_fds(void)
{
	unsigned count = 0;
	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static const char full[] =
	"{\"boot-source\":{\"kernel_image_path\":\"k\",\"initrd_path\":\"i\"},\"drives\":["
	"{\"drive_id\":\"a\",\"is_root_device\":true,\"path_on_host\":\"base\",\"overlay_path\":"
	"\"cow\"},"
	"{\"drive_id\":\"b\",\"is_root_device\":false,\"path_on_host\":\"img\"},"
	"{\"drive_id\":\"c\",\"is_root_device\":false,\"path_on_host\":\"ro\",\"is_read_only\":"
	"true}],"
	"\"vsock\":{\"guest_cid\":3,\"uds_path\":\"v\"}}";

static const char *const files[] = {"k", "i", "base", "cow", "img", "ro"};

static void put_files(void)
{
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		put(files[i], "x");
	unlink("v");
}

static void config_open__all_there__modes_and_closexec(void **state)
{
	(void)state;
	struct options opt = no_options();
	struct vmm_config out;
	struct errmsg why;
	struct config cfg;
	unsigned before = open_fds();

	put_files();
	if (load_and_open(full, &opt, &cfg, &out, &why))
		fail_msg("%s", why.text);
	const struct {
		int fd, mode;
	} want[] = {
		{out.kernel_fd, O_RDONLY},
		{out.initrd_fd, O_RDONLY},
		{out.drive[0].fd, O_RDONLY},
		{out.drive[0].overlay_fd, O_RDWR},
		{out.drive[1].fd, O_RDWR},
		{out.drive[2].fd, O_RDONLY},
		{out.vsock.listen_fd, O_RDWR | O_NONBLOCK},
		{out.kvm_fd, O_RDWR},
	};
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		assert_int_equal(fcntl(want[i].fd, F_GETFD), FD_CLOEXEC);
		assert_int_equal(fcntl(want[i].fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK),
				 want[i].mode);
	}
	assert_int_equal(out.drive[1].overlay_fd, -1);
	assert_int_equal(out.drive_count, 3);
	assert_int_equal(out.vsock.ready_fd, -1);
	config_close(&opt, &out);
	config_free(&cfg);
	assert_int_equal(open_fds(), before);
}

static void expect_open_error(const char *text, int want)
{
	struct options opt = no_options();
	struct vmm_config out;
	struct errmsg why;
	struct config cfg;
	unsigned before = open_fds();

	int err = load_and_open(full, &opt, &cfg, &out, &why);
	assert_string_equal(why.text, text);
	assert_int_equal(err, want);
	config_free(&cfg);
	assert_int_equal(open_fds(), before);
}

static void config_open__bad_files__named_and_nothing_left_open(void **state)
{
	(void)state;
	put_files();
	unlink("k");
	expect_open_error("kernel: open 'k': No such file or directory", -ENOENT);
	mkdir("k", 0700);
	expect_open_error("kernel: 'k' is not a regular file", -EINVAL);
	rmdir("k");
	put("k", "");
	expect_open_error("kernel: 'k' is empty", -EINVAL);
	put("k", "x");
	put("i", "");
	expect_open_error("initrd: 'i' is empty", -EINVAL);
	put("i", "x");
	unlink("base");
	mkfifo("base", 0600);
	expect_open_error("drive 'a': 'base' is not a regular file or block device", -EINVAL);
	unlink("base");
	put("base", "x");
	unlink("cow");
	expect_open_error("drive 'a': overlay: open 'cow': No such file or directory", -ENOENT);
	put("cow", "x");
	put("v", "x");
	expect_open_error("vsock: bind 'v': Address already in use", -EADDRINUSE);
}

static void config_open__image_in_use__second_vm_refused(void **state)
{
	(void)state;
	struct options opt = no_options();
	struct vmm_config out;
	struct errmsg why;
	struct config cfg;

	put_files();
	assert_int_equal(load_and_open(full, &opt, &cfg, &out, &why), 0);
	unlink("v");
	expect_open_error(
		"drive 'a': overlay: 'cow' is in use by another VM: Device or resource busy",
		-EBUSY);
	unlink("cow");
	put("cow", "x");
	expect_open_error("drive 'b': 'img' is in use by another VM: Device or resource busy",
			  -EBUSY);
	config_close(&opt, &out);
	config_free(&cfg);
}

static void config_open__kvm_missing__says_why(void **state)
{
	(void)state;
	struct options opt = no_options();
	struct vmm_config out;
	struct errmsg why;
	struct config cfg;

	put_files();
	opt.kvm_path = "kvm";
	assert_int_equal(load_and_open(full, &opt, &cfg, &out, &why), -ENOENT);
	assert_string_equal(why.text,
			    "open 'kvm' (no hardware virtualization, or the module kvm_intel or "
			    "kvm_amd is not loaded): No such file or directory");
	config_free(&cfg);
}

static void config_open__handed_fds__borrowed_not_closed(void **state)
{
	(void)state;
	struct options opt = no_options();
	struct vmm_config out;
	struct errmsg why;
	struct config cfg;
	cleanup_close int kvm = open("/dev/null", O_RDWR | O_CLOEXEC);
	cleanup_close int listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	put_files();
	opt.kvm_fd = kvm;
	opt.vsock_listen_fd = listen_fd;
	assert_int_equal(load_and_open(full, &opt, &cfg, &out, &why), 0);
	assert_int_equal(out.kvm_fd, kvm);
	assert_int_equal(out.vsock.listen_fd, listen_fd);
	assert_int_equal(access("v", F_OK), -1);
	config_close(&opt, &out);
	config_free(&cfg);
	assert_true(fcntl(kvm, F_GETFD) >= 0 && fcntl(listen_fd, F_GETFD) >= 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(config_parse__bad_input__names_section_field_and_value),
		cmocka_unit_test(config_parse__oversized__e2big),
		cmocka_unit_test(config_parse__long_value__is_cut_in_the_message),
		cmocka_unit_test(config_parse__truncated_anywhere__refused),
		cmocka_unit_test(config_parse__firecracker_file__all_fields),
		cmocka_unit_test(config_parse__only_a_kernel__firecracker_defaults),
		cmocka_unit_test(config_parse__balloon__taken),
		cmocka_unit_test(config_load__bad_file__names_it),
		cmocka_unit_test(config_open__all_there__modes_and_closexec),
		cmocka_unit_test(config_open__bad_files__named_and_nothing_left_open),
		cmocka_unit_test(config_open__image_in_use__second_vm_refused),
		cmocka_unit_test(config_open__kvm_missing__says_why),
		cmocka_unit_test(config_open__handed_fds__borrowed_not_closed),
	};
	return cmocka_run_group_tests(tests, enter_folder, leave_folder);
}
