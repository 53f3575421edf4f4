#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cli_disk.sh - `spore disk inspect` on what is a layer, what was one, and what is none.
set -u
cd "$(dirname "$0")/../.."
spore=$PWD/build/spore
[ -x "$spore" ] || { echo "build/spore is not built"; exit 77; }
command -v python3 >/dev/null || { echo "needs python3"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

check() # NAME CONDITION...
{
	local name=$1
	shift
	if "$@" >/dev/null 2>&1; then echo "ok $name"; else echo "not ok $name"; failed=1; fi
}

# A layer by the format alone (wire/cow.h): 1 MiB in blocks of 4 KiB; blocks 0 and 1 here, 2 zero.
python3 - "$work" <<'PY'
import struct, sys
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
def layer(path, sealed, flip=None):
    area = bytearray(4096)
    area[0] = 1 | 1 << 2 | 2 << 4
    head = bytearray(4096)
    struct.pack_into('<8sIIIIQQ16s16sQQQII', head, 0, b'SPORECOW', 1, sealed, 4096, 0, 1 << 20, 1 << 20,
                     b'b' * 16, b'i' * 16, 4096, 4096, 65536, crc32c(area) if sealed else 0, 0)
    struct.pack_into('<I', head, 100, crc32c(head))
    data = bytearray(head + area + bytes(65536 - 8192) + bytes(1 << 20))
    if flip is not None:
        data[flip] ^= 4
    open(path, 'wb').write(data)
work = sys.argv[1]
layer(work + '/open', 0)
layer(work + '/sealed', 1)
layer(work + '/bad-head', 1, 40)
layer(work + '/bad-map', 1, 4096 + 100)
open(work + '/short', 'wb').write(b'SPORECOW')
PY

out=$("$spore" disk inspect "$work/sealed")
check text_says_sealed grep -q '69696969696969696969696969696969, sealed' <<<"$out"
check text_counts_blocks grep -q '2 here, 1 zero, 253 below' <<<"$out"
check open_is_open grep -q 'open for writing' <<<"$("$spore" disk inspect "$work/open")"
out=$("$spore" disk inspect --json "$work/open" "$work/sealed")
check json_parses python3 -c '
import json, sys
a, b = json.loads(sys.argv[1])
assert a["sealed"] is False and b["sealed"] is True and "damage" not in b
assert b["blocks_here"] == 2 and b["blocks_zero"] == 1 and b["blocks_below"] == 253
assert b["below_id"] == "62" * 16 and b["size_bytes"] == 1 << 20 and b["block_bytes"] == 4096
assert b["allocated_bytes"] > 0' "$out"

damaged() # FILE TEXT: exit status 1 and the reason
{
	local out status
	out=$("$spore" disk inspect "$work/$1")
	status=$?
	check "damaged_$1" [ "$status" = 1 ]
	check "damaged_$1_says_why" grep -q "$2" <<<"$out"
}
damaged bad-head "header is damaged"
damaged bad-map "map does not match its checksum\|map is damaged"
damaged short "cut short"
"$spore" disk inspect "$work/none" "$work/sealed" >"$work/out" 2>"$work/err"
check missing_is_125 [ $? = 125 ]
check missing_is_named grep -q "$work/none: open: No such file or directory" "$work/err"
check others_are_shown grep -q sealed "$work/out"
"$spore" disk inspect >/dev/null 2>&1
check no_operand_is_125 [ $? = 125 ]
exit "$failed"
