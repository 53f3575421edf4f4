# Tools of the lab (tests/lab/README.md): plain static programs, the same for every variant.
LAB_TOOLS := $(patsubst %,build/lab/bin/%,labd labc labkeep hold tiny cgrun)

build/lab/bin/%: tests/lab/%.c tests/lab/proto.h
	@mkdir -p $(@D)
	$(CC) -std=c17 $(DEFS) $(WARN) $(WERROR) -O2 -static -I. -o $@.$$$$ $< && mv $@.$$$$ $@

.PHONY: lab-tools lab-boots lab-selftest
lab-tools: $(LAB_TOOLS)
lab-boots:
	tests/lab/boots
lab-selftest:
	tests/lab/selftest
