#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cli_sleep.sh - pause, resume, snapshot, create --from and fork with a VMM that needs no KVM (tests/fake/vmm.c): what
# lies in the folders, what is said, and what is left after a kill -9 at any instant.  The fake machine's memory holds
# a number that each capture makes one higher, and says it when it is loaded.
set -u
cd "$(dirname "$0")/../.."
. tests/e2e/fake_vmm.sh

state_of() { "$spore" ls | awk -v i="$1" '$1 == i || $2 == i { print $1 == i && $3 ~ /^[0-9]/ ? $2 : $2 == i ? $3 : $2 }'; }
folder() { echo "$SPORE_STATE/sandboxes/$1"; }
# number ID: what the VMM said that it was loaded with, last.
number() { "$spore" logs --vmm "$1" | sed -n 's/.*loaded //p' | tail -n 1; }
ancestors() { "$spore" snapshot inspect --json "$1/memory.snap" | sed -n 's/.*"ancestors": \([0-9]*\),/\1/p'; }
good() { "$spore" snapshot verify "$1/memory.snap" >/dev/null; }
remove_all() { for b in $("$spore" ls -q); do "$spore" rm -f "$b"; done; for s in $("$spore" snapshot ls -q); do "$spore" snapshot rm "$s"; done; }

# --- pause and resume ------------------------------------------------------------------------------------
id=$("$spore" "${create[@]}" --name first)
dir=$(folder "$id")
one pause 0 '' '' pause first
check pause_ends_vmm gone
check pause_whole_image [ "$(ancestors "$dir")" = 0 ]
check pause_modes [ "$(stat -c %a "$dir/memory.snap" "$dir/disk-0.cow" | sort -u)" = 600 ]
one pause_twice 125 '' "spore pause: sandbox $id is paused: wake it with 'spore resume $id'" pause first
one exec_asleep 125 '' "spore exec: sandbox $id is paused: wake it with 'spore resume $id'" exec first true
one fork_asleep 125 '' "spore fork: sandbox $id is paused: wake it with 'spore resume $id'" fork first
one resume 0 '' '' resume first
check resume_number [ "$(number first)" = 1 ]
one resume_twice 125 '' "spore resume: sandbox $id is running" resume first
for _ in $(seq 8); do "$spore" pause first && "$spore" resume "${id:0:5}"; done
check sleeps_number [ "$(number first)" = 9 ]
"$spore" pause first
check sleeps_increments [ "$(ancestors "$dir")$(ls "$dir" | grep -c '^[0-9a-f]*\.snap')" = 00 ]
check sleeps_few_layers [ "$(ls "$dir" | grep -c '^disk-.*cow')" -le 9 ]
"$spore" resume first && "$spore" pause first
check increment [ "$(ancestors "$dir")$(ls "$dir" | grep -c '^[0-9a-f]*\.snap')" = 11 ]
check increment_is_small [ "$(stat -c %b "$dir/memory.snap")" -lt "$(stat -c %b "$dir"/[0-9a-f]*[0-9a-f].snap)" ]
check increment_verifies good "$dir"
"$spore" resume first
check increment_number [ "$(number first)" = 11 ]

# --- snapshots -------------------------------------------------------------------------------------------
one snapshot_unknown 125 '' "spore snapshot: there is no sandbox 'nosuch'; see 'spore ls'" snapshot nosuch
shot=$("$spore" snapshot --name kept first 2>"$work/err")
check snapshot_id_alone [ "$(printf '%s' "$shot" | grep -cE '^[2-9a-km-np-z]{10}$')$(cat "$work/err")" = 1 ]
check snapshot_parent_runs_on [ "$(state_of first)" = running ]
check snapshot_is_whole good "$SPORE_STATE/snapshots/$shot"
check snapshot_shares_files [ "$(find "$SPORE_STATE/snapshots/$shot" -name '*.cow' -links +1 | wc -l)" -ge 1 ]
one snapshot_ls 0 "$shot" '' snapshot ls -q
check snapshot_json [ "$("$spore" snapshot ls --json | grep -cE '"(name|origin)": "(kept|'"$id"')"')" = 2 ]
one snapshot_name_taken 125 '' "spore snapshot: there is a snapshot called 'kept' already" snapshot --name kept first
one from_unknown 125 '' "spore create: there is no snapshot 'nosuch'; see 'spore snapshot ls'" create --from nosuch
one from_other_machine 125 '' 'spore create: --from brings its own machine: --cpus cannot be given' create --from kept --cpus 2
twin=$("$spore" create --from kept --name twin)
check from_number [ "$(number twin)" = 12 ]
check from_clone_is_named [ "$(cat "$FAKE_ETC/hostname")" = twin ]
check from_origin [ "$("$spore" ls --json | grep -c "\"origin\": \"$shot\"")" = 1 ]
"$spore" pause twin
check from_sleeps_as_increment [ "$(ancestors "$(folder "$twin")")" -ge 1 ]
again=$("$spore" snapshot twin)
check snapshot_of_sleeping good "$SPORE_STATE/snapshots/$again"
rm -f "$work/etc/hostname"
child=$("$spore" create --from "$again")
check from_sleeping_number [ "$(number "$child")" = 13 ]
one snapshot_rm 0 '' '' snapshot rm kept "$again"
check snapshot_rm_leaves_nothing [ -z "$(ls -A "$SPORE_STATE/snapshots")" ]
one snapshot_rm_unknown 125 '' "spore snapshot rm: there is no snapshot 'kept'; see 'spore snapshot ls'" snapshot rm kept
one resume_without_its_snapshot 0 '' '' resume twin
check resume_without_its_number [ "$(number twin)" = 13 ]
fresh=$("$spore" "${create[@]}")
one=$("$spore" snapshot "$fresh") two=$("$spore" snapshot "$fresh")
check snapshot_of_booted_is_whole [ "$(ancestors "$SPORE_STATE/snapshots/$one")" = 0 ]
check next_snapshot_is_increment [ "$(ancestors "$SPORE_STATE/snapshots/$two")" = 1 ]

# --- fork ------------------------------------------------------------------------------------------------
"$spore" fork -n 5 first >"$work/ids" 2>"$work/err"
check fork [ "$?$(cat "$work/err")" = 0 ]
check fork_ids [ "$(sort -u "$work/ids" | wc -l)" = 5 ]
check fork_running [ "$("$spore" ls | grep -c running)" = 9 ]
for i in $(cat "$work/ids"); do number "$i"; done >"$work/numbers"
check fork_one_instant [ "$(sort -u "$work/numbers")" = 13 ]
kid=$(head -n 1 "$work/ids")
"$spore" pause "$kid"
check fork_child_sleeps_as_increment [ "$(ancestors "$(folder "$kid")")" -ge 1 ]
one fork_child_wakes 0 '' '' resume "$kid"
one fork_count_zero 125 '' "spore fork: --count 0: not a number above 0; try 'spore help fork'" fork --count 0 first
one fork_too_many 125 '' 'spore fork: --count 1001: at most 1000 are made at one time' fork --count 1001 first
one fork_named_two 125 '' 'spore fork: --name names one child, not 2' fork --count 2 --name x first
FAKE_NO_LOAD=1 "$spore" fork -n 2 first >"$work/out" 2>"$work/err"
check fork_fails_clearly [ "$?$(cat "$work/out")$(cat "$work/err")" = "125spore fork: 2 of 2 children failed: fake: it has a machine" ]
check fork_failed_nothing_left [ "$("$spore" ls -q | wc -l)" = 9 ]
"$spore" kill "$kid"
one fork_dead 125 '' "spore fork: sandbox $kid is dead (killed); see 'spore logs $kid'" fork "$kid"
remove_all
check all_gone gone

# --- damage ----------------------------------------------------------------------------------------------
id=$("$spore" "${create[@]}")
dir=$(folder "$id")
"$spore" pause "$id"
cp "$dir/memory.snap" "$work/kept.snap"
printf '\377' | dd of="$dir/memory.snap" bs=1 seek=100 conv=notrunc status=none
one damaged_memory 125 '' "spore resume: sandbox $id sleeps on: memory.snap: snapshot: its header is damaged" resume "$id"
cp "$work/kept.snap" "$dir/memory.snap"
mv "$dir/disk-0.cow" "$work/"
"$spore" resume "$id" 2>"$work/err"
check missing_layer [ "$?:$(cat "$work/err")" = "125:spore resume: sandbox $id sleeps on: its disk has no sealed layer: Bad message" ]
mv "$work/disk-0.cow" "$dir/"
one mended_wakes 0 '' '' resume "$id"
remove_all

# --- time ------------------------------------------------------------------------------------------------
one on_timeout_unknown 125 '' "spore create: --on-timeout sleep: neither kill nor pause; try 'spore help create'" create --on-timeout sleep
id=$("$spore" "${create[@]}" --timeout 1s --on-timeout pause)
for _ in $(seq 200); do [ "$(state_of "$id")" = paused ] && break; sleep 0.05; done
check timeout_pauses_it [ "$(state_of "$id")" = paused ]
check watch_has_gone [ -z "$(pgrep -f "watch --state-dir $SPORE_STATE")" ]
"$spore" resume "$id"
check resume_watches_again [ "$(pgrep -fc "watch --state-dir $SPORE_STATE")" = 1 ]
"$spore" kill "$id"
for _ in $(seq 100); do pgrep -f "watch --state-dir $SPORE_STATE" >/dev/null || break; sleep 0.05; done
check watch_ends_with_vmm [ -z "$(pgrep -f "watch --state-dir $SPORE_STATE")" ]
remove_all

# --- kill -9 at random instants --------------------------------------------------------------------------
# What was acknowledged is there, what was not is as before, and nothing half: each sandbox runs or sleeps or is dead
# of the kill, what sleeps can be woken, and every snapshot there is can be read whole.
rounds=${KILL_ROUNDS:-40} odd=0
say_odd() { echo "# round $i: $*"; odd=$((odd + 1)); }
killed() # COMMAND...: start it and kill it
{
	"$spore" "$@" >"$work/out" 2>/dev/null &
	local pid=$!
	sleep "0.0$(printf '%02d' $((RANDOM % 32)))"
	kill -9 "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	# A child of the killed one may hold its lock until it is spore-vmm.
	for _ in $(seq 100); do "$spore" ls | grep -qE 'creating|:' || break; sleep 0.02; done
}
id=$("$spore" "${create[@]}")
dir=$(folder "$id")
last=0 slept=0 woke=0
for i in $(seq "$rounds"); do
	if [ "$(state_of "$id")" = running ]; then
		killed pause "$id"
	else
		killed resume "$id"
	fi
	case $(state_of "$id") in
	running) woke=$((woke + 1)); "$spore" exec "$id" true || say_odd "does not run" ;;
	paused) slept=$((slept + 1)); good "$dir" || say_odd "its memory is not whole" ;;
	*) say_odd "is $(state_of "$id")" ;;
	esac
	[ "$(state_of "$id")" = running ] || { [ "$(vmms)" = 0 ] || gone || say_odd "a VMM is left"; }
	[ $((i % 4)) = 0 ] || continue
	[ "$(state_of "$id")" = running ] || "$spore" resume "$id" || say_odd "does not wake"
	now=$(number "$id")
	[ "${now:-0}" -ge "$last" ] || say_odd "went back from $last to $now"
	last=${now:-0}
done
echo "# $rounds pauses and resumes killed: $woke times running, $slept asleep"
check killed_sleep_never_half [ "$odd" = 0 ]
check killed_sleep_no_temporary_file [ -z "$(ls "$dir" | grep -E 'part|tmp')" ]
[ "$(state_of "$id")" = running ] || "$spore" resume "$id"
odd=0 made=0
for i in $(seq "$rounds"); do
	killed snapshot "$id"
	"$spore" exec "$id" true || say_odd "the parent does not run"
	for s in $("$spore" snapshot ls -q); do
		good "$SPORE_STATE/snapshots/$s" || say_odd "snapshot $s is not whole"
		made=$((made + 1))
		"$spore" snapshot rm "$s"
	done
	[ -z "$(ls -A "$SPORE_STATE/snapshots")" ] || say_odd "something is left: $(ls -A "$SPORE_STATE/snapshots")"
done
echo "# $rounds snapshots killed: $made made"
check killed_snapshot_whole_or_none [ "$odd" = 0 ]
odd=0 made=0
for i in $(seq "$rounds"); do
	killed fork -n 2 "$id"
	"$spore" exec "$id" true || say_odd "the parent does not run"
	for c in $("$spore" ls -q | grep -v "$id"); do
		[ "$(state_of "$c")" = running ] && "$spore" exec "$c" true || say_odd "child $c is $(state_of "$c")"
		made=$((made + 1))
		"$spore" rm -f "$c"
	done
	gone 1 || say_odd "a VMM is left"
done
echo "# $rounds forks killed: $made children made"
check killed_fork_whole_or_none [ "$odd" = 0 ]
remove_all
check nothing_left [ -z "$(ls -A "$SPORE_STATE/sandboxes" "$SPORE_STATE/snapshots" | grep -v :)" ]
check no_vmm_left gone
exit "$failed"
