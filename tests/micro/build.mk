# Measurements of single parts, without KVM.
$(B)/tests/micro/%: tests/micro/%.c $(CORE_LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -o $@ $< $(CORE_LIB) $(VMM_LIBS)
