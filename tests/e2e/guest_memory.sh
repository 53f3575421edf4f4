#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# needs: linux-guest
#
# guest_memory.sh - what a Linux guest has freed leaves host memory, by its own reports; it may use it again.
set -u
cd "$(dirname "$0")/../.."
spore=$PWD/build/spore
for f in build/guest/vmlinux build/guest/agent.cpio build/guest/base.ext4; do
	[ -e "$f" ] || { echo "$f is not there: make guest"; exit 77; }
done
work=$(mktemp -d /tmp/guest-memory-XXXXXX)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work XDG_RUNTIME_DIR=$work
failed=0

check() # NAME CONDITION...
{
	local name=$1
	shift
	if "$@"; then echo "ok $name"; else echo "not ok $name"; failed=1; fi
}

# KiB of guest memory that the host holds for process $1.
rss()
{
	awk '/^[0-9a-f]+-[0-9a-f]+ / { ours = /guest-memory/ } ours && /^Rss:/ { sum += $2 } END { print sum + 0 }' "/proc/$1/smaps"
}

# The guest's next word, whenever it comes: `spore run` has a limit of its own.
await() # WORD
{
	while ! grep -qx "$1" "$work/out" 2>/dev/null; do
		kill -0 "$run" 2>/dev/null || { echo "not ok guest: $(head -c 600 "$work/err")"; exit 1; }
		sleep 0.2
	done
}

# Takes 200 MiB, frees them, and takes them again, each at the word of the host (a line on stdin).
cat >"$work/guest.py" <<'PYTHON'
import sys
def take():
    held = bytearray(200 << 20)
    held[::4096] = b"x" * (200 << 8)
    return held
held = take(); print("full", flush=True); sys.stdin.readline()
del held; print("freed", flush=True); sys.stdin.readline()
held = take(); print("again", sum(held[::4096]) == ord("x") * (200 << 8), flush=True)
PYTHON
mkfifo "$work/in"
"$spore" run --memory 512M --timeout 500s --copy-in "$work/guest.py:/tmp/guest.py" -- python3 /tmp/guest.py \
	<"$work/in" >"$work/out" 2>"$work/err" &
run=$!
exec 9>"$work/in"
await full
vmm=$(pgrep -n -x spore-vmm)
full=$(rss "$vmm")
check memory_taken [ "$full" -ge $((200 * 1024)) ]
echo >&9
await freed
# Linux reports two seconds after the last free (mm/page_reporting.c); more is waited for only where it is slow.
for _ in $(seq 600); do
	freed=$(rss "$vmm")
	[ "$freed" -le $((full - 180 * 1024)) ] && break
	sleep 0.2
done
echo "guest memory held by the host: $full KiB with 200 MiB taken, $freed KiB after they were freed"
check memory_freed_leaves [ "$freed" -le $((full - 180 * 1024)) ]
echo >&9
exec 9>&-
wait "$run"
check command_ended_well [ "$?" = 0 ]
check memory_taken_again grep -qx 'again True' "$work/out"
exit "$failed"
