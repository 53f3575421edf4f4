# The guest: kernel, initramfs, image.  The scripts know by content whether there is anything to do and answer
# at once when there is not, so these targets always ask them.  build/guest/ points into the cache.
GUEST := build/guest

.PHONY: guest guest-kernel guest-initramfs guest-agent guest-image setup
guest: guest-kernel guest-image guest-initramfs guest-agent

guest-kernel:
	@guest/setup/packages ensure build kernel
	@dir=$$(guest/kernel/build) && mkdir -p $(GUEST) && \
	ln -sfn $$dir/vmlinux $$dir/bzImage $$dir/System.map $(GUEST)/

guest-image:
	@guest/setup/packages ensure image
	@dir=$$(guest/image/build) && mkdir -p $(GUEST) && ln -sfn $$dir/base.ext4 $$dir/base.json $(GUEST)/

guest-initramfs: $(GUEST)/initramfs.cpio
$(GUEST)/initramfs.cpio: guest/initramfs/build guest/initramfs/newc.sh guest/initramfs/init.c
	MUSL_CC=$(MUSL_CC) guest/initramfs/build $@

guest-agent: $(GUEST)/agent.cpio
$(GUEST)/agent.cpio: $(B)/spore-agent guest/initramfs/build-agent guest/initramfs/newc.sh
	guest/initramfs/build-agent $< $@

# Everything that the build, the tests and the demo need, from a machine with gcc, make, bash and apt.
setup:
	@guest/setup/packages ensure
	@$(MAKE) guest
