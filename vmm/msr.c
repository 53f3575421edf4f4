/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/msr.h"

#include "base/cleanup.h"

struct msr_range {
	uint32_t first, last;
};

/* Names: Intel SDM vol. 4, AMD APM vol. 2 appendix A, Linux Documentation/virt/kvm/x86/msr.rst. */
static const struct msr_range state[] = {
	{0x3a, 0x3b},             /* FEATURE_CONTROL, TSC_ADJUST */
	{0x48, 0x48},             /* SPEC_CTRL */
	{0xe1, 0xe1},             /* UMWAIT_CONTROL */
	{0x122, 0x122},           /* TSX_CTRL */
	{0x140, 0x140},           /* MISC_FEATURES_ENABLES */
	{0x174, 0x176},           /* SYSENTER_CS, ESP, EIP */
	{0x17a, 0x17a},           /* MCG_STATUS */
	{0x1a0, 0x1a0},           /* MISC_ENABLE */
	{0x1c4, 0x1c5},           /* XFD, XFD_ERR */
	{0x1d9, 0x1d9},           /* DEBUGCTL */
	{0x200, 0x20f},           /* MTRR_PHYSBASE, PHYSMASK 0..7 */
	{0x250, 0x250},           /* MTRR_FIX64K */
	{0x258, 0x259},           /* MTRR_FIX16K */
	{0x268, 0x26f},           /* MTRR_FIX4K */
	{0x277, 0x277},           /* PAT */
	{0x2ff, 0x2ff},           /* MTRR_DEF_TYPE */
	{0x6e0, 0x6e0},           /* TSC_DEADLINE */
	{0xd90, 0xd90},           /* BNDCFGS */
	{0xda0, 0xda0},           /* XSS */
	{0x4b564d00, 0x4b564d07}, /* KVM: clocks, asynchronous faults, steal time, EOI, polling */
	{0xc0000081, 0xc0000084}, /* STAR, LSTAR, CSTAR, SFMASK; EFER, FS and GS base are SREGS */
	{0xc0000102, 0xc0000103}, /* KERNEL_GS_BASE, TSC_AUX */
	{0xc0010015, 0xc0010015}, /* K7_HWCR */
	{0xc001011f, 0xc001011f}, /* VIRT_SPEC_CTRL */
};

static const uint32_t unlisted[] = {
	0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209,
	0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f, 0x250, 0x258, 0x259, 0x268,
	0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f, 0x2ff, 0xda0, 0xc0000103,
};

bool msr_is_state(uint32_t index)
{
	for (unsigned i = 0; i < ARRAY_LEN(state); i++)
		if (index >= state[i].first && index <= state[i].last)
			return true;
	return false;
}

uint32_t msr_unlisted(unsigned n)
{
	return n < ARRAY_LEN(unlisted) ? unlisted[n] : 0;
}

static uint64_t rank(uint32_t index)
{
	return index == MSR_TSC_DEADLINE ? UINT64_MAX : index;
}

int msr_order(uint32_t a, uint32_t b)
{
	return (rank(a) > rank(b)) - (rank(a) < rank(b));
}
