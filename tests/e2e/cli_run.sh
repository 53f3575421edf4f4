#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# needs: linux-guest
#
# cli_run.sh - spore run with a real guest: statuses, streams, copies, signals, and that nothing is left.
set -u
cd "$(dirname "$0")/../.."
export SPORE_NET=none
spore=$PWD/build/spore
for f in build/guest/vmlinux build/guest/agent.cpio build/guest/base.ext4; do
	[ -e "$f" ] || { echo "$f is not there: make guest"; exit 77; }
done
work=$(mktemp -d /tmp/cli-run-XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/tmp"
export TMPDIR=$work/tmp XDG_RUNTIME_DIR=$work/tmp
. tests/e2e/checks.sh

one streams_and_status 3 hello oops run -- sh -c 'echo hello; echo oops >&2; exit 3' </dev/null
one not_found 127 '' 'spore run: nosuch: command not found' run -- nosuch </dev/null
one not_executable 126 '' 'spore run: /etc/passwd: cannot be executed: Permission denied' run -- /etc/passwd </dev/null
one killed_by_signal 137 '' '' run -- sh -c 'kill -9 $$' </dev/null
one timeout 124 '' "spore run: the command's time ran out" run --timeout 1s -- sleep 60 </dev/null
CALLER=caller one environment 0 "$(printf '1 caller\nroot /')" '' run --env A=1 --env CALLER --user root --cwd / -- \
	sh -c 'echo "$A $CALLER"; echo "$(id -un) $PWD"' </dev/null

# binary stdin, closed stdin, ten thousand arguments, in one guest each
head -c 3000000 /dev/urandom >"$work/random"
"$spore" run -- sh -c 'sha256sum | cut -c1-64' <"$work/random" >"$work/out" 2>"$work/err"
check binary_stdin [ "$(cat "$work/out")" = "$(sha256sum <"$work/random" | cut -c1-64)" ]
"$spore" run -- cat <&- >"$work/out" 2>"$work/err"
check closed_stdin [ "$?:$(cat "$work/out" "$work/err")" = 0: ]
# shellcheck disable=SC2046
"$spore" run -- sh -c 'echo $#' $(seq 10001) </dev/null >"$work/out" 2>"$work/err"
check ten_thousand_arguments [ "$(cat "$work/out")" = 10000 ]
"$spore" run -- sh -c 'yes | head -c 20000000' </dev/null 2>"$work/err" | { sleep 2; sha256sum; } >"$work/out"
check slow_reader [ "$(cat "$work/out")" = "$(yes | head -c 20000000 | sha256sum)" ]
"$spore" run -- yes </dev/null 2>"$work/err" | head -n 1 >"$work/out"
check reader_goes [ "${PIPESTATUS[0]}:$(cat "$work/out")" = 141:y ]

# copies: what a guest holds comes out without what could harm
mkdir -p "$work/in/sub"
echo one >"$work/in/sub/file"
chmod 750 "$work/in/sub/file"
ln -s sub/file "$work/in/link"
"$spore" run --copy-in "$work/in:/tmp/x" --copy-out "/tmp/x:$work/result" --copy-out "/tmp/x/sub/file:$work/single" -- sh -c '
	cd /tmp/x && echo two >>sub/file && chmod u+s,g+s sub/file && mkfifo fifo && ln -s /etc/passwd away &&
	ln -s ../../../escape up && ln -s sub/file inside && printf x >"$(printf "bad\033name")"' </dev/null >"$work/out" 2>"$work/err"
check copy_status [ "$?" = 0 ]
check copy_content [ "$(cat "$work/result/sub/file")" = "$(printf 'one\ntwo')" ]
check copy_single [ "$(cat "$work/single")" = "$(printf 'one\ntwo')" ]
check copy_mode [ "$(stat -c %a "$work/result/sub/file")" = 750 ]
check copy_links [ "$(readlink "$work/result/inside")$(readlink "$work/result/link")" = sub/filesub/file ]
check copy_left_out [ ! -e "$work/result/fifo" -a ! -L "$work/result/away" -a ! -L "$work/result/up" ]
check copy_says_left_out [ "$(cat "$work/err")" = \
	"spore run: --copy-out /tmp/x:$work/result: left out 3 (devices, FIFOs, sockets, links that lead outside)" ]
"$spore" run --copy-out "/tmp/none:$work/none" --copy-max 1K -- true </dev/null 2>"$work/err"
check copy_out_missing [ "$?" = 125 -a "$(cat "$work/err")" = "spore run: --copy-out /tmp/none:$work/none: /tmp/none: $(sed 's/^.*\/tmp\/none: //' "$work/err")" ]
"$spore" run --copy-out "/etc/services:$work/big" --copy-max 1K -- true </dev/null 2>"$work/err"
check copy_out_too_much [ "$?" = 125 -a ! -e "$work/big" ]

# signals: the first reaches the command, the second in two seconds ends the VM
signalled() # NAME WANT SIGNALS COMMAND
{
	local name=$1 want=$2 signals=$3 pid status
	rm -f "$work/out"
	setsid --wait bash -c 'trap - INT; exec "$@"' _ "$spore" run -- sh -c "$4" </dev/null >"$work/out" 2>"$work/err" &
	for _ in $(seq 600); do grep -q ready "$work/out" 2>/dev/null && break; sleep 0.1; done
	pid=$(pgrep -n -x spore)
	for s in $signals; do kill "-$s" "$pid"; sleep 0.3; done
	wait $!
	status=$?
	check "$name" [ "$status" = "$want" ]
}
signalled term_reaches_guest 9 TERM 'trap "exit 9" TERM; echo ready; while :; do sleep 0.1; done'
signalled int_reaches_guest 8 INT 'trap "exit 8" INT; echo ready; while :; do sleep 0.1; done'
signalled second_int_kills 130 'INT INT' 'trap "" INT; echo ready; while :; do sleep 0.1; done'
signalled killed_cli 137 KILL 'echo ready; sleep 60'

# a terminal: size, echo through the guest, and the caller's terminal as it was
if command -v script >/dev/null; then
	script -qec "stty rows 33 cols 99; '$spore' run --tty -- sh -c 'stty size; tty; exit 5'; echo status \$?; stty -a | grep -o ' echo '" \
		/dev/null </dev/null >"$work/out" 2>&1
	check terminal_size grep -q '33 99' "$work/out"
	check terminal_status grep -q 'status 5' "$work/out"
	check terminal_restored grep -q ' echo ' "$work/out"
else
	echo "skip terminal: no script(1)"
fi

for _ in $(seq 100); do pgrep -x spore-vmm >/dev/null || break; sleep 0.1; done
check no_process_left [ -z "$(pgrep -x spore-vmm)$(pgrep -x spore)" ]
check no_file_left [ -z "$(ls -A "$work/tmp")" ]
exit "$failed"
