# Stand-ins for programs that need KVM, for tests that run on any machine.
FAKES := $(B)/tests/fake/vmm
$(B)/tests/fake/vmm: tests/fake/vmm.c tests/fake/ctl.c tests/fake/ctl.h $(CORE_LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -o $@ $(filter %.c,$^) $(CORE_LIB) $(VMM_LIBS)

unit-build: $(FAKES)
