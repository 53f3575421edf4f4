# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# fake_vmm.sh - sourced from the tree's root by the scripts that run sandboxes without KVM (tests/fake/vmm.c).  It leaves
# $spore, a folder $work that goes at the end with all sandboxes, an empty state, `create` to give to $spore, and the
# functions of checks.sh.
spore=$PWD/build/spore
for f in build/spore build/spore-agent build/tests/fake/vmm; do
	[ -x "$f" ] || { echo "$f is not built"; exit 77; }
done
work=$(mktemp -d "/tmp/$(basename "$0" .sh)-XXXXXX")
cp build/tests/fake/vmm "$work/vmm" # a path of its own, to count its processes by
mkdir "$work/etc"
export SPORE_STATE=$work/state SPORE_VMM=$work/vmm FAKE_AGENT=$PWD/build/spore-agent FAKE_ETC=$work/etc
export TMPDIR=$work HOME=$work
trap 'for i in $("$spore" ls -q); do "$spore" rm -f "$i"; done; rm -rf "$work"' EXIT
. tests/e2e/checks.sh

# Files that pass the first look; the fake reads none of them.
printf '\177ELF%0100d' 0 >"$work/kernel"
echo initrd >"$work/initrd"
truncate -s 1M "$work/image.ext4"
printf '\x53\xef' | dd of="$work/image.ext4" bs=1 seek=$((1024 + 56)) conv=notrunc status=none
create=(create --force-kvm --kernel "$work/kernel" --initrd "$work/initrd" --image "$work/image.ext4")

vmms() { pgrep -f "$SPORE_VMM --no-api" | wc -l; }
gone() { for _ in $(seq 200); do [ "$(vmms)" = "${1:-0}" ] && return 0; sleep 0.05; done; return 1; }
