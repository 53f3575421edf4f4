# Measurements of single parts, without KVM.
$(B)/tests/micro/%: tests/micro/%.c $(CORE_LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -o $@ $< $(CORE_LIB) $(VMM_LIBS)

# Snapshot files are the supervisor's (Makefile).
$(B)/tests/micro/snap: tests/micro/snap.c $(SUP_LIB) $(CORE_LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -o $@ $< $(SUP_LIB) $(CORE_LIB) $(VMM_LIBS) $(SUP_LIBS)
