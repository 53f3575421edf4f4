# Benchmarks (docs/BENCH.md): small programs that time processes from outside; bench/run puts them together.
BENCH_BIN := $(B)/bench

# Static: they run in the lab too, and measure nothing of a dynamic linker.
$(BENCH_BIN)/race $(BENCH_BIN)/report: $(BENCH_BIN)/%: bench/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -static-pie -o $@ $< -lm
$(BENCH_BIN)/kvm $(BENCH_BIN)/empty: $(BENCH_BIN)/%: bench/floor/%.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -static-pie -o $@ $<
$(BENCH_BIN)/empty-dynamic: bench/floor/empty.c
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_ALL) -pie -o $@ $<

BENCH_PROGRAMS := $(addprefix $(BENCH_BIN)/,race report kvm empty empty-dynamic)

# FIRECRACKER=PATH names the peer; BENCH_N and BENCH_ONLY as in bench/run.
.PHONY: bench bench-build
bench-build: $(BENCH_PROGRAMS)
bench: all bench-build lab-tools $(B)/tests/kvm/guest/hello.elf $(B)/tests/kvm/guest/quiet.elf
	@bench/run
