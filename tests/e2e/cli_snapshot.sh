#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cli_snapshot.sh - spore snapshot on files: shown, verified, compacted, exported through a pipe and imported; what is
# damaged or missing is said.
set -u
cd "$(dirname "$0")/../.."
spore=$PWD/build/spore
[ -x "$spore" ] || { echo "build/spore is not built"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp tests/golden/snapshot-v1-*.bin "$work"
cd "$work" || exit 1
base=snapshot-v1-base.bin child=snapshot-v1-child.bin
failed=0

check() # NAME CONDITION...
{
	local name=$1
	shift
	if "$@" >"$work/log" 2>&1; then echo "ok $name"; else echo "not ok $name"; cat "$work/log"; failed=1; fi
}
says() # NAME STATUS TEXT CMD...: ends with STATUS, and stderr holds TEXT
{
	local name=$1 want=$2 text=$3 got
	shift 3
	"$@" >/dev/null 2>"$work/err"
	got=$?
	if [ "$got" = "$want" ] && grep -qF -- "$text" "$work/err"; then
		echo "ok $name"
	else
		echo "not ok $name: status $got, $(cat "$work/err")"
		failed=1
	fi
}
field() # FILE NAME: from inspect --json
{
	"$spore" snapshot inspect --json "$1" | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$2"
}

check inspect "$spore" snapshot inspect $child
check inspect_json [ "$(field $child parent)" = "$(field $base id)" ]
check verify "$spore" snapshot verify $base $child
check export_import bash -o pipefail -c "'$spore' snapshot export --no-disks $child | '$spore' snapshot import - moved.snap"
check moved_verifies "$spore" snapshot verify moved.snap
check moved_alone [ "$(field moved.snap ancestors)" = 0 ]
check compact "$spore" snapshot compact $child small.snap
check compact_flat "$spore" snapshot compact --flat $child flat.snap
check flat_kind [ "$(field flat.snap memory)" = flat ]
check stored_same [ "$(field small.snap stored_pages)" = "$(field moved.snap stored_pages)" ]
check mode [ "$(stat -c %a small.snap)" = 600 ]
says compact_taken 125 "File exists" "$spore" snapshot compact $child small.snap
says export_lacks_layer 125 "disk rootfs: 6c617965722031206f662074776f2e2e.layer: No such file" "$spore" snapshot export $child out
check export_left_nothing [ ! -e out ]
says import_garbage 125 "import: not an exported snapshot" "$spore" snapshot import $child x.snap
says unknown_word 125 "unknown command 'inspct': did you mean 'inspect'?" "$spore" snapshot inspct
says no_snapshot 125 "snapshot: not one" "$spore" snapshot inspect "$spore"
says no_file 125 "No such file" "$spore" snapshot inspect nothing

mkdir elsewhere
mv $base elsewhere
says parent_missing 1 "its parent $(field elsewhere/$base id): No such file" "$spore" snapshot verify $child
check parent_elsewhere "$spore" snapshot verify --folder elsewhere $child
mv elsewhere/$base .
printf '\377' | dd of=$base bs=1 seek=17000 conv=notrunc status=none
says damaged_parent 1 "block 0 of its memory is damaged" "$spore" snapshot verify $child
[ -z "$(ls -A | grep '\.part$')" ] && echo "ok nothing_left" || { echo "not ok nothing_left"; failed=1; }
exit $failed
