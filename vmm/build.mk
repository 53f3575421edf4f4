# spore-vmm: one process per VM.
PROGRAMS += $(B)/spore-vmm
$(B)/spore-vmm: $(B)/obj/vmm/main.o $(CORE_LIB)
	$(CC) $(SAN) $(LINK) -o $@ $^ $(VMM_LIBS) -ljansson -pthread
