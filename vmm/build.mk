# spore-vmm: one process per VM.  libspore.a: the same as a library, with vmm/libvmm.h as its only door.
PROGRAMS += $(if $(wildcard vmm/main.c),$(B)/spore-vmm) $(B)/libspore.a
$(B)/spore-vmm: $(B)/obj/vmm/main.o $(CORE_LIB)
	$(CC) $(SAN) $(LINK) -o $@ $^ $(VMM_LIBS) -ljansson -pthread

# One relocatable object in which only vmm_* is global: no other name of ours can clash with an embedder's.
$(B)/libspore.a: $(CORE_OBJ)
	$(LD) -r -o $(B)/obj/libspore.o $^
	$(OBJCOPY) --wildcard --keep-global-symbol='vmm_*' $(B)/obj/libspore.o
	@rm -f $@
	$(AR) rcs $@ $(B)/obj/libspore.o

# System call filters: BPF programs made from vmm/gen/rules.h by libseccomp, at build time only.
$(B)/gen/mkfilter: vmm/gen/mkfilter.c vmm/gen/rules.h
	@mkdir -p $(@D)
	$(CC) $(filter-out -fsanitize% -fno-sanitize%,$(CFLAGS_ALL)) -o $@ $< -lseccomp
$(B)/gen/seccomp_filters.h: $(B)/gen/mkfilter
	$< > $@.part && mv $@.part $@
$(B)/obj/vmm/sandbox_seccomp.o: $(B)/gen/seccomp_filters.h
$(B)/obj/vmm/sandbox_seccomp.o: CFLAGS_ALL += -I$(B)/gen
