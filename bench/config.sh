# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by the scripts of bench/: the one configuration that every VMM is measured with.
# 1 vCPU, 128 MiB, no drives: both spore-vmm and Firecracker read the same file.

# The guest's arguments: console bytes are an exit each, so it is quiet; nothing is probed that is not there.
bench_cmdline='console=ttyS0 quiet loglevel=0 reboot=k panic=-1 nomodule i8042.noaux i8042.nokbd i8042.nomux i8042.dumbkbd 8250.nr_uarts=1 swiotlb=noforce cryptomgr.notests random.trust_cpu=on tsc=reliable no_timer_check pci=off'

# bench_config KERNEL [INITRD]: the configuration on standard output.
bench_config() {
	local initrd=''
	[ -z "${2-}" ] || initrd=", \"initrd_path\": \"$2\""
	cat <<-END
	{
	  "boot-source": {"kernel_image_path": "$1"$initrd, "boot_args": "$bench_cmdline"},
	  "drives": [],
	  "machine-config": {"vcpu_count": 1, "mem_size_mib": 128}
	}
	END
}

# QEMU's microvm with the same machine, kernel, initramfs and arguments.
bench_qemu() { # KERNEL INITRD
	qemu=(qemu-system-x86_64 -M microvm,acpi=off,rtc=off -accel kvm -cpu max -m 128 -smp 1
		-nodefaults -no-user-config -nographic -no-reboot -serial stdio
		-kernel "$1" -initrd "$2" -append "$bench_cmdline")
}
