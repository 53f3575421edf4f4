/* SPDX-License-Identifier: Apache-2.0 */
/*
 * codec.h - putting a machine's state together and taking it apart (wire/snap.h)
 *
 * Out: sections are appended to one growing buffer; the first failure sticks, so that a saver puts all it has
 * and the error is looked at once, in snap_out_finish().
 * In: snap_in_open() checks the whole envelope before anything is looked at; payloads are checked by who
 * takes them, all of them before any is applied.
 *
 * Thread: any; one caller an object.
 */
#ifndef SPORE_SNAPSHOT_CODEC_H
#define SPORE_SNAPSHOT_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "wire/snap.h"

struct snap_out {
	uint8_t *buf;
	size_t len, cap;
	struct snap_section *section;
	uint32_t count;
	int err; /* the first one */
};

/* One large allocation, kept for all that a machine of usual size has.  0 or -ENOMEM. */
int snap_out_init(struct snap_out *out);
void snap_out_free(struct snap_out *out);
/* Begins again with what is allocated. */
void snap_out_reset(struct snap_out *out);

/*
 * snap_put() - append a section
 * Return: its payload, `len` zeroed bytes to be filled before the next call on `out`; NULL when the state is
 * full or memory is short: nothing more need be done.
 */
void *snap_put(struct snap_out *out, uint32_t tag, uint32_t version, uint32_t instance, size_t len);

/* Cuts the last section to `len` bytes: for payloads whose length shows while they are made. */
void snap_put_cut(struct snap_out *out, size_t len);

/*
 * snap_out_finish() - table, lengths, checksum
 * The bytes are buf[0..len).  Nothing can be put afterwards but after snap_out_reset().
 * Return: 0; -ENOMEM; -E2BIG more than SNAP_STATE_MAX bytes or SNAP_SECTION_MAX sections.
 */
int snap_out_finish(struct snap_out *out, struct errmsg *why) __attribute__((warn_unused_result));

struct snap_in {
	const uint8_t *blob; /* the caller's, private to it, unchanged while `in` is used */
	const struct snap_section *table;
	uint32_t count;
};

/*
 * snap_in_open() - check an envelope
 * @blob: aligned to 8
 * Return: 0; -EBADMSG with what is wrong: not a state, another version, damaged, cut short, sections outside,
 * over each other, or twice the same.
 */
int snap_in_open(struct snap_in *in, const void *blob, size_t len, struct errmsg *why)
	__attribute__((warn_unused_result));

/* A section's payload in place, or NULL.  @version, @len: out, may not be NULL. */
const void *snap_find(const struct snap_in *in, uint32_t tag, uint32_t instance, uint32_t *version,
		      size_t *len);

/*
 * snap_take() - copy a section of one fixed struct
 * Return: 0; -EBADMSG absent, another version, another length.
 */
int snap_take(const struct snap_in *in, uint32_t tag, uint32_t version, uint32_t instance, void *to,
	      size_t len, struct errmsg *why) __attribute__((warn_unused_result));

/* How many sections have that tag. */
uint32_t snap_count(const struct snap_in *in, uint32_t tag);

/* "VCPU"; bytes that are no letters or digits are shown as dots. */
struct snap_tag_text {
	char text[5];
};
struct snap_tag_text snap_tag_text(uint32_t tag);

#endif
