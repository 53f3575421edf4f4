/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acpi.h - describe the machine to the guest: hardware-reduced ACPI
 *
 * RSDP, XSDT, FADT, MADT and a DSDT, all in one go from LAYOUT_ACPI.  "Hardware-reduced" (no PM timer, no
 * SCI, no legacy PIC and PIT) is what lets Linux skip their probing; the FADT also says that there is no
 * VGA, no CMOS clock and no keyboard controller to look for, while its reset register is that
 * controller's port.  The same input gives the same bytes.
 *
 * Thread: ctl, before any vCPU runs.
 * Source: ACPI 6.5, 5.2 (tables); devices named as Linux' virtio_mmio driver knows them ("LNRO0005").
 */
#ifndef SPORE_VMM_ACPI_H
#define SPORE_VMM_ACPI_H

#include <stdint.h>

#include "base/err.h"
#include "base/gmem.h"

enum acpi_com1 { ACPI_NO_COM1, ACPI_HAS_COM1 };
enum acpi_generation { ACPI_NO_GENERATION, ACPI_HAS_GENERATION }; /* vmgenid.h */

struct acpi_config {
	unsigned cpus;         /* 1..VMM_CPUS_MAX; APIC id = index */
	unsigned virtio_count; /* 0..LAYOUT_VIRTIO_MAX; device n where layout.h puts it */
	enum acpi_com1 com1;
	enum acpi_generation generation;
	uint16_t
		sleep_port; /* sleep control register, status in the next port; 0: none, no power-off */
};

/*
 * acpi_write() - write all tables
 * @rsdp: out: address of the RSDP (LAYOUT_ACPI)
 * Return: 0; -EINVAL a count out of bounds; -EFAULT guest memory smaller than 1 MiB.
 */
int acpi_write(const struct gmem *gm, const struct acpi_config *cfg, uint64_t *rsdp,
	       struct errmsg *why) __attribute__((warn_unused_result));

/* A write to the sleep control register with this bit puts the machine to sleep: only S5, off, is known. */
#define ACPI_SLEEP_ENABLE 0x20u

#endif
