# Stand-ins for programs that need KVM, for tests that run on any machine.
FAKES := $(B)/tests/fake/vmm
$(B)/tests/fake/%: tests/fake/%.c $(CORE_LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -o $@ $< $(CORE_LIB) $(VMM_LIBS)

unit-build: $(FAKES)
