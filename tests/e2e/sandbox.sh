#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# needs: linux-guest
#
# sandbox.sh - sandboxes with real guests: what stays between commands, files both ways, the console, the end.
# What the commands say when they are used wrongly is in cli_sandbox.sh, which needs no guest.
set -u
cd "$(dirname "$0")/../.."
spore=$PWD/build/spore
for f in build/guest/vmlinux build/guest/agent.cpio build/guest/base.ext4; do
	[ -e "$f" ] || { echo "$f is not there: make guest"; exit 77; }
done
work=$(mktemp -d /tmp/sandbox-XXXXXX)
export SPORE_STATE=$work/state
trap 'for i in $("$spore" ls -q); do "$spore" rm -f "$i"; done; rm -rf "$work"' EXIT
. tests/e2e/checks.sh

gone() { for _ in $(seq 200); do pgrep -x spore-vmm >/dev/null || return 0; sleep 0.05; done; return 1; }

id=$("$spore" create --name box --memory 256M --boot-timeout 120s 2>"$work/err")
check create [ -n "$id" ] || { cat "$work/err"; exit 1; }
check vmm_outlives_create pgrep -x spore-vmm
parent=$(ps -o ppid= -p "$(pgrep -x spore-vmm)" | tr -d ' ')
check vmm_is_nobodys_child [ "$parent" != "$$" ]

# What one command does, the next one finds: files, tmpfs, processes.
"$spore" exec box -- sh -c 'echo kept >/home/user/note; mount | grep -q tmpfs && echo volatile >/run/user-note 2>/dev/null || true'
check file_stays [ "$("$spore" exec box cat /home/user/note)" = kept ]
check root_file_stays [ "$("$spore" exec --user root box -- sh -c 'echo 1 >/run/x; sync; cat /run/x'; "$spore" exec box cat /run/x)" = "$(printf '1\n1')" ]
process=$("$spore" exec -d box -- sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/count; sleep 0.05; done')
sleep 0.5
one=$("$spore" exec box cat /tmp/count)
sleep 0.5
two=$("$spore" exec box cat /tmp/count)
check process_goes_on [ "${two:-0}" -gt "${one:-0}" ]
check ps_shows_it [ -n "$("$spore" ps box | awk -v p="$process" '$1 == p && $3 == "detached"')" ]
check streams_and_status [ "$("$spore" exec box -- sh -c 'cat; echo err >&2; exit 3' <<<in 2>"$work/err"; echo "$? $(cat "$work/err")")" = "$(printf 'in\n3 err')" ]

# Files both ways, also as a folder, whole.
head -c 5000000 /dev/urandom >"$work/big"
mkdir -p "$work/tree/sub"; echo leaf >"$work/tree/sub/leaf"
"$spore" cp "$work/big" box:/tmp/big && "$spore" cp box:/tmp/big "$work/back"
check cp_both_ways cmp -s "$work/big" "$work/back"
"$spore" cp "$work/tree" box:/tmp/tree && "$spore" cp box:/tmp/tree "$work/tree2"
check cp_folder [ "$(cat "$work/tree2/sub/leaf")" = leaf ]

# The console and what the guest uses.
"$spore" exec --user root box -- sh -c 'echo "line of the guest" >/dev/console'
for _ in $(seq 100); do "$spore" logs box | grep -q 'line of the guest' && break; sleep 0.05; done
check logs_console [ -n "$("$spore" logs box | grep 'line of the guest')" ]
check metrics [ "$("$spore" metrics --json box | grep -c '"mem_total"')" = 1 ]

# Two sandboxes of one image see nothing of each other.
other=$("$spore" create --memory 256M --boot-timeout 120s)
check layers_apart [ "$("$spore" exec "$other" -- sh -c 'ls /home/user/note 2>/dev/null; echo none')" = none ]
check ids_differ [ "$id" != "$other" ]

# The end: power off from inside, and kill.
"$spore" exec --user root "$other" -- sh -c 'kill -9 1; echo o >/proc/sysrq-trigger' >/dev/null 2>&1 || true
"$spore" kill "$other" >/dev/null 2>&1
check dead [ "$("$spore" ls | awk -v i="$other" '$1 == i { print $2 }')" = dead ]
"$spore" exec box sleep 1000 2>"$work/err" &
cut=$!
for _ in $(seq 200); do "$spore" ps box | grep -q 'sleep 1000' && break; sleep 0.05; done
"$spore" kill box
wait "$cut"
check exec_cut_by_kill [ "$?:$(cat "$work/err")" = "125:spore exec: sandbox $id ended while the command ran" ]
check no_vmm_left gone
"$spore" rm box "$other"
check nothing_left [ -z "$(ls -A "$SPORE_STATE/sandboxes")" ]

# A forgotten one ends by itself.
id=$("$spore" create --memory 256M --boot-timeout 120s --timeout 30s)
for _ in $(seq 900); do pgrep -x spore-vmm >/dev/null || break; sleep 0.1; done
check timeout_ended [ "$("$spore" exec "$id" true 2>&1)" = "spore exec: sandbox $id is dead (its time was over); see 'spore logs $id'" ]
exit "$failed"
