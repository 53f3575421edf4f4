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
LD       := ld
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
# Snapshot files are the supervisor's: what a VMM links, and libspore.a, needs no compression.
IMAGE_SRC := $(wildcard snapshot/image*.c snapshot/pager.c)
CORE_SRC  := $(filter-out %/main.c $(IMAGE_SRC),$(wildcard wire/*.c base/*.c snapshot/*.c devices/*.c vmm/*.c))
SUP_SRC   := $(filter-out %/main.c,$(wildcard supervisor/*/*.c)) $(IMAGE_SRC)
AGENT_SRC := $(wildcard agent/*.c)

CORE_OBJ  := $(CORE_SRC:%.c=$(B)/obj/%.o)
SUP_OBJ   := $(SUP_SRC:%.c=$(B)/obj/%.o)
CORE_LIB  := $(B)/obj/libcore.a
SUP_LIB   := $(B)/obj/libsup.a

# liburing 2.3's shared object forgets io_uring_enable_rings in its version map: link the archive.
VMM_LIBS  := -l:liburing.a
SUP_LIBS  := -ljansson -llz4

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

.PHONY: unit unit-build
unit-build: $(UNIT)
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

# Each target for FUZZ_SECONDS, from the corpus in the tree; findings land in build/fuzz/.
FUZZ_SECONDS ?= 60
.PHONY: fuzz
fuzz: fuzz-build
	@set -e; for t in $(FUZZ); do \
		name=$$(basename $$t _fuzz); mkdir -p build/fuzz/corpus/$$name tests/fuzz/corpus/$$name; \
		echo "fuzz $$name, $(FUZZ_SECONDS) s"; \
		$$t -max_total_time=$(FUZZ_SECONDS) -timeout=20 -rss_limit_mb=2048 -artifact_prefix=build/fuzz/$$name- \
			build/fuzz/corpus/$$name tests/fuzz/corpus/$$name >build/fuzz/$$name.log 2>&1 || \
			{ tail -n 40 build/fuzz/$$name.log; exit 1; }; \
		tail -n 1 build/fuzz/$$name.log; \
	done

# --- checks -------------------------------------------------------------------------------------
.PHONY: lint
lint:
	@tests/run lint

.PHONY: format
format:
	git ls-files '*.c' '*.h' | xargs clang-format -i

# A line before each step, so that nobody wonders what takes long.
STEP = @echo "== $(1)"

.PHONY: check
check:
	@guest/setup/packages ensure
	$(call STEP,build: gcc and clang without warnings)
	@$(MAKE) -s -j2 CI=1 all unit-build kvm-build lab-tools
	@$(MAKE) -s -j2 CI=1 V=clang all
	$(call STEP,build: tests with address and undefined-behaviour and thread sanitizers)
	@$(MAKE) -s -j2 CI=1 V=asan all unit-build
	@$(MAKE) -s -j2 CI=1 V=tsan unit-build
	$(call STEP,guest: kernel and initramfs and image)
	@$(MAKE) -s guest guest-image
	$(call STEP,tests)
	@tests/run lint unit asan tsan kvm host linux

.PHONY: demo
demo:
	@guest/setup/packages ensure
	$(call STEP,build)
	@$(MAKE) -s -j2 all lab-tools
	$(call STEP,guest: kernel and initramfs and image)
	@$(MAKE) -s guest guest-image
	$(call STEP,demo)
	@tests/e2e/where-linux-runs tests/e2e/demo

.PHONY: clean
clean:
	rm -rf build

.PHONY: help
help:
	@echo "make            build into build/"
	@echo "make demo       set up, build, and show programs running inside a microVM"
	@echo "make check      set up, build, and run every test this machine can run"
	@echo "make lint       layers, format, static analysis"
	@echo "make fuzz       each fuzz target for FUZZ_SECONDS (60)"
	@echo "make bench      benchmarks, to JSON and a table"
	@echo "make install    PREFIX=$(PREFIX) DESTDIR="
	@echo "make V=clang|asan|tsan|fuzz ...   the same in a variant, below build/V/"
