#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# needs: linux-guest
#
# sleep.sh - real sandboxes put to sleep, woken and forked: processes, memory, files and connections go on, clones are
# others.  CYCLES (2) sleeps, CHILDREN (3) clones of one fork.
set -u
cd "$(dirname "$0")/../.."
spore=$PWD/build/spore
for f in build/guest/vmlinux build/guest/agent.cpio build/guest/base.ext4; do
	[ -e "$f" ] || { echo "$f is not there: make guest"; exit 77; }
done
work=$(mktemp -d /tmp/sleep-XXXXXX)
export SPORE_STATE=$work/state
trap 'for i in $("$spore" ls -q); do "$spore" rm -f "$i"; done; rm -rf "$work"' EXIT
. tests/e2e/checks.sh
cycles=${CYCLES:-2} children=${CHILDREN:-3}

in_box() { "$spore" exec --user root "$@"; }
# advances ID FILE: the number in the file grows within a bounded wait.
advances() {
	local first now
	first=$(in_box "$1" cat "$2")
	for _ in $(seq 100); do
		now=$(in_box "$1" cat "$2")
		[ "${now:-0}" -gt "${first:-0}" ] && return 0
		sleep 0.1
	done
	return 1
}

"$spore" create --name box --memory 256M --boot-timeout 120s >"$work/id" 2>"$work/err"
check create [ -s "$work/id" ] || { cat "$work/err"; exit 1; }
id=$(cat "$work/id")
in_box box -- sh -c 'mkdir -p /mnt/t && mount -t tmpfs t /mnt/t && echo volatile >/mnt/t/file && echo first >/root/disk'
in_box -d box -- sh -c 'exec 5>/root/open; i=0; while :; do i=$((i+1)); echo $i >/mnt/t/count; echo $i >&5; sleep 0.05; done' >/dev/null
# A TCP connection inside the guest: one side says a number a line, the other keeps the last one.
in_box -d box -- python3 -c '
import socket, threading, time
s = socket.socket(); s.bind(("127.0.0.1", 0)); s.listen(1)
def say():
    c, _ = s.accept()
    n = 0
    while True:
        n += 1; c.sendall(b"%d\n" % n); time.sleep(0.05)
threading.Thread(target=say, daemon=True).start()
for line in socket.create_connection(s.getsockname()).makefile():
    open("/mnt/t/tcp", "w").write(line)
' >/dev/null
in_box box -- sh -c 'head -c 3000000 /dev/urandom >/root/big; sha256sum /root/big >/root/sum; sync'
for _ in $(seq 200); do in_box box test -s /mnt/t/tcp && break; sleep 0.05; done
check process_counts advances box /mnt/t/count
check connection_counts advances box /mnt/t/tcp

# A command whose exec the first pause cuts: its process lives on, and is there to be attached to.
"$spore" exec box -- sh -c 'echo begun; trap "echo hung up; exit 9" HUP; while :; do echo alive; sleep 0.2; done' \
	>"$work/session" 2>"$work/cut" &
cut=$!
for _ in $(seq 200); do grep -q alive "$work/session" && break; sleep 0.05; done
session=$("$spore" ps box | awk '/begun/ { print $1 }')

for n in $(seq "$cycles"); do
	before=$(in_box box cat /mnt/t/count)
	"$spore" pause box 2>"$work/err"
	check "pause_$n" [ $? = 0 ] || cat "$work/err"
	check "vmm_is_gone_$n" [ -z "$(pgrep -x spore-vmm)" ]
	check "asleep_$n" [ "$("$spore" ls --json | grep -c paused)" -ge 1 ]
	said=$("$spore" exec box true 2>&1)
	check "exec_says_so_$n" [ "$? $said" = "125 spore exec: sandbox $id is paused: wake it with 'spore resume $id'" ]
	sleep 2
	"$spore" resume box 2>"$work/err"
	check "resume_$n" [ $? = 0 ] || cat "$work/err"
	check "memory_goes_on_$n" [ "$(in_box box cat /mnt/t/count)" -ge "$before" ]
	check "process_goes_on_$n" advances box /mnt/t/count
	check "connection_goes_on_$n" advances box /mnt/t/tcp
	check "tmpfs_and_disk_$n" [ "$(in_box box cat /mnt/t/file /root/disk)" = "$(printf 'volatile\nfirst')" ]
	check "files_unchanged_$n" in_box box -- sha256sum -c --status /root/sum
	check "disk_can_be_written_$n" [ "$(in_box box -- sh -c "echo $n >/root/n; sync; cat /root/n")" = "$n" ]
	host=$(date +%s%N)
	guest=$(in_box box date +%s%N)
	after=$(date +%s%N)
	check "clock_is_right_$n" [ "$guest" -ge $((host - 10000000)) -a "$guest" -le $((after + 10000000)) ]
done
wait "$cut"
check exec_cut_by_pause [ "$? $(cat "$work/cut")" = "123 spore exec: sandbox $id was paused; the command lives on in it: wake it with 'spore resume $id', then 'spore attach $id $session'" ]
check session_is_listed [ -n "$("$spore" ps box | awk -v p="$session" '$1 == p')" ]
timeout 10 "$spore" attach box "$session" >"$work/again" 2>/dev/null </dev/null
check session_lives_on [ "$(grep -c 'hung up' "$work/again") $(grep -c alive "$work/again" | sed 's/[0-9][0-9]*/some/')" = '0 some' ]
said=$("$spore" resume box 2>&1)
check resume_of_running [ "$? $said" = "125 spore resume: sandbox $id is running" ]

# Clones: the parent's instant, and then their own lives.
in_box box -- sh -c 'echo fork >/root/point; echo fork >/mnt/t/point; sync'
"$spore" fork --count "$children" box >"$work/ids" 2>"$work/err"
check fork [ $? = 0 ] || cat "$work/err"
check fork_ids [ "$(sort -u "$work/ids" | wc -l)" = "$children" ]
in_box box -- sh -c 'echo later >/root/point; echo later >/mnt/t/point; sync'
while read -r child; do
	in_box "$child" -- sh -c 'od -An -N16 -tx1 /dev/urandom; cat /etc/machine-id; hostname' >"$work/who-$child" </dev/null
	check "child_has_the_point" [ "$(in_box "$child" cat /root/point /mnt/t/point </dev/null)" = "$(printf 'fork\nfork')" ]
	check "child_goes_on" advances "$child" /mnt/t/count </dev/null
	in_box "$child" -- sh -c "echo $child >/root/own; sync" </dev/null
done <"$work/ids"
check random_differs [ "$(cat "$work"/who-* | grep -c ' ')" = "$(cat "$work"/who-* | grep ' ' | sort -u | wc -l)" ]
check machine_ids_differ [ "$(cat "$work"/who-* | grep -E '^[0-9a-f]{32}$' | sort -u | wc -l)" = "$children" ]
check host_names [ "$(tail -qn 1 "$work"/who-* | sort)" = "$(sort "$work/ids")" ]
check parent_goes_on advances box /mnt/t/count
check disks_apart [ "$(in_box box -- sh -c 'cat /root/own 2>/dev/null; cat /root/point')" = later ]

# A snapshot of the running one: what is made of it has its instant, and outlives it.
in_box box -- sh -c 'echo shot >/root/point; echo shot >/mnt/t/point; sync'
shot=$("$spore" snapshot box 2>"$work/err")
check snapshot [ -n "$shot" ] || cat "$work/err"
in_box box -- sh -c 'echo later >/root/point; echo later >/mnt/t/point; sync'
twin=$("$spore" create --from "$shot" --name twin 2>"$work/err")
check create_from [ -n "$twin" ] || cat "$work/err"
"$spore" snapshot rm "$shot"
check twin_has_the_point [ "$(in_box twin cat /root/point /mnt/t/point)" = "$(printf 'shot\nshot')" ]
check twin_goes_on advances twin /mnt/t/count
check twin_is_another [ "$(in_box twin cat /etc/machine-id)" != "$(in_box box cat /etc/machine-id)" -a "$(in_box twin hostname)" = twin ]
"$spore" pause twin && "$spore" resume twin
check twin_sleeps [ "$(in_box twin cat /root/point /mnt/t/point)" = "$(printf 'shot\nshot')" ]
check twin_sleeps_as_increment [ "$("$spore" snapshot inspect "$SPORE_STATE/sandboxes/$twin/memory.snap" | grep -c ^parent)" = 1 ]
"$spore" rm -f twin

first=$(head -n 1 "$work/ids")
grandchild=$("$spore" fork "$first" 2>"$work/err" </dev/null)
check fork_of_a_fork [ -n "$grandchild" -a "$(in_box "$grandchild" cat /root/own)" = "$first" ] || cat "$work/err"
"$spore" pause "$first" && "$spore" resume "$first"
check child_sleeps_too [ -n "$first" -a "$(in_box "$first" cat /root/own)" = "$first" ]
"$spore" pause "$first"
said=$("$spore" fork "$first" 2>&1)
check fork_of_sleeping [ "$? $said" = "125 spore fork: sandbox $first is paused: wake it with 'spore resume $first'" ]
exit "$failed"
