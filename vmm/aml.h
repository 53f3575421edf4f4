/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aml.h - write ACPI machine language: just the terms that describe devices
 *
 * A writer into a fixed buffer (bytes_out): what does not fit sets out->full.  A block is opened by a
 * function that returns where it began and closed by aml_end(), which puts the length in.
 * Thread: ctl.  Source: ACPI 6.5, 20.2 (AML), 6.4 (resource descriptors).
 */
#ifndef SPORE_VMM_AML_H
#define SPORE_VMM_AML_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* Names are four characters, padded with '_'. */
size_t aml_scope(struct bytes_out *out, const char *root_name); /* Scope(\NAME) */
size_t aml_device(struct bytes_out *out, const char name[static 4]);
void aml_end(struct bytes_out *out, size_t begin);

void aml_name_int(struct bytes_out *out, const char name[static 4], uint64_t val);
void aml_name_str(struct bytes_out *out, const char name[static 4], const char *val);
/* Name(NAME, EisaId("PNP0501")): three letters, four hexadecimal digits. */
void aml_name_eisa(struct bytes_out *out, const char name[static 4], const char id[static 7]);
/* Name(NAME, Package () {...}) of integers. */
void aml_name_package(struct bytes_out *out, const char name[static 4], const uint64_t *val,
		      uint8_t count);
/* Method(NAME, args, Serialized), closed by aml_end(). */
size_t aml_method(struct bytes_out *out, const char name[static 4], unsigned args);
/* Notify(\SCOPE.NAME, value) */
void aml_notify(struct bytes_out *out, const char scope[static 4], const char name[static 4],
		uint8_t value);

/* Resources of a device: collected into a buffer, then written as Name(_CRS, ResourceTemplate () {...}). */
#define AML_CRS_MAX 64 /* bytes */
struct aml_crs {
	uint8_t raw[AML_CRS_MAX];
	struct bytes_out out;
};
void aml_crs_init(struct aml_crs *crs);
void aml_crs_memory32(struct aml_crs *crs, uint32_t addr, uint32_t size); /* read-write */
void aml_crs_io(struct aml_crs *crs, uint16_t port, uint8_t size);
void aml_crs_interrupt(struct aml_crs *crs, uint32_t gsi); /* edge, active high, exclusive */
void aml_name_crs(struct bytes_out *out, struct aml_crs *crs);

#endif
