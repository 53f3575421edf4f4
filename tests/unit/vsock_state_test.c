/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock saved in one machine and loaded into another: the child's guest gets one reset event and
 * nothing before it has taken it; the parent's notices nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/vsock_host.h"
#include "wire/snap_dev.h"

static void save(struct vg *g, struct snap_out *out)
{
	struct errmsg why = {""};

	assert_int_equal(snap_out_init(out), 0);
	mmio_quiesce(g->mmio);
	mmio_save(g->mmio, out, 0);
	if (snap_out_finish(out, &why))
		fail_msg("%s", why.text);
}

static int load(struct vg *g, const struct snap_out *out, struct errmsg *why)
{
	struct snap_in in;

	*why = (struct errmsg){""};
	assert_int_equal(snap_in_open(&in, out->buf, out->len, why), 0);
	return mmio_load(g->mmio, &in, 0, why);
}

/* Another machine with a copy of `from`'s guest; its device is loaded and does not run yet. */
static struct vg *child_of(const struct vg *from, const struct snap_out *out)
{
	struct vg *g = vg_create(0);
	struct errmsg why;

	memcpy(g->vd.mem, from->vd.mem, from->vd.size);
	memcpy(g->vd.q, from->vd.q, sizeof(g->vd.q));
	memcpy(g->conn, from->conn, sizeof(g->conn));
	g->count = from->count;
	g->auto_accept = from->auto_accept;
	if (load(g, out, &why))
		fail_msg("%s", why.text);
	return g;
}

static struct vg *fork_of(struct vg *g)
{
	struct snap_out out;

	save(g, &out);
	struct vg *child = child_of(g, &out);
	snap_out_free(&out);
	return child;
}

static void take_event(struct vg *g)
{
	vg_give_event(g, 0); /* as Linux does when it has handled it */
	vd_kick(g->mmio, 2);
}

/* A client waits in vain: nothing reaches the guest. */
static int client_is_gated(struct vg *g)
{
	uint64_t packets = g->packets;
	int fd = vg_client(g);

	say(fd, "CONNECT 52\n");
	vg_settle(g);
	assert_int_equal(g->packets, packets);
	return fd;
}

static void vsock_load__connections_open__one_reset_then_new_ones(void **state)
{
	struct vg *g = *state;
	struct vg_conn *c;
	int fd = host_open(g, VSOCK_HOST_PORT, &c);
	struct vg *child = fork_of(g);

	assert_int_equal(conns(child), 0);
	assert_int_equal(child->events, 0);
	mmio_unquiesce(child->mmio);
	vg_settle(child);
	assert_int_equal(child->events, 1);
	assert_int_equal(child->event_id, VSOCK_EVENT_TRANSPORT_RESET);
	int late = client_is_gated(child);
	take_event(child);
	expect_ok(child, late, VSOCK_HOST_PORT + 1); /* the parent's port is not used again */
	vg_settle(child);
	assert_int_equal(child->events, 1);

	mmio_unquiesce(g->mmio);
	say(fd, "still here");
	VG_UNTIL(g, c->got == 10);
	assert_memory_equal(c->last, "still here", 10);
	assert_int_equal(g->events, 0);
	vg_destroy(child);
	close(late);
	close(fd);
}

static void vsock_load__saved_before_event_taken__still_gated_no_second_event(void **state)
{
	struct vg *g = *state, *child = fork_of(g);

	mmio_unquiesce(child->mmio);
	vg_settle(child);
	assert_int_equal(child->events, 1);
	struct vg *grandchild = fork_of(child);
	mmio_unquiesce(grandchild->mmio);
	int late = client_is_gated(grandchild);
	assert_int_equal(grandchild->events,
			 0); /* it lies in the guest's ring since its parent's time */
	take_event(grandchild);
	expect_ok(grandchild, late, VSOCK_HOST_PORT);
	vg_destroy(grandchild);
	vg_destroy(child);
	close(late);
}

/* A guest without a buffer for the event: it stays owed, over any number of captures. */
static void vsock_load__no_event_buffer__owed_on(void **state)
{
	(void)state;
	struct vg *g = vg_create(0);

	g->auto_accept = PORT;
	vd_start(&g->vd, g->mmio, VG_FEATURES, 3, VQ_SIZE_MAX);
	for (unsigned i = 0; i < g->rx_count; i++)
		vg_give_rx(g, i);
	vg_settle(g);
	for (unsigned i = 0; i < 3; i++) {
		struct vg *child = fork_of(g);
		mmio_unquiesce(child->mmio);
		vg_settle(child);
		assert_int_equal(child->events, 0);
		vg_destroy(g);
		g = child;
	}
	int late = client_is_gated(g);
	take_event(g);
	VG_UNTIL(g, g->events == 1);
	vg_settle(g);
	take_event(g);
	expect_ok(g, late, VSOCK_HOST_PORT);
	vg_destroy(g);
	close(late);
}

static void vsock_load__no_driver_yet__owes_nothing(void **state)
{
	(void)state;
	struct vg *g = vg_create(0), *child = fork_of(g);

	child->auto_accept = PORT;
	mmio_unquiesce(child->mmio);
	vg_start(child, VG_FEATURES);
	assert_int_equal(child->events, 0);
	struct vg_conn *c;
	close(host_open(child, VSOCK_HOST_PORT, &c));
	vg_destroy(child);
	vg_destroy(g);
}

static void refused(const struct vg *from, const struct snap_out *good,
		    const struct snap_vsock *saved, const char *text)
{
	struct snap_out out;
	struct snap_in in;
	struct errmsg why = {""};
	uint32_t version;
	size_t len;

	assert_int_equal(snap_out_init(&out), 0);
	assert_int_equal(snap_in_open(&in, good->buf, good->len, &why), 0);
	const void *mmio = snap_find(&in, SNAP_MMIO, 0, &version, &len);
	memcpy(snap_put(&out, SNAP_MMIO, version, 0, len), mmio, len);
	memcpy(snap_put(&out, SNAP_VSOCK, SNAP_DEV_VERSION, 0, sizeof(*saved)), saved,
	       sizeof(*saved));
	assert_int_equal(snap_out_finish(&out, &why), 0);
	struct vg *g = vg_create(0);
	memcpy(g->vd.mem, from->vd.mem, from->vd.size);
	assert_int_equal(load(g, &out, &why), -EBADMSG);
	assert_string_equal(why.text, text);
	snap_out_free(&out);
	vg_destroy(g);
}

static void vsock_load__hostile__refused_by_name(void **state)
{
	struct vg *g = *state;
	struct snap_out out;
	const struct snap_vsock good = {.guest_cid = VG_CID, .next_port = VSOCK_HOST_PORT};
	struct snap_vsock bad;

	save(g, &out);
	bad = good, bad.guest_cid = 9;
	refused(g, &out, &bad, "device vsock: the saved guest has CID 9, this one 3: Bad message");
	bad = good, bad.next_port = 1;
	refused(g, &out, &bad, "device vsock: the saved host port 1 cannot be: Bad message");
	bad = good, bad.next_port = VSOCK_HOST_PORT * 2;
	refused(g, &out, &bad,
		"device vsock: the saved host port 2147483648 cannot be: Bad message");
	bad = good, bad.event = 3;
	refused(g, &out, &bad, "device vsock: the saved reset event cannot be: Bad message");
	bad = good, bad.gate_idx = 3;
	refused(g, &out, &bad, "device vsock: the saved reset event cannot be: Bad message");
	bad = good, bad.flags = 2;
	refused(g, &out, &bad, "device vsock: the saved vsock has unknown parts: Bad message");
	bad = good, bad.rsvd = 1;
	refused(g, &out, &bad, "device vsock: the saved vsock has unknown parts: Bad message");
	snap_out_free(&out);
}

static void vsock_set_host__none_then_one__clients_come_there(void **state)
{
	struct vg *g = *state;
	struct errmsg why;
	struct vg_conn *c;
	char path[128];
	int fd = host_open(g, VSOCK_HOST_PORT, &c);
	char too_long[VSOCK_PATH_MAX + 1];

	memset(too_long, 'x', VSOCK_PATH_MAX);
	too_long[VSOCK_PATH_MAX] = '\0';
	assert_int_equal(vsock_set_host(g->dev, -1, too_long, &why), -ENAMETOOLONG);
	assert_int_equal(vsock_set_host(g->dev, -1, NULL, &why), 0);
	say(fd, "kept"); /* what is connected stays */
	VG_UNTIL(g, c->got == 4);
	struct vg_conn *out = vg_track(g, 2000, 80);
	vg_send(g, out, VSOCK_OP_REQUEST, 0, NULL, 0);
	VG_UNTIL(g, saw(out, VSOCK_OP_RST)); /* no path: refused */

	snprintf(path, sizeof(path), "%s-new", g->path);
	int listener = vg_listener(path, 8);
	memcpy(g->path, path, sizeof(g->path));
	assert_int_equal(vsock_set_host(g->dev, listener, path, &why), 0);
	close(host_open(g, VSOCK_HOST_PORT + 1, &c));
	int web = host_listener(g, 80), in;
	vg_open(g, 2001, 80, web, &in);
	close(in);
	close(web);
	close(fd);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(vsock_load__connections_open__one_reset_then_new_ones),
		T(vsock_load__saved_before_event_taken__still_gated_no_second_event),
		cmocka_unit_test(vsock_load__no_event_buffer__owed_on),
		cmocka_unit_test(vsock_load__no_driver_yet__owes_nothing),
		T(vsock_load__hostile__refused_by_name),
		T(vsock_set_host__none_then_one__clients_come_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
