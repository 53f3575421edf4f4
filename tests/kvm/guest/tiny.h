/* SPDX-License-Identifier: Apache-2.0 */
/* tiny.h - what a tiny guest needs: ports, memory-mapped registers, a serial line. */
#ifndef SPORE_TESTS_TINY_H
#define SPORE_TESTS_TINY_H

#include <stddef.h>
#include <stdint.h>

#define COM1 0x3f8

static inline void outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t v;
	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline uint32_t mmio_load(uint64_t at)
{
	return *(volatile uint32_t *)at;
}

static inline void mmio_store(uint64_t at, uint32_t v)
{
	*(volatile uint32_t *)at = v;
}

static inline void put_char(char c)
{
	outb(COM1, (uint8_t)c);
}

static inline void put_text(const char *s)
{
	while (*s)
		put_char(*s++);
}

static inline void put_hex(uint64_t v)
{
	for (int shift = 60; shift >= 0; shift -= 4)
		put_char("0123456789abcdef"[v >> shift & 15]);
}

void guest_main(const void *zero_page);

#endif
