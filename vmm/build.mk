# spore-vmm: one process per VM.
PROGRAMS += $(if $(wildcard vmm/main.c),$(B)/spore-vmm)
$(B)/spore-vmm: $(B)/obj/vmm/main.o $(CORE_LIB)
	$(CC) $(SAN) $(LINK) -o $@ $^ $(VMM_LIBS) -ljansson -pthread
