# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# checks.sh - sourced by the scripts here: names of checks, and commands compared whole.  It wants $spore and a
# folder $work, and leaves 1 in $failed when a check failed.
failed=0

check() # NAME CONDITION...
{
	local name=$1
	shift
	if "$@"; then echo "ok $name"; else echo "not ok $name"; failed=1; fi
}

# one NAME STATUS STDOUT STDERR ARGS...: a command of spore compared whole
one()
{
	local name=$1 want=$2 out=$3 err=$4 status
	shift 4
	"$spore" "$@" >"$work/out" 2>"$work/err"
	status=$?
	if [ "$status" = "$want" ] && [ "$(cat "$work/out")" = "$out" ] && [ "$(cat "$work/err")" = "$err" ]; then
		echo "ok $name"
	else
		echo "not ok $name: status $status, out: $(head -c 300 "$work/out"), err: $(head -c 600 "$work/err")"
		failed=1
	fi
}
