#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cli_bad_input.sh - what spore says and returns when it is used wrongly, where no VM is needed.
# Each message is compared whole.
set -u
cd "$(dirname "$0")/../.."
export SPORE_NET=none
spore=$PWD/build/spore
[ -x "$spore" ] || { echo "build/spore is not built"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_DATA_HOME=$work/data XDG_RUNTIME_DIR=$work TMPDIR=$work
unset SPORE_KERNEL SPORE_INITRD SPORE_IMAGE SPORE_VMM SPORE_KVM
failed=0

# says NAME STATUS TEXT CMD...: the command ends with STATUS and prints exactly TEXT on stderr.
says()
{
	local name=$1 want_status=$2 want=$3 got status
	shift 3
	got=$("$@" 2>&1 >/dev/null </dev/null)
	status=$?
	if [ "$status" = "$want_status" ] && [ "$got" = "$want" ]; then
		echo "ok $name"
	else
		echo "not ok $name: status $status, said: $got"
		failed=1
	fi
}

# run_says NAME TEXT ARGS...: spore run refuses with 125.
run_says()
{
	local name=$1 text=$2
	shift 2
	says "run_$name" 125 "spore run: $text" "$spore" run "$@"
}

# Files that pass the first look, so that each test reaches what it is about.
printf '\177ELF%0100d' 0 >"$work/kernel"
echo initrd >"$work/initrd"
truncate -s 1M "$work/image.ext4"
printf '\x53\xef' | dd of="$work/image.ext4" bs=1 seek=$((1024 + 56)) conv=notrunc status=none
: >"$work/empty"
head -c 5000 /dev/zero | tr '\0' x >"$work/garbage"
printf '#!/bin/sh\nexit 7\n' >"$work/vmm"
chmod +x "$work/vmm"
good=(--vmm "$work/vmm" --kernel "$work/kernel" --initrd "$work/initrd" --image "$work/image.ext4")
hint="; try 'spore help run'"

# words
says unknown_command 125 "spore: unknown command 'rnu': did you mean 'run'?" "$spore" rnu
says unknown_command_far 125 "spore: unknown command 'xyzzy'; try 'spore help'" "$spore" xyzzy
says unknown_subcommand 125 "spore image: unknown command 'bild': did you mean 'build'?" "$spore" image bild
says unknown_global_option 125 "spore: unknown option '--frob'; try 'spore help'" "$spore" --frob
run_says no_command "too few arguments; usage: spore run [OPTION]... [--] COMMAND [ARGUMENT]..."
run_says unknown_option "unknown option '--memroy': did you mean '--memory'?$hint" --memroy 1G -- true
run_says memory_0 "--memory 0: must be 32M to 512G$hint" --memory 0 -- true
run_says memory_1_byte "--memory 1: must be 32M to 512G$hint" --memory 1 -- true
run_says memory_1_tib "--memory 1T: must be 32M to 512G$hint" --memory 1T -- true
run_says cpus_0 "--cpus 0: must be 1 to 32$hint" --cpus 0 -- true
run_says cpus_33 "--cpus 33: must be 1 to 32$hint" --cpus 33 -- true
run_says timeout_0 "--timeout 0: not a time (such as 30s, 500ms or 5m)$hint" --timeout 0 -- true
run_says copy_in_form "--copy-in nothing: not SRC:DST" "${good[@]}" --copy-in nothing -- true
run_says copy_in_missing "--copy-in: $work/none: No such file or directory" "${good[@]}" --copy-in "$work/none:/x" -- true
run_says tty_and_no_tty "--tty and --no-tty exclude each other" "${good[@]}" --tty --no-tty -- true
run_says env_unset "--env: SPORE_NOT_SET is not set in the environment" "${good[@]}" --env SPORE_NOT_SET -- true
printf '# comment\n\nA=1\nSPORE_NOT_SET\n' >"$work/env"
run_says env_file_line "--env-file $work/env, line 4: SPORE_NOT_SET is not set in the environment" \
	"${good[@]}" --env-file "$work/env" -- true
run_says env_file_missing "--env-file $work/none: No such file or directory" "${good[@]}" --env-file "$work/none" -- true

# files
run_says kernel_missing "guest kernel $work/none: No such file or directory" "${good[@]}" --kernel "$work/none" -- true
run_says kernel_empty "kernel $work/empty: the file is empty" "${good[@]}" --kernel "$work/empty" -- true
run_says kernel_garbage "kernel $work/garbage: neither an ELF file nor a bzImage" "${good[@]}" --kernel "$work/garbage" -- true
run_says kernel_folder "kernel $work: Is a directory" "${good[@]}" --kernel "$work" -- true
run_says kernel_device "kernel /dev/null: not a regular file" "${good[@]}" --kernel /dev/null -- true
run_says initrd_empty "initrd $work/empty: the file is empty" "${good[@]}" --initrd "$work/empty" -- true
run_says image_missing "image $work/none: No such file or directory" "${good[@]}" --image "$work/none" -- true
run_says image_not_in_store "no image 'nosuch' in the store; see 'spore image ls'" "${good[@]}" --image nosuch -- true
run_says image_bad_name "'No!' is no name for an image: small letters, digits, '.', '_' and '-', at most 63" \
	"${good[@]}" --image 'No!' -- true
run_says image_empty "image $work/empty: the file is empty" "${good[@]}" --image "$work/empty" -- true
run_says image_garbage "image $work/garbage: not an ext4 file system (make one with 'spore image import')" \
	"${good[@]}" --image "$work/garbage" -- true
if command -v mke2fs >/dev/null; then
	truncate -s 8M "$work/cut.ext4"
	mke2fs -q -t ext4 "$work/cut.ext4"
	truncate -s 4M "$work/cut.ext4"
	run_says image_truncated "image $work/cut.ext4: the file is truncated: 4194304 bytes of a file system of 8388608" \
		"${good[@]}" --image "$work/cut.ext4" -- true
else
	echo "skip run_image_truncated: no mke2fs"
fi
run_says vmm_missing "spore-vmm $work/none: No such file or directory" "${good[@]}" --vmm "$work/none" -- true

# KVM
run_says kvm_missing "there is no /dev/kvm on this machine: Linux guests cannot run (see 'spore doctor')" \
	"${good[@]}" --kvm "$work/no-kvm" -- true
says run_kvm_by_environment 125 "spore run: there is no /dev/kvm on this machine: Linux guests cannot run (see 'spore doctor')" \
	env SPORE_KVM="$work/no-kvm" "$spore" run "${good[@]}" -- true
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	: >"$work/denied"
	chmod 600 "$work/denied"
	chmod 755 "$work"
	says run_kvm_denied 125 "spore run: no permission to open /dev/kvm: join the group kvm (see 'spore doctor')" \
		setpriv --reuid 65534 --regid 65534 --clear-groups "$spore" run "${good[@]}" --kvm "$work/denied" -- true
else
	echo "skip run_kvm_denied: needs root and setpriv"
fi
if "$spore" doctor --json | grep -q '"flavour": "interpreting"'; then
	run_says kvm_interpreting "this /dev/kvm cannot run Linux guests: it interprets them (see 'spore doctor'; --force-kvm tries anyway)" \
		"${good[@]}" -- true
else
	echo "skip run_kvm_interpreting: this machine's KVM does not interpret"
fi

# a VMM that does not come up
run_says vmm_exits "the VM ended before its agent answered (exit status 7)" "${good[@]}" --force-kvm -- true
printf '#!/bin/sh\necho "why: \033[31mred" >&2\necho last words\nkill -9 $$\n' >"$work/vmm"
run_says vmm_killed "$(printf '%s\n' 'the VM ended before its agent answered (killed by signal 9)' 'spore-vmm said:' \
	'  | why: \x1b[31mred' "the last lines of the guest's console:" '  | last words')" "${good[@]}" --force-kvm -- true
printf '#!/bin/sh\nexec sleep 60\n' >"$work/vmm"
run_says vmm_hangs "the guest's agent did not answer within 0.3 s; the VM is killed" \
	"${good[@]}" --force-kvm --boot-timeout 300ms -- true

# images
says image_rm_missing 125 "spore image rm: no image 'none' in the store" "$spore" image rm none
says image_import_empty 125 "spore image import: $work/empty: the file is empty" "$spore" image import x "$work/empty"
says image_import_missing 125 "spore image import: $work/none: No such file or directory" "$spore" image import x "$work/none"
says image_import_fifo 125 "spore image import: /dev/null: neither a file nor a folder" "$spore" image import x /dev/null

# signals while a VM boots: nothing is left of it
interrupted()
{
	local signal=$1 pid status
	printf '#!/bin/sh\necho $$ >%s/vmm.pid\nexec sleep 60\n' "$work" >"$work/vmm"
	rm -f "$work/vmm.pid"
	"$spore" run "${good[@]}" --force-kvm -- true 2>/dev/null &
	pid=$!
	for _ in $(seq 500); do [ -s "$work/vmm.pid" ] && break; sleep 0.02; done
	kill "-$signal" "$pid"
	wait "$pid"
	status=$?
	for _ in $(seq 500); do kill -0 "$(cat "$work/vmm.pid")" 2>/dev/null || break; sleep 0.02; done
	if kill -0 "$(cat "$work/vmm.pid")" 2>/dev/null || [ "$status" != "$2" ]; then
		echo "not ok run_boot_SIG$signal: status $status"
		failed=1
	else
		echo "ok run_boot_SIG$signal"
	fi
}
# A background job of a script ignores INT; TERM and KILL tell the same.
interrupted TERM 130
interrupted KILL 137

left=$(find "$work" -name 'spore-*' -o -name '.stage-*')
if [ -z "$left" ]; then echo "ok nothing_left"; else echo "not ok nothing_left: $left"; failed=1; fi
exit "$failed"
