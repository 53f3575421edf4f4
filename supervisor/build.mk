# spore: the command line.  It links the whole library; what it asks of KVM goes through libvmm.h only.
SUP_LIBS += -larchive -lcrypto

SPORE_LINK := $(filter-out -static-pie,$(LINK)) -pie

PROGRAMS += $(B)/spore
$(B)/spore: $(B)/obj/supervisor/cli/main.o $(SUP_LIB) $(CORE_LIB)
	$(CC) $(SAN) $(SPORE_LINK) -o $@ $^ $(VMM_LIBS) $(SUP_LIBS) -pthread

# Copies are tested against the real agent.
UNIT_CFLAGS_copy_test := -DAGENT_PATH='"$(B)/spore-agent"'
$(B)/tests/unit/copy_test: | $(B)/spore-agent
