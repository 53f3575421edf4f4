#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cli_boot_fails.sh - spore run with kernels that do not bring up an agent: cut off, too large, crashing, hanging;
# and with signals while they boot.  Tiny guests, so that any /dev/kvm will do.  Messages are compared whole.
set -u
cd "$(dirname "$0")/../.."
export SPORE_NET=none
spore=$PWD/build/spore guests=$PWD/build/tests/kvm/guest
[ -r /dev/kvm ] && [ -w /dev/kvm ] || { echo "skip: no usable /dev/kvm"; exit 77; }
[ -x "$spore" ] && [ -e "$guests/hello.elf" ] || { echo "skip: make all kvm-build first"; exit 77; }
command -v mke2fs >/dev/null || { echo "skip: no mke2fs"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tmp"
export TMPDIR=$work/tmp XDG_RUNTIME_DIR=$work/tmp
unset SPORE_KERNEL SPORE_INITRD SPORE_IMAGE SPORE_VMM SPORE_KVM
failed=0
truncate -s 8M "$work/image.ext4"
mke2fs -q -t ext4 "$work/image.ext4"
echo initrd >"$work/initrd"

result() # NAME WANTED SEEN
{
	if [ "$2" = "$3" ]; then
		echo "ok $1"
	else
		printf 'not ok %s\n# wanted: %s\n# seen:   %s\n' "$1" "$2" "$3"
		failed=1
	fi
}

# boot ARGS...: status and what was said
boot()
{
	"$spore" run --force-kvm --image "$work/image.ext4" --initrd "$work/initrd" "$@" -- true \
		</dev/null >"$work/out" 2>"$work/err"
	status=$?
}

# fails NAME TEXT ARGS...: status 125, nothing on stdout, exactly TEXT on stderr
fails()
{
	local name=$1 text=$2
	shift 2
	boot "$@"
	result "$name" "125:$text" "$status:$(cat "$work/out" "$work/err")"
}

# vmm_says NAME TEXT ARGS...: the VMM refuses with TEXT
vmm_says()
{
	local name=$1 text=$2
	shift 2
	fails "$name" "$(printf '%s\n' 'spore run: the VM ended before its agent answered (exit status 1)' \
		'spore-vmm said:' "  | spore-vmm: $text")" "$@"
}

# kernels and initrds that are not whole, or do not fit
head -c 3000 "$guests/hello.elf" >"$work/cut.elf"
vmm_says kernel_truncated "kernel file is truncated: segment at 0x200000 lies behind its end (3000 bytes)" \
	--kernel "$work/cut.elf"
head -c 50 "$guests/hello.elf" >"$work/stump.elf"
vmm_says kernel_header_only "kernel file is truncated: 50 bytes hold no ELF header" --kernel "$work/stump.elf"
if [ -e build/guest/bzImage ]; then
	head -c 100000 build/guest/bzImage >"$work/cut.bz"
	vmm_says bzimage_truncated "kernel file is truncated: bzImage of $(stat -L -c %s build/guest/bzImage) bytes has only 100000" \
		--kernel "$work/cut.bz"
else
	echo "skip bzimage_truncated: no build/guest/bzImage (make guest)"
fi
truncate -s 600M "$work/big.initrd"
boot --kernel "$guests/hello.elf" --initrd "$work/big.initrd"
result initrd_oversized "125:  | spore-vmm: initrd of 629145600 bytes does not fit guest memory of 512 MiB above the kernel" \
	"$status:$(tail -n 1 "$work/err" | sed 's/ (0x.*//')"
# A segment of 1 GiB: p_memsz of the second program header, or of the first where there is one only.
python3 - "$guests/hello.elf" "$work/big.elf" <<'END'
import struct, sys
elf = bytearray(open(sys.argv[1], "rb").read())
at, = struct.unpack_from("<Q", elf, 32)
size, count = struct.unpack_from("<HH", elf, 54)
loads = [at + i * size for i in range(count) if struct.unpack_from("<I", elf, at + i * size)[0] == 1]
struct.pack_into("<Q", elf, loads[-1] + 40, 1 << 30)
open(sys.argv[2], "wb").write(elf)
END
boot --kernel "$work/big.elf"
result kernel_oversized "125:  | spore-vmm: kernel segment" "$status:$(tail -n 1 "$work/err" | grep -o '^  | spore-vmm: kernel segment')"

# guests that end, crash or hang
fails guest_ends "$(printf '%s\n' 'spore run: the VM ended before its agent answered (exit status 0)' \
	"the last lines of the guest's console:" '  | hello')" --kernel "$guests/hello.elf"
fails triple_fault "$(printf '%s\n' 'spore run: the VM ended before its agent answered (exit status 1)' 'spore-vmm said:' \
	'  | spore-vmm: vCPU 0: triple fault' "the last lines of the guest's console:" '  | about to fault')" \
	--kernel "$guests/triple.elf"
fails hang_is_bounded "$(printf '%s\n' "spore run: the guest's agent did not answer within 2 s; the VM is killed" \
	"the last lines of the guest's console:" '  | hello')" --kernel "$guests/quiet.elf" --boot-timeout 2s

# Ctrl-C while a guest hangs in its boot: INT as a terminal sends it, to a process that does not ignore it.  The VMM
# goes with the command, killed or not.
interrupted() # SIGNAL WANTED
{
	local job pid vmm status
	rm -f "$work/err" "$work/pid"
	setsid --wait bash -c 'trap - INT; echo $$ >"$1"; shift; exec "$@"' _ "$work/pid" "$spore" run -v --force-kvm \
		--image "$work/image.ext4" --initrd "$work/initrd" --kernel "$guests/quiet.elf" -- true </dev/null 2>"$work/err" &
	job=$!
	for _ in $(seq 600); do grep -q hello "$work/err" 2>/dev/null && break; sleep 0.05; done
	pid=$(cat "$work/pid")
	vmm=$(tr -d ' ' <"/proc/$pid/task/$pid/children")
	[ "$(cat "/proc/$vmm/comm")" = spore-vmm ] || vmm=none
	kill "-$1" "$pid"
	wait "$job" 2>/dev/null
	status=$?
	for _ in $(seq 100); do [ -e "/proc/$vmm" ] || break; sleep 0.1; done
	result "boot_SIG$1" "$2:hello:gone" \
		"$status:$(tr -d '\r' <"$work/err"):$([ "$vmm" = none ] && echo "no VMM" || { [ -e "/proc/$vmm" ] && echo there || echo gone; })"
}
interrupted INT 130
interrupted TERM 130
interrupted HUP 130
interrupted KILL 137
result no_file_left "" "$(ls -A "$work/tmp")"
exit "$failed"
