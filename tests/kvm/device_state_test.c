/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine whose disk is at work goes on in another VM of the same process: its vCPU and devices are saved
 * while it is paused, its disk gets a new layer, and the one below is shared.  The first goes on too, and
 * neither sees what the other writes.
 */
#include "tests/kvm/disk.h"

#include <sys/random.h>

#include "devices/blk_cow.h"
#include "devices/blk_file.h"
#include "devices/vblk.h"
#include "snapshot/codec.h"
#include "vmm/device_state.h"
#include "vmm/machine.h"
#include "vmm/vcpu_state.h"
#include "vmm/vm_state.h"

#define FORKS 5u

static void must(int err, const char *what, const struct errmsg *why)
{
	if (err)
		fail_msg("%s: %s", what, why->text);
}

static struct vmm_config config(struct vm *vm, int base, int overlay)
{
	struct vmm_config cfg = vm_config(vm, "diskload");

	cfg.drive[0] = (struct vmm_drive){
		.id = "disk", .fd = base, .overlay_fd = overlay, .writeback = true};
	cfg.drive_count = 1;
	cfg.has_entropy = true;
	return cfg;
}

static int read_only(int fd)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int own = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(own >= 0);
	return own;
}

/* An empty layer on the layer in `below`. */
static int layer_on(int below)
{
	struct cow_layer layer;
	struct errmsg why;
	int fd = disk_empty();

	must(cow_open(below, &layer, &why), "open layer", &why);
	memcpy(layer.below_id, layer.layer_id, COW_ID_LEN);
	layer.below_size = layer.size;
	assert_int_equal(getrandom(layer.layer_id, COW_ID_LEN, 0), COW_ID_LEN);
	must(cow_format(fd, &layer, &why), "format", &why);
	return fd;
}

/* --- on the io thread ------------------------------------------------------------------------------ */
struct io_call {
	struct vmm *m;
	struct blk_cow_next *next;
	struct blk_backend *disk;
	int err;
	struct errmsg why;
};

static void on_io_push(void *arg)
{
	struct io_call *call = arg;
	call->err = blk_cow_push(vblk_backend(mmio_dev(call->m->dev[0])), call->next);
}

static void on_io_go(void *arg)
{
	struct io_call *call = arg;
	struct blk_backend *old = NULL;

	call->err = vblk_set_backend(mmio_dev(call->m->dev[0]), call->disk, &old, &call->why);
	assert_null(old);
	devices_resume(call->m);
}

/* --- fork ---------------------------------------------------------------------------------------- */
static void save(struct vmm *m, struct snap_out *out)
{
	const struct vm_shape shape = {.cpus = m->cpus, .mem_bytes = m->ram.size};
	struct vm_instant at;
	struct errmsg why;

	assert_int_equal(snap_out_init(out), 0);
	must(machine_save_vm(&m->kvm, &m->vcpu[0].kvm, &shape, &at, out, &why), "save", &why);
	must(vcpu_save(&m->kvm, &m->vcpu[0].kvm, &at, out, &why), "save", &why);
	devices_save(m, out);
	must(snap_out_finish(out, &why), "finish", &why);
}

static void load(struct vmm *m, const struct snap_out *out)
{
	const struct vm_shape shape = {.cpus = m->cpus, .mem_bytes = m->ram.size};
	struct snap_in in;
	struct vm_load l;
	struct errmsg why;

	must(snap_in_open(&in, out->buf, out->len, &why), "open", &why);
	must(machine_check_vm(&m->kvm, &m->vcpu[0].kvm, &shape, VM_CLOCK_STOOD, &in, &l, &why),
	     "check", &why);
	must(vcpu_check(&m->kvm, &m->vcpu[0].kvm, &l, &in, &why), "check", &why);
	machine_load_begin(&l);
	must(vcpu_load(&m->kvm, &m->vcpu[0].kvm, &l, &in, &why), "load", &why);
	must(devices_load(m, &in, &why), "devices", &why);
	must(machine_load_vm(&m->kvm, &l, &why), "load", &why);
}

/* The parent's writes go to a new layer from here on.  Return: that layer. */
static int push(struct vmm *m, int top)
{
	struct io_call call = {.m = m};
	struct blk_backend *disk = vblk_backend(mmio_dev(m->dev[0]));
	int fd = layer_on(top), below = read_only(top);

	must(blk_cow_next_create(&call.next, disk, fd, below, &call.why), "next", &call.why);
	close(below);
	loop_call(m->loop, on_io_push, &call);
	assert_int_equal(call.err, 0);
	must(blk_cow_seal_finish(disk, &call.why), "seal", &call.why);
	return fd;
}

struct stack {
	int base;
	int layer[FORKS + 1];
	unsigned count;
};

/* A machine that goes on from `out` with a copy of `from`'s memory, on the sealed layers and `own`. */
static void child_start(struct vm *child, const struct vmm *from, const struct snap_out *out,
			const struct stack *disk, int own)
{
	struct vmm_config cfg = config(child, -1, -1);
	struct blk_cow_cfg cow = {.name = "disk", .layer_count = disk->count + 1};
	struct cow_layer lowest;
	struct io_call call;
	struct vmm_error text;

	if (vmm_create(&child->vmm, &cfg, &text))
		fail_msg("vmm_create: %s", text.text);
	close(cfg.kernel_fd);
	close(cfg.kvm_fd);
	struct vmm *m = child->vmm;
	memcpy(m->ram.map, from->ram.map, from->ram.size);
	load(m, out);
	call = (struct io_call){.m = m};
	cow.loop = m->loop;
	must(cow_open(disk->layer[0], &lowest, &call.why), "layer", &call.why);
	memcpy(cow.base_id, lowest.below_id, COW_ID_LEN);
	must(blk_file_create(&cow.base, disk->base, BLK_FILE_READ_ONLY, "base", m->loop, &call.why),
	     "base", &call.why);
	for (unsigned i = 0; i < disk->count; i++)
		cow.layer[i] = read_only(disk->layer[i]);
	cow.layer[disk->count] = own;
	must(blk_cow_create(&call.disk, &cow, &call.why), "stack", &call.why);
	for (unsigned i = 0; i < disk->count; i++)
		close(cow.layer[i]);
	if (vmm_start(m, &text))
		fail_msg("vmm_start: %s", text.text);
	loop_call(m->loop, on_io_go, &call);
	must(call.err, "set backend", &call.why);
}

/* Runs it for `ms` more, then to its end; it must have found every sector as it wrote it. */
static unsigned long long run_out(struct vm *vm, unsigned long long stop_at, unsigned ms)
{
	const uint32_t one = 1;
	unsigned long long batches = 0;
	struct vmm_error text;

	poll(NULL, 0, (int)ms);
	assert_int_equal(gm_write(&vm->vmm->gm, gpa(stop_at), &one, sizeof(one)), 0);
	vm_collect(vm, 0);
	enum vmm_exit reason = vm_finish(vm, &text);
	if (reason != VMM_EXIT_RESET || !strstr(vm->text, "good\n"))
		fail_msg("exit %d (%s), says: %s", reason, text.text, vm->text);
	assert_int_equal(sscanf(strstr(vm->text, "good\n") - 17, "%llx", &batches), 1);
	return batches;
}

/* A disk as `batches` batches leave it, read from its files. */
static void disk_holds(const struct stack *disk, int own, unsigned long long batches)
{
	uint64_t *want = disk_words(), *got = disk_words();

	for (unsigned i = 0; i <= disk->count; i++) {
		int fd = i < disk->count ? disk->layer[i] : own;
		struct cow_layer layer;
		struct errmsg why;
		must(cow_open(fd, &layer, &why), "layer", &why);
		uint8_t *map = calloc(1, layer.map_len);
		must(cow_read_map(fd, &layer, map, &why), "map", &why);
		for (uint64_t b = 0; b < layer.blocks; b++)
			if (cow_map_get(map, b) == COW_HERE)
				assert_int_equal(
					pread(fd, (char *)got + b * layer.block_size,
					      layer.block_size,
					      (off_t)(layer.data_off + b * layer.block_size)),
					layer.block_size);
		free(map);
	}
	for (unsigned long long n = 0; n < batches * 8; n++)
		disk_fill(want + n % 1024 * 64, n % 1024, 1, n / 8 + 2);
	assert_memory_equal(got, want, DISK_BYTES);
	free(want);
	free(got);
}

static void device_state__disk_at_work__children_and_parent_go_on(void **state)
{
	(void)state;
	struct stack disk = {.base = disk_create(), .layer = {disk_empty()}, .count = 1};
	struct vm vm, child[FORKS];
	int own[FORKS];
	unsigned count[FORKS];
	unsigned long long stop_at = 0;
	struct vmm_config cfg = config(&vm, disk.base, disk.layer[0]);
	struct vmm_error text;

	vm_start(&vm, &cfg);
	vm_collect(&vm, 17);
	assert_int_equal(sscanf(vm.text, "%llx", &stop_at), 1);
	for (unsigned i = 0; i < FORKS; i++) {
		struct snap_out out;
		poll(NULL, 0, (int)(5 + 7 * i));
		assert_int_equal(vmm_pause(vm.vmm, &text), 0);
		save(vm.vmm, &out);
		int next = push(vm.vmm, disk.layer[disk.count - 1]);
		count[i] = disk.count;
		own[i] = layer_on(disk.layer[disk.count - 1]);
		child_start(&child[i], vm.vmm, &out, &disk, own[i]);
		disk.layer[disk.count++] = next;
		snap_out_free(&out);
		assert_int_equal(vmm_resume(vm.vmm, &text), 0);
	}
	for (unsigned i = 0; i < FORKS; i++) {
		struct stack below = disk;
		below.count = count[i];
		disk_holds(&below, own[i], run_out(&child[i], stop_at, i % 3 * 10));
		close(own[i]);
	}
	unsigned long long batches = run_out(&vm, stop_at, 10);
	disk.count--;
	disk_holds(&disk, disk.layer[disk.count], batches);
	printf("%llu batches\n", batches);
	disk_unchanged(disk.base);
	for (unsigned i = 0; i <= disk.count; i++)
		close(disk.layer[i]);
	close(disk.base);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(device_state__disk_at_work__children_and_parent_go_on),
	};
	vm_need_kvm();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
