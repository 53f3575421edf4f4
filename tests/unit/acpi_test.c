/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables, read back as a guest would: from the RSDP down, every sum, every pointer, and every
 * device of the DSDT by a small AML reader of its own.  iasl, where it is installed, has the last word.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/gmem.h"
#include "vmm/acpi.h"
#include "vmm/aml.h"
#include "vmm/layout.h"

#define MEM (1u << 20)

struct fixture {
	struct gmem gm;
	uint8_t mem[MEM];
	const uint8_t *fadt, *madt, *dsdt;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	assert_int_equal(gm_add(&f->gm, gpa(0), f->mem, MEM), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	free(*state);
	return 0;
}

static uint8_t sum(const uint8_t *p, size_t len)
{
	uint8_t s = 0;
	for (size_t i = 0; i < len; i++)
		s = (uint8_t)(s + p[i]);
	return s;
}

static uint32_t table_len(const uint8_t *table)
{
	return le32_load(table + 4);
}

/* A table at a guest address: in its area, signed, summing to 0. */
static const uint8_t *table_at(struct fixture *f, uint64_t at, const char *sign)
{
	assert_true(at >= LAYOUT_ACPI && at + 36 <= LAYOUT_FIRMWARE_END);
	const uint8_t *t = f->mem + at;
	assert_memory_equal(t, sign, 4);
	assert_true(at + table_len(t) <= LAYOUT_FIRMWARE_END);
	assert_int_equal(sum(t, table_len(t)), 0);
	return t;
}

/* Writes the tables and walks to the three that matter. */
static void build(struct fixture *f, const struct acpi_config *cfg)
{
	uint64_t at = 0;

	memset(f->mem, 0, MEM);
	assert_int_equal(acpi_write(&f->gm, cfg, &at, NULL), 0);
	const uint8_t *rsdp = f->mem + at;
	assert_int_equal(at, 0xe0000);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	assert_int_equal(rsdp[15], 2);
	assert_int_equal(le32_load(rsdp + 20), 36);
	const uint8_t *xsdt = table_at(f, le64_load(rsdp + 24), "XSDT");
	assert_int_equal(table_len(xsdt), 36 + 16);
	f->fadt = table_at(f, le64_load(xsdt + 36), "FACP");
	f->madt = table_at(f, le64_load(xsdt + 44), "APIC");
	f->dsdt = table_at(f, le64_load(f->fadt + 140), "DSDT");
}

/* --- a small AML reader --------------------------------------------------------------------------------- */
struct device {
	char name[5], hid[16], cid[16], ddn[16];
	uint64_t addr[2];
	char notified[2][10]; /* by its event method, with their scopes */
	uint64_t hid_int, uid, cca;
	uint64_t mem, mem_size, gsi, port, port_size;
	unsigned flags;
};

struct found {
	unsigned count;
	struct device dev[32];
	bool has_s5;
};

static size_t read_pkg_end(struct bytes_in *in)
{
	size_t left = in->left;
	uint8_t lead = bytes_u8(in);
	size_t n = lead >> 6, len = n ? lead & 0xf : lead & 0x3f;
	for (size_t i = 0; i < n; i++)
		len |= (size_t)bytes_u8(in) << (4 + 8 * i);
	assert_true(len <= left);
	return left - len; /* bytes left when the package is over */
}

static uint64_t read_int(struct bytes_in *in)
{
	switch (bytes_u8(in)) {
	case 0x00: return 0;
	case 0x01: return 1;
	case 0x0a: return bytes_u8(in);
	case 0x0b: return bytes_u16(in);
	case 0x0c: return bytes_u32(in);
	case 0x0e: return bytes_u64(in);
	default: fail_msg("not an integer"); return 0;
	}
}

static void read_crs(struct bytes_in *in, struct device *d)
{
	assert_int_equal(bytes_u8(in), 0x11);
	size_t end = read_pkg_end(in);
	uint64_t len = read_int(in);
	assert_int_equal(len, in->left - end);
	for (uint8_t tag; (tag = bytes_u8(in)) != 0x79;) {
		if (tag == 0x86) {
			assert_int_equal(bytes_u16(in), 9);
			assert_int_equal(bytes_u8(in), 1);
			d->mem = bytes_u32(in);
			d->mem_size = bytes_u32(in);
		} else if (tag == 0x89) {
			assert_int_equal(bytes_u16(in), 6);
			d->flags = bytes_u8(in);
			assert_int_equal(bytes_u8(in), 1);
			d->gsi = bytes_u32(in);
		} else {
			assert_int_equal(tag, 0x47);
			assert_int_equal(bytes_u8(in), 1);
			d->port = bytes_u16(in);
			assert_int_equal(bytes_u16(in), d->port);
			bytes_u8(in);
			d->port_size = bytes_u8(in);
		}
	}
	bytes_u8(in);
	assert_int_equal(in->left, end);
}

static void read_text(struct bytes_in *in, char text[static 16])
{
	assert_int_equal(bytes_u8(in), 0x0d);
	for (size_t i = 0; (text[i] = (char)bytes_u8(in)); i++)
		assert_true(i < 15);
}

static void read_addr(struct bytes_in *in, struct device *d)
{
	assert_int_equal(bytes_u8(in), 0x12);
	size_t end = read_pkg_end(in);
	assert_int_equal(bytes_u8(in), 2);
	for (unsigned i = 0; i < 2; i++)
		d->addr[i] = read_int(in);
	assert_int_equal(in->left, end);
}

/* Method(_EVT, 1, Serialized) { Notify(\\SCOPE.NAME, 0x80) ... } */
static void read_event_method(struct bytes_in *in, struct device *d)
{
	size_t end = read_pkg_end(in);
	assert_memory_equal(bytes_take(in, 4), "_EVT", 4);
	assert_int_equal(bytes_u8(in), 9);
	for (unsigned i = 0; in->left > end; i++) {
		assert_true(i < 2);
		assert_memory_equal(bytes_take(in, 3), "\x86\\\x2e", 3);
		memcpy(d->notified[i], bytes_take(in, 8), 8);
		assert_int_equal(read_int(in), 0x80);
	}
	assert_int_equal(in->left, end);
}

static void read_device_name(struct bytes_in *in, struct device *d)
{
	const uint8_t *name = bytes_take(in, 4);
	assert_non_null(name);
	if (!memcmp(name, "_HID", 4) && *in->at == 0x0d) {
		read_text(in, d->hid);
	} else if (!memcmp(name, "_CID", 4)) {
		read_text(in, d->cid);
	} else if (!memcmp(name, "_DDN", 4)) {
		read_text(in, d->ddn);
	} else if (!memcmp(name, "ADDR", 4)) {
		read_addr(in, d);
	} else if (!memcmp(name, "_HID", 4)) {
		d->hid_int = read_int(in);
	} else if (!memcmp(name, "_UID", 4)) {
		d->uid = read_int(in);
	} else if (!memcmp(name, "_CCA", 4)) {
		d->cca = read_int(in);
	} else {
		assert_memory_equal(name, "_CRS", 4);
		read_crs(in, d);
	}
}

static void read_scope(struct bytes_in *in, struct found *found)
{
	size_t scope_end = read_pkg_end(in);
	assert_memory_equal(bytes_take(in, 5), "\\_SB_", 5);
	while (in->left > scope_end) {
		assert_true(found->count < 32);
		struct device *d = &found->dev[found->count++];
		assert_int_equal(bytes_u8(in), 0x5b);
		assert_int_equal(bytes_u8(in), 0x82);
		size_t end = read_pkg_end(in);
		memcpy(d->name, bytes_take(in, 4), 4);
		while (in->left > end) {
			uint8_t op = bytes_u8(in);
			if (op == 0x14) {
				read_event_method(in, d);
				continue;
			}
			assert_int_equal(op, 0x08);
			read_device_name(in, d);
		}
		assert_int_equal(in->left, end);
	}
	assert_int_equal(in->left, scope_end);
}

static void read_dsdt(const uint8_t *dsdt, struct found *found)
{
	struct bytes_in in = bytes_in(dsdt + 36, table_len(dsdt) - 36);

	*found = (struct found){0};
	while (in.left) {
		uint8_t op = bytes_u8(&in);
		if (op == 0x10) {
			read_scope(&in, found);
			continue;
		}
		assert_int_equal(op, 0x08);
		assert_memory_equal(bytes_take(&in, 4), "_S5_", 4);
		assert_int_equal(bytes_u8(&in), 0x12);
		size_t end = read_pkg_end(&in);
		assert_int_equal(bytes_u8(&in), 4);
		assert_int_equal(read_int(&in), 5);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(read_int(&in), 0);
		assert_int_equal(in.left, end);
		found->has_s5 = true;
	}
	assert_false(in.bad);
}

static void check_virtio(const struct device *d, unsigned index)
{
	assert_string_equal(d->hid, "LNRO0005");
	assert_int_equal(d->uid, index);
	assert_int_equal(d->cca, 1);
	assert_int_equal(d->mem, 0xc0001000 + index * 0x1000);
	assert_int_equal(d->mem_size, 0x1000);
	assert_int_equal(d->gsi, 5 + index);
	assert_int_equal(d->flags, 3);
}

/* --- tests ---------------------------------------------------------------------------------------------- */
static void acpi__every_device_count__each_found_in_dsdt(void **state)
{
	struct fixture *f = *state;
	struct found found;

	for (unsigned n = 0; n <= LAYOUT_VIRTIO_MAX; n++) {
		struct acpi_config cfg = {.cpus = 1, .virtio_count = n};
		build(f, &cfg);
		read_dsdt(f->dsdt, &found);
		assert_int_equal(found.count, n);
		assert_false(found.has_s5);
		for (unsigned i = 0; i < n; i++) {
			check_virtio(&found.dev[i], i);
			for (unsigned k = 0; k < i; k++)
				assert_string_not_equal(found.dev[i].name, found.dev[k].name);
		}
	}
}

static void acpi__com1_and_sleep__described(void **state)
{
	struct fixture *f = *state;
	struct found found;
	struct acpi_config cfg = {
		.cpus = 1, .virtio_count = 1, .com1 = ACPI_HAS_COM1, .sleep_port = LAYOUT_SLEEP};

	build(f, &cfg);
	read_dsdt(f->dsdt, &found);
	assert_true(found.has_s5);
	assert_int_equal(found.count, 2);
	const struct device *com1 = &found.dev[0];
	assert_string_equal(com1->name, "COM1");
	assert_int_equal(com1->hid_int, 0x0105d041); /* EisaId("PNP0501") */
	assert_int_equal(com1->port, 0x3f8);
	assert_int_equal(com1->port_size, 8);
	assert_int_equal(com1->gsi, 4);
	check_virtio(&found.dev[1], 0);

	static const uint8_t control[12] = {1, 8, 0, 1, 0x00, 0x06},
			     status[12] = {1, 8, 0, 1, 0x01, 0x06};
	assert_memory_equal(f->fadt + 244, control, 12);
	assert_memory_equal(f->fadt + 256, status, 12);
}

static void acpi__generation__id_clock_and_their_event(void **state)
{
	struct fixture *f = *state;
	struct found found;
	struct acpi_config cfg = {.cpus = 1, .generation = ACPI_HAS_GENERATION};

	build(f, &cfg);
	read_dsdt(f->dsdt, &found);
	assert_int_equal(found.count, 3);
	const struct device *id = &found.dev[0], *clock = &found.dev[1], *event = &found.dev[2];
	assert_string_equal(id->name, "VGEN");
	assert_string_equal(id->hid, "QEMUVGID");
	assert_string_equal(id->cid, "VM_Gen_Counter");
	assert_string_equal(id->ddn, "VM_Gen_Counter");
	assert_int_equal(id->addr[0], 0xde000);
	assert_int_equal(id->addr[1], 0);
	assert_string_equal(clock->name, "VCLK");
	assert_string_equal(clock->hid, "AMZNC10C");
	assert_string_equal(clock->cid, "VMCLOCK");
	assert_int_equal(clock->mem, 0xdf000);
	assert_int_equal(clock->mem_size, 0x1000);
	assert_string_equal(event->hid, "ACPI0013");
	assert_int_equal(event->gsi, 3);
	assert_int_equal(event->flags, 3);
	assert_string_equal(event->notified[0], "_SB_VGEN");
	assert_string_equal(event->notified[1], "_SB_VCLK");
}

static void acpi__fadt__hardware_reduced_and_reset_by_port_64(void **state)
{
	struct fixture *f = *state;
	struct acpi_config cfg = {.cpus = 1};
	static const uint8_t reset[12] = {1, 8, 0, 1, 0x64};

	build(f, &cfg);
	assert_int_equal(table_len(f->fadt), 276);
	assert_int_equal(f->fadt[8], 6);
	assert_int_equal(le32_load(f->fadt + 112), 1u << 20 | 1u << 10 | 1u << 5 | 1u << 4 | 1);
	assert_int_equal(le16_load(f->fadt + 109), 1u << 5 | 1u << 2);
	assert_memory_equal(f->fadt + 116, reset, 12);
	assert_int_equal(f->fadt[128], 0xfe);
	assert_int_equal(f->fadt[244], 0);
}

static void acpi__every_cpu_count__each_in_madt(void **state)
{
	struct fixture *f = *state;

	for (unsigned cpus = 1; cpus <= 32; cpus++) {
		struct acpi_config cfg = {.cpus = cpus};
		build(f, &cfg);
		struct bytes_in in = bytes_in(f->madt + 36, table_len(f->madt) - 36);
		unsigned lapics = 0, ioapics = 0;

		assert_int_equal(bytes_u32(&in), 0xfee00000);
		assert_int_equal(bytes_u32(&in), 0); /* no PIC */
		while (in.left) {
			const uint8_t *e = bytes_take(&in, in.at[1]);
			assert_non_null(e);
			if (e[0] == 0) {
				assert_int_equal(e[1], 8);
				assert_int_equal(e[3], lapics);
				assert_int_equal(le32_load(e + 4), 1);
				lapics++;
			} else {
				assert_int_equal(e[0], 1);
				assert_int_equal(e[1], 12);
				assert_int_equal(le32_load(e + 4), 0xfec00000);
				assert_int_equal(le32_load(e + 8), 0);
				ioapics++;
			}
		}
		assert_int_equal(lapics, cpus);
		assert_int_equal(ioapics, 1);
	}
}

static void acpi__same_input__same_bytes(void **state)
{
	struct fixture *f = *state;
	struct acpi_config cfg = {.cpus = 4, .virtio_count = 3, .com1 = ACPI_HAS_COM1};
	uint8_t *first = malloc(MEM);

	assert_non_null(first);
	build(f, &cfg);
	memcpy(first, f->mem, MEM);
	build(f, &cfg);
	assert_memory_equal(first, f->mem, MEM);
	free(first);
}

static void acpi__counts_out_of_bounds__refused(void **state)
{
	struct fixture *f = *state;
	struct errmsg why;
	uint64_t at = 77;
	struct acpi_config cfg = {.cpus = 0};

	assert_int_equal(acpi_write(&f->gm, &cfg, &at, &why), -EINVAL);
	assert_string_equal(why.text, "ACPI tables for 0 CPUs: 1 to 32");
	cfg.cpus = 33;
	assert_int_equal(acpi_write(&f->gm, &cfg, &at, &why), -EINVAL);
	cfg = (struct acpi_config){.cpus = 1, .virtio_count = 20};
	assert_int_equal(acpi_write(&f->gm, &cfg, &at, &why), -EINVAL);
	assert_string_equal(why.text, "ACPI tables for 20 virtio devices: at most 19");
	f->gm.region[0].size = LAYOUT_ACPI;
	cfg.virtio_count = 0;
	assert_int_equal(acpi_write(&f->gm, &cfg, &at, &why), -EFAULT);
	assert_string_equal(why.text, "write ACPI tables at 0xe0000: Bad address");
	assert_int_equal(at, 77);
}

static void aml__lengths_around_their_limits__read_back(void **state)
{
	static const size_t sizes[] = {0, 58, 59, 60, 4085, 4086, 4087, 4088, 70000};
	size_t cap = 80000;
	uint8_t *buf = malloc(cap);
	(void)state;

	assert_non_null(buf);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct bytes_out out = bytes_out(buf, cap);
		size_t dev = aml_device(&out, "DEV0");
		for (size_t k = 0; k < sizes[i]; k++)
			bytes_put_u8(&out, (uint8_t)k);
		aml_end(&out, dev);
		bytes_put_u8(&out, 0xee);
		struct bytes_in in = bytes_in(buf, out.len);
		bytes_u16(&in);
		assert_int_equal(read_pkg_end(&in), 1);
		assert_memory_equal(bytes_take(&in, 4), "DEV0", 4);
		for (size_t k = 0; k < sizes[i]; k++)
			assert_int_equal(bytes_u8(&in), (uint8_t)k);
		assert_int_equal(in.left, 1);
	}
	struct bytes_out small = bytes_out(buf, 6);
	aml_end(&small, aml_device(&small, "DEV0")); /* no room for the length */
	assert_true(small.full);
	free(buf);
}

static void aml__integers_of_every_width__read_back(void **state)
{
	static const uint64_t val[] = {
		0, 1, 2, 255, 256, 65535, 65536, UINT32_MAX, UINT64_C(1) << 32, UINT64_MAX};
	uint8_t buf[32];
	(void)state;

	for (unsigned i = 0; i < sizeof(val) / sizeof(val[0]); i++) {
		struct bytes_out out = bytes_out(buf, sizeof(buf));
		aml_name_int(&out, "ABCD", val[i]);
		struct bytes_in in = bytes_in(buf, out.len);
		assert_int_equal(bytes_u8(&in), 0x08);
		assert_memory_equal(bytes_take(&in, 4), "ABCD", 4);
		assert_int_equal(read_int(&in), val[i]);
		assert_int_equal(in.left, 0);
	}
}

/* --- iasl ----------------------------------------------------------------------------------------------- */
static void dump(const char *dir, const char *name, const uint8_t *table)
{
	char path[128];
	snprintf(path, sizeof(path), "%s/%s.dat", dir, name);
	FILE *file = fopen(path, "we");
	assert_non_null(file);
	assert_int_equal(fwrite(table, 1, table_len(table), file), table_len(table));
	assert_int_equal(fclose(file), 0);
}

static int in_dir(const char *dir, const char *cmd)
{
	char line[512];
	snprintf(line, sizeof(line), "cd %s && %s", dir, cmd);
	return system(line); /* NOLINT: constant commands in a fresh folder */
}

static void acpi__iasl__takes_tables_apart_and_together(void **state)
{
	struct fixture *f = *state;
	char dir[] = "/tmp/acpi_test.XXXXXX";
	struct acpi_config cfg = {
		.cpus = 32, .virtio_count = 19, .com1 = ACPI_HAS_COM1, .sleep_port = LAYOUT_SLEEP};

	if (system("command -v iasl >/dev/null 2>&1") != 0) {
		print_message("skip: iasl (acpica-tools) is not installed\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	build(f, &cfg);
	dump(dir, "dsdt", f->dsdt);
	dump(dir, "facp", f->fadt);
	dump(dir, "apic", f->madt);
	int apart = in_dir(dir, "iasl -d dsdt.dat facp.dat apic.dat >log 2>&1");
	int clean = in_dir(dir, "! grep -Ei 'error|invalid|warning' log");
	int found = in_dir(dir, "test $(grep -c '\"LNRO0005\"' dsdt.dsl) = 19 && "
				"grep -q 'EisaId (\"PNP0501\")' dsdt.dsl && "
				"grep -q '0xC0013000, *// Address Base' dsdt.dsl && "
				"grep -q 'Hardware Reduced (V5) : 1' facp.dsl && "
				"test $(grep -c 'Processor Enabled : 1' apic.dsl) = 32");
	int again = in_dir(dir, "iasl -oa -p again dsdt.dsl >log2 2>&1 && "
				"cmp -i 36 again.aml dsdt.dat >>log2 2>&1");
	if (apart || clean || found || again)
		in_dir(dir, "cat facp.dsl dsdt.dsl log log2 | tail -60");
	char rm[64];
	snprintf(rm, sizeof(rm), "rm -rf %s", dir + 5);
	in_dir("/tmp", rm);
	assert_int_equal(apart, 0);
	assert_int_equal(clean, 0);
	assert_int_equal(found, 0);
	assert_int_equal(again, 0); /* compiled again: the same bytes */
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(acpi__every_device_count__each_found_in_dsdt),
		T(acpi__com1_and_sleep__described),
		T(acpi__generation__id_clock_and_their_event),
		T(acpi__fadt__hardware_reduced_and_reset_by_port_64),
		T(acpi__every_cpu_count__each_in_madt),
		T(acpi__same_input__same_bytes),
		T(acpi__counts_out_of_bounds__refused),
		T(acpi__iasl__takes_tables_apart_and_together),
		cmocka_unit_test(aml__lengths_around_their_limits__read_back),
		cmocka_unit_test(aml__integers_of_every_width__read_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
