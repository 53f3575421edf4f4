# Manual pages (scdoc), shell completion, and make install / uninstall (PREFIX, DESTDIR).
MAN_SRC := $(wildcard docs/man/*.scd)
MAN     := $(MAN_SRC:docs/man/%.scd=$(B)/man/%)

$(B)/man/%: docs/man/%.scd
	@mkdir -p $(@D)
	scdoc <$< >$@.part && mv $@.part $@

$(B)/completion/%: $(B)/spore
	@mkdir -p $(@D)
	$< completion $* >$@.part && mv $@.part $@

.PHONY: man
man: $(MAN)

D := $(DESTDIR)$(PREFIX)
INSTALL_BIN  := spore spore-vmm
INSTALL_LIB  := spore-agent
INSTALL_GUEST := agent.cpio vmlinux
INSTALL_RECIPE := $(shell find guest/image guest/setup/cache.sh guest/setup/cache -type f)

# What make and make guest have built; the guest's kernel is left out where it has not been built.
.PHONY: install uninstall
install: all man $(B)/completion/bash $(B)/completion/zsh guest-agent
	install -d $(D)/bin $(D)/lib/spore $(D)/lib/pkgconfig $(D)/include
	install -m 755 $(INSTALL_BIN:%=$(B)/%) $(D)/bin/
	install -m 755 $(INSTALL_LIB:%=$(B)/%) $(D)/lib/spore/
	for f in $(INSTALL_GUEST); do [ ! -e $(GUEST)/$$f ] || install -m 644 $(GUEST)/$$f $(D)/lib/spore/; done
	for f in $(INSTALL_RECIPE); do install -D $$f $(D)/lib/spore/$$f || exit 1; done
	install -m 644 $(B)/libspore.a $(D)/lib/
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' vmm/libspore.pc.in >$(D)/lib/pkgconfig/libspore.pc
	chmod 644 $(D)/lib/pkgconfig/libspore.pc
	install -m 644 vmm/libvmm.h $(D)/include/
	for f in $(MAN); do install -D -m 644 $$f $(D)/share/man/man$${f##*.}/$${f##*/} || exit 1; done
	install -D -m 644 $(B)/completion/bash $(D)/share/bash-completion/completions/spore
	install -D -m 644 $(B)/completion/zsh $(D)/share/zsh/site-functions/_spore

uninstall:
	rm -f $(INSTALL_BIN:%=$(D)/bin/%) $(D)/lib/libspore.a $(D)/lib/pkgconfig/libspore.pc $(D)/include/libvmm.h
	rm -f $(foreach f,$(notdir $(MAN)),$(D)/share/man/man$(lastword $(subst ., ,$(f)))/$(f))
	rm -f $(D)/share/bash-completion/completions/spore $(D)/share/zsh/site-functions/_spore
	rm -rf $(D)/lib/spore
