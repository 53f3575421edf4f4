#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cli_sandbox.sh - the commands about sandboxes, with a VMM that needs no KVM (tests/fake/vmm.c): what they
# print, their statuses and messages, and what is left after a kill -9 at any instant.
set -u
cd "$(dirname "$0")/../.."
. tests/e2e/fake_vmm.sh

# --- create, exec, what stays between ------------------------------------------------------------------
id=$("$spore" "${create[@]}" --name first 2>"$work/err") 
check create_id_alone_on_stdout [ "$(printf '%s' "$id" | grep -cE '^[2-9a-km-np-z]{10}$')$(cat "$work/err")" = 1 ]
check vmm_outlives_command [ "$(vmms)" = 1 ]
check folder_modes [ "$(stat -c %a "$SPORE_STATE/sandboxes" "$SPORE_STATE/sandboxes/$id" "$SPORE_STATE/sandboxes/$id/meta.json" \
	"$SPORE_STATE/sandboxes/$id/disk-0.cow" "$SPORE_STATE/sandboxes/$id/vsock.sock" | tr '\n' ' ')" = '700 700 600 600 600 ' ]
one exec_streams_status 3 hello oops exec "$id" sh -c 'echo hello; echo oops >&2; exit 3' </dev/null
one exec_by_name 0 named '' exec first echo named </dev/null
one exec_by_prefix 0 prefix '' exec "${id:0:4}" -- echo prefix </dev/null
one exec_not_found 127 '' 'spore exec: nosuch: command not found' exec first nosuch </dev/null
one exec_not_executable 126 '' 'spore exec: /etc/passwd: cannot be executed: Permission denied' exec first /etc/passwd </dev/null
one exec_signal 137 '' '' exec first sh -c 'kill -9 $$' </dev/null
one exec_timeout 124 '' "spore exec: the command's time ran out" exec --timeout 300ms first sleep 60 </dev/null
one exec_environment 0 '1 /' '' exec --env A=1 --cwd / first sh -c 'echo "$A $PWD"' </dev/null
check exec_stdin [ "$(echo through | "$spore" exec first cat)" = through ]
process=$("$spore" exec -d first sh -c 'echo kept; read -r _ <"'"$work"'/fifo-none"; sleep 0.3; exit 5' 2>/dev/null)
one attach_replays 5 kept 'sh: 1: cannot open '"$work"'/fifo-none: No such file' attach first "$process" </dev/null
one attach_unknown 125 '' 'spore attach: 99999: no such process' attach first 99999 </dev/null
one attach_no_number 125 '' "spore attach: '1x' is no process: see 'spore ps $id'" attach first 1x </dev/null
"$spore" exec -d first sleep 30.25 >"$work/out"
check ps_shows [ -n "$("$spore" ps first | grep -E 'detached.*sleep 30.25')" ]
check ps_json [ "$("$spore" ps --json first | grep -c '"sleep"')" = 1 ]
check metrics [ -n "$("$spore" metrics --json first | grep mem_total)" ]
check shell [ "$(echo 'echo "in $((40+2))"; exit 6' | "$spore" shell --no-tty first 2>/dev/null; echo $?)" = "$(printf 'in 42\n6')" ]

# --- cp ----------------------------------------------------------------------------------------------
head -c 300000 /dev/urandom >"$work/a:b"
one cp_in 0 '' '' cp "$work/a:b" "first:$work/inside"
one cp_out 0 '' '' cp "first:$work/inside" "$work/back"
check cp_same cmp -s "$work/a:b" "$work/back"
one cp_neither 125 '' 'spore cp: one of the two, and not both, is SANDBOX:PATH' cp "$work/a:b" "$work/x"
one cp_both 125 '' 'spore cp: one of the two, and not both, is SANDBOX:PATH' cp first:/a first:/b
one cp_no_path 125 '' 'spore cp: first:: no path behind the colon' cp first: "$work/x"

# A shell offers ids and names where a sandbox is wanted, options behind a dash.
check completion [ "$(PATH=$PWD/build:$PATH bash -c '. <(spore completion bash); COMP_CWORD=2
	COMP_WORDS=(spore exec ""); _spore; echo "${COMPREPLY[@]}"; COMP_WORDS=(spore exec --tt); _spore; echo "${COMPREPLY[@]}"')" = \
	"$(printf '%s first\n--tty' "$id")" ]

# --- ls, logs ----------------------------------------------------------------------------------------
one ls_quiet 0 "$id" '' ls -q
check ls_table [ "$("$spore" ls | tail -n 1 | awk '{ print $1, $2, $3, $5, $6, $7 }')" = "$id first running 1 512 $work/image.ext4" ]
check ls_json [ "$("$spore" ls --json | grep -cE '"(id|name|state)": "('"$id"'|first|running)"')" = 3 ]
one logs_escaped 0 "$(printf 'fake kernel\nfake init \\x1b[1mup')" '' logs first
one logs_lines 0 'fake init \x1b[1mup' '' logs -n 1 first
one logs_vmm 0 'spore-vmm: fake' '' logs --vmm first
check logs_raw [ "$("$spore" logs --raw first | od -An -c | tr -d ' \n')" = 'fakekernel\r\nfakeinit033[1mup\n' ]
"$spore" logs -f first >"$work/follow" &
follower=$!

# --- wrong use ---------------------------------------------------------------------------------------
one name_taken 125 '' "spore create: there is a sandbox called 'first' already" "${create[@]}" --name first
one name_bad 125 '' "spore create: 'A b' is no name for a sandbox: small letters, digits, '.', '_' and '-', at most 63" \
	"${create[@]}" --name 'A b'
one exec_unknown 125 '' "spore exec: there is no sandbox 'nosuch'; see 'spore ls'" exec nosuch true
one exec_nothing 125 '' 'spore exec: no command to run' exec first --
one rm_running 125 '' "spore rm: sandbox $id is running: 'spore kill $id' first, or --force" rm first
FAKE_SILENT=1 "$spore" "${create[@]}" --boot-timeout 300ms >"$work/out" 2>"$work/err"
check boot_silent_status [ "$?:$(cat "$work/out")" = 125: ]
check boot_silent_says [ "$(head -n 1 "$work/err")" = "spore create: the guest's agent did not answer within 0.3 s; the VM is killed" ]
check boot_silent_shows_console grep -q 'fake init' "$work/err"
check boot_silent_nothing_left [ "$("$spore" ls -q | wc -l)$(vmms)" = 11 ]
one state_no_folder 125 '' 'spore ls: make folder /dev/null/x: Not a directory' ls --state-dir /dev/null/x

# --- the end -----------------------------------------------------------------------------------------
"$spore" exec first sleep 60.5 2>"$work/cut" &
cut=$!
for _ in $(seq 200); do pgrep -f 'sleep 60.5' >/dev/null && break; sleep 0.02; done
one kill_running 0 '' '' kill first
wait "$cut"
check exec_says_sandbox_ended [ "$?:$(cat "$work/cut")" = "125:spore exec: sandbox $id ended while the command ran" ]
wait "$follower"
check logs_follow_ends [ "$?:$(tail -n 1 "$work/follow")" = '0:fake init \x1b[1mup' ]
check kill_ends_vmm gone
one exec_dead 125 '' "spore exec: sandbox $id is dead (killed); see 'spore logs $id'" exec first true
one kill_dead 125 '' "spore kill: sandbox $id is dead (killed); see 'spore logs $id'" kill first
one logs_dead 0 'fake init \x1b[1mup' '' logs -n 1 first
one rm_dead 0 '' '' rm first
one rm_unknown 125 '' "spore rm: there is no sandbox 'first'; see 'spore ls'" rm first
check rm_leaves_nothing [ -z "$(ls -A "$SPORE_STATE/sandboxes")" ]

id=$("$spore" "${create[@]}" --timeout 700ms)
for _ in $(seq 200); do [ "$("$spore" ls | awk 'NR == 2 { print $3 }')" = dead ] && break; sleep 0.05; done
one timeout_ends_it 125 '' "spore exec: sandbox $id is dead (its time was over); see 'spore logs $id'" exec "$id" true
echo '{' >"$SPORE_STATE/sandboxes/$id/meta.json"
one damaged 125 '' "spore exec: sandbox $id: its meta.json is damaged; 'spore rm --force $id' removes it" exec "$id" true
one damaged_rm 125 '' "spore rm: sandbox $id: its meta.json is damaged; 'spore rm --force $id' removes it" rm "$id"
one damaged_rm_force 0 '' '' rm --force "$id"

# A folder whose path is longer than a socket's address.
long=$work/$(printf 'x%.0s' $(seq 120))
id=$("$spore" "${create[@]}" --state-dir "$long")
one long_state_dir 0 deep '' exec --state-dir "$long" "$id" echo deep
one long_state_dir_rm 0 '' '' rm -f --state-dir "$long" "$id"

# --- kill -9 at random instants of create: the next command leaves a whole sandbox or none --------------
rounds=${KILL_ROUNDS:-50} whole=0 none=0 odd=0
for i in $(seq "$rounds"); do
	"$spore" "${create[@]}" >"$work/out" 2>/dev/null &
	pid=$!
	sleep "0.$(printf '%03d' $((i * 37 % 101)))"
	kill -9 "$pid" 2>/dev/null
	wait "$pid" 2>/dev/null
	# A child of the killed one may hold its lock until it is spore-vmm.
	for _ in $(seq 100); do "$spore" ls | grep -q creating || break; sleep 0.02; done
	case $("$spore" ls | awk 'NR > 1 { print $2 }') in
	'') none=$((none + 1)); gone || odd=$((odd + 1)) ;;
	running) whole=$((whole + 1)); "$spore" exec "$("$spore" ls -q)" true || odd=$((odd + 1)) ;;
	*) odd=$((odd + 1)) ;;
	esac
	for b in $("$spore" ls -q); do "$spore" rm -f "$b" || odd=$((odd + 1)); done
done
echo "# $rounds creates killed: $whole whole, $none without a trace"
check killed_create_whole_or_none [ "$odd" = 0 ]
check killed_create_nothing_left gone
check killed_create_no_folder_left [ -z "$(ls -A "$SPORE_STATE/sandboxes")" ]
exit "$failed"
