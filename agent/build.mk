# The agent: one static musl binary.  Sanitizer variants build it with the host's C library instead,
# so that the tests drive an instrumented agent.
AGENT_WIRE := wire/agent.c
comma := ,
AGENT_DEFS := -std=c17 -D_GNU_SOURCE -DSPORE_VERSION='"$(VERSION)"' $(WARN) $(WERROR) -I. -MMD -MP
# musl-gcc does not see the kernel's headers by itself.
MUSL_FLAGS := -Os -fno-strict-aliasing -fstack-protector-strong -ffunction-sections -fdata-sections \
              -fno-asynchronous-unwind-tables -idirafter /usr/include \
              -idirafter /usr/include/$(shell $(CC) -dumpmachine 2>/dev/null | sed s/-pc-/-/)
AGENT_HOST := $(if $(filter asan tsan fuzz,$(V)),y)

AGENT_OBJ := $(patsubst %.c,$(B)/$(if $(AGENT_HOST),obj,obj/musl)/%.o,$(AGENT_SRC) $(AGENT_WIRE))
AGENT_LIB := $(B)/obj/libagent.a

$(B)/obj/musl/%.o: %.c
	@mkdir -p $(@D)
	$(MUSL_CC) $(AGENT_DEFS) $(MUSL_FLAGS) -c -o $@ $<

$(B)/spore-agent: $(AGENT_OBJ)
	@mkdir -p $(@D)
	$(if $(AGENT_HOST),$(CC) $(SAN) $(LINK) -o $@ $^,\
	$(MUSL_CC) -static -s -Wl$(comma)--gc-sections -o $@ $^)
PROGRAMS += $(B)/spore-agent

# The agent without its main(), for fuzzing its loop.
$(AGENT_LIB): $(patsubst %.c,$(B)/obj/%.o,$(filter-out agent/main.c,$(AGENT_SRC)))
	@rm -f $@
	$(AR) rcs $@ $^

# Tests that drive the real binary.
AGENT_TESTS := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/agent_*_test.c))
$(AGENT_TESTS:%=$(B)/tests/unit/%): $(B)/spore-agent
$(foreach t,$(AGENT_TESTS),$(eval UNIT_CFLAGS_$(t) := -DAGENT_PATH='"$(B)/spore-agent"'))
build/fuzz/tests/fuzz/agent_fuzz: $(AGENT_LIB)
build/fuzz/tests/fuzz/agent_fuzz: SUP_LIBS := $(AGENT_LIB) $(CORE_LIB) $(SUP_LIBS)
