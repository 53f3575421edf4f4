# Tiny guests: freestanding programs for one behaviour each, run on any /dev/kvm (tests/kvm/guest/tiny.h).
GUEST_CFLAGS := -std=c17 -O1 -ffreestanding -nostdlib -static -fno-pie -no-pie -mgeneral-regs-only -mno-red-zone \
                -fno-stack-protector -fcf-protection=none -fno-tree-loop-distribute-patterns -Wall -Wextra -I.
GUEST_SRC := $(wildcard tests/kvm/guest/*.c)
GUESTS    := $(GUEST_SRC:tests/kvm/guest/%.c=$(B)/tests/kvm/guest/%.elf)
.SECONDARY: $(GUESTS)

GUEST_DEPS := tests/kvm/guest/start.S tests/kvm/guest/tiny.ld $(wildcard tests/kvm/guest/*.h)
$(B)/tests/kvm/guest/%.elf: tests/kvm/guest/%.c $(GUEST_DEPS)
	@mkdir -p $(@D)
	gcc $(GUEST_CFLAGS) -Wl,-T,tests/kvm/guest/tiny.ld -Wl,--build-id=none -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments -o $@ tests/kvm/guest/start.S $<

# tests/kvm/*_test.c drive the library, as an embedder would, with these guests.
KVM_SRC := $(wildcard tests/kvm/*_test.c)
KVM     := $(KVM_SRC:tests/kvm/%.c=$(B)/tests/kvm/%)
$(B)/tests/kvm/%: tests/kvm/%.c $(B)/libspore.a $(GUESTS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -DGUEST_DIR='"$(B)/tests/kvm/guest"' -DVMM_PATH='"$(B)/spore-vmm"' -o $@ $< $(KVM_OBJ_$*) $(B)/libspore.a -lcmocka $(VMM_LIBS) -ljansson

# What drives spore-vmm itself speaks its protocol with our own code, which the library does not show.
KVM_OBJ_ctl_test := $(B)/obj/base/ctlsock.o $(B)/obj/base/err.o
$(B)/tests/kvm/ctl_test: $(KVM_OBJ_ctl_test) | $(B)/spore-vmm

# The VMM as it is used, and the snapshot files that it knows nothing of.
$(B)/tests/kvm/pager_test: $(B)/tests/kvm/%: tests/kvm/%.c $(SUP_LIB) $(CORE_LIB) $(GUESTS) | $(B)/spore-vmm
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -DGUEST_DIR='"$(B)/tests/kvm/guest"' -DVMM_PATH='"$(B)/spore-vmm"' -o $@ $< $(SUP_LIB) $(CORE_LIB) -lcmocka $(VMM_LIBS) $(SUP_LIBS)

# These look at parts that the library does not show.
$(B)/tests/kvm/state_test $(B)/tests/kvm/device_state_test: $(B)/tests/kvm/%: tests/kvm/%.c $(CORE_LIB) $(GUESTS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -DGUEST_DIR='"$(B)/tests/kvm/guest"' -o $@ $< $(CORE_LIB) -lcmocka $(VMM_LIBS) -ljansson

.PHONY: kvm-build kvm-tests
kvm-build: $(GUESTS) $(KVM)
kvm-tests: $(KVM)
	@set -e; for t in $(KVM); do $$t; done
