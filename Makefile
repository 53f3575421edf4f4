# Spore: sandboxes in microVMs.  `make help` lists what can be made.
.DEFAULT_GOAL := all
MAKEFLAGS += --no-builtin-rules
.SUFFIXES:

CC       ?= gcc
ifeq ($(origin CC),default)
CC       := gcc
endif
MUSL_CC  ?= musl-gcc
AR       ?= ar
OBJCOPY  ?= objcopy
PREFIX   ?= /usr/local
VERSION  := 0.1.0

# Variants build beside the plain one: make V=asan, V=tsan, V=clang (see "variants").
V ?=
B := build$(if $(V),/$(V))

WARN := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes \
        -Wvla -Wcast-qual -Wundef -Wformat=2
WERROR ?= $(if $(CI),-Werror)
OPT     := -O2 -g -fno-strict-aliasing -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fvisibility=hidden -fPIE \
           -ffunction-sections -fdata-sections
DEFS    := -D_GNU_SOURCE -DSPORE_VERSION='"$(VERSION)"'
LINK    := -static-pie -Wl,--gc-sections -Wl,-z,relro,-z,now

# variants
ifeq ($(V),asan)
CC   := clang
SAN  := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT  := -O1 -g -fno-strict-aliasing -fPIE
LINK := -pie
endif
ifeq ($(V),tsan)
CC   := clang
SAN  := -fsanitize=thread
OPT  := -O1 -g -fno-strict-aliasing -fPIE
LINK := -pie
endif
ifeq ($(V),clang)
CC   := clang
endif
ifeq ($(V),fuzz)
CC   := clang
SAN  := -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT  := -O1 -g -fno-strict-aliasing -fPIE
LINK := -pie
endif

CFLAGS_ALL := -std=c17 $(DEFS) $(WARN) $(WERROR) $(OPT) $(SAN) -I. -MMD -MP -pthread $(CFLAGS)

# --- what is built from what --------------------------------------------------------------------
# One folder, one floor (docs/DESIGN.md).  main.c files are programs and stay out of the archive.
CORE_SRC  := $(filter-out %/main.c,$(wildcard wire/*.c base/*.c snapshot/*.c devices/*.c vmm/*.c))
SUP_SRC   := $(filter-out %/main.c,$(wildcard supervisor/*/*.c))
AGENT_SRC := $(wildcard agent/*.c)

CORE_OBJ  := $(CORE_SRC:%.c=$(B)/obj/%.o)
SUP_OBJ   := $(SUP_SRC:%.c=$(B)/obj/%.o)
CORE_LIB  := $(B)/obj/libcore.a
SUP_LIB   := $(B)/obj/libsup.a

# liburing 2.3's shared object forgets io_uring_enable_rings in its version map: link the archive.
VMM_LIBS  := -l:liburing.a
SUP_LIBS  := -ljansson

include $(wildcard build/rules/*.mk) $(sort $(wildcard */build.mk */*/build.mk))

.PHONY: all
all: $(PROGRAMS)

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -c -o $@ $<

$(CORE_LIB): $(CORE_OBJ)
	@mkdir -p $(@D) && rm -f $@
	$(AR) rcs $@ $^
$(SUP_LIB): $(SUP_OBJ)
	@mkdir -p $(@D) && rm -f $@
	$(AR) rcs $@ $^

-include $(shell find $(B)/obj $(B)/tests -name '*.d' 2>/dev/null)

# --- unit tests: tests/unit/*_test.c, cmocka, no KVM --------------------------------------------
UNIT_SRC := $(wildcard tests/unit/*_test.c)
UNIT     := $(UNIT_SRC:tests/unit/%.c=$(B)/tests/unit/%)
$(B)/tests/unit/%: tests/unit/%.c $(SUP_LIB) $(CORE_LIB)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) $(UNIT_CFLAGS_$*) -o $@ $< $(SUP_LIB) $(CORE_LIB) -lcmocka $(VMM_LIBS) $(SUP_LIBS)

.PHONY: unit
unit: $(UNIT)
	@set -e; for t in $(UNIT); do $$t; done

# --- fuzz targets: tests/fuzz/*_fuzz.c, libFuzzer, corpus in tests/fuzz/corpus/NAME -------------
FUZZ_SRC := $(wildcard tests/fuzz/*_fuzz.c)
FUZZ     := $(FUZZ_SRC:tests/fuzz/%.c=build/fuzz/tests/fuzz/%)
build/fuzz/tests/fuzz/%: tests/fuzz/%.c $(if $(filter fuzz,$(V)),$(SUP_LIB) $(CORE_LIB))
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -fsanitize=fuzzer -o $@ $< $(SUP_LIB) $(CORE_LIB) $(VMM_LIBS) $(SUP_LIBS)
.PHONY: fuzz-build
fuzz-build:
	$(MAKE) V=fuzz $(FUZZ)

.PHONY: lint
lint:
	tests/lint/layers.sh
	git ls-files '*.c' '*.h' | xargs clang-format --dry-run --Werror

.PHONY: format
format:
	git ls-files '*.c' '*.h' | xargs clang-format -i

.PHONY: clean
clean:
	rm -rf build
