/* SPDX-License-Identifier: Apache-2.0 */
/* Entry of a tiny guest: long mode, identity map of 4 GiB, rsi = zero page (Linux 64-bit boot protocol). */
	.section .note.GNU-stack, "", @progbits
	.section .text.start, "ax"
	.globl _start
_start:
	lea	stack_top(%rip), %rsp
	xor	%ebp, %ebp
	mov	%rsi, %rdi
	call	guest_main
	/* The 8042's reset command ends the VM. */
	mov	$0xfe, %al
	out	%al, $0x64
1:	hlt
	jmp	1b

	.bss
	.balign	16
	.skip	16384
stack_top:
