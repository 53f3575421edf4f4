#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# guest_cache: what guest/setup/cache.sh promises, on builds that only pretend.
# Output: `ok NAME` or `not ok NAME` a case; status 0, 1, or 77 when it cannot run here.
set -u
top=$(cd "$(dirname "$0")/../.." && pwd)
command -v flock >/dev/null || { echo "skip: no flock"; exit 77; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME=$work/cache CACHE_BEAT_S=1
root=$XDG_CACHE_HOME/spore
bad=0

# check NAME STATUS: one line of the result
check()
{
	if [ "$2" = 0 ]; then
		echo "ok $1"
	else
		echo "not ok $1"
		sed 's/^/# /' "$work"/*.err 2>/dev/null
		bad=1
	fi
}

# The builder: counts its runs, then waits as long as it is told, then leaves a file.
cat >"$work/build" <<'END'
#!/usr/bin/env bash
echo run >>"$1/runs"
echo $$ >"$1/pid"
echo "step one" >>"$CACHE_STEP"
: >half
sleep "$2" &
wait
[ -z "${3-}" ] || exit "$3"
echo whole >half
mv half result
END
chmod +x "$work/build"

# get SECONDS [STATUS]: as a script of its own, so that it can be killed
cat >"$work/get" <<END
#!/usr/bin/env bash
. "$top/guest/setup/cache.sh"
cache_get thing 0123456789abcdef "a thing" "$work/build" "$work" "\$@"
END
chmod +x "$work/get"

runs()
{
	wc -l <"$work/runs"
}

wait_for() # FILE, 20 s at most
{
	local i
	for ((i = 0; i < 200; i++)); do
		[ -e "$1" ] && return 0
		sleep 0.1
	done
	return 1
}

gone() # PID, 20 s at most
{
	local i
	for ((i = 0; i < 200; i++)); do
		kill -0 "$1" 2>/dev/null || return 0
		sleep 0.1
	done
	return 1
}

entry=$root/thing-0123456789abcdef

# A build that fails: nothing kept but its log, and the end of that is shown.
"$work/get" 0 7 >"$work/fail.out" 2>"$work/fail.err"
[ $? = 1 ] && [ ! -e "$entry" ] && [ ! -s "$work/fail.out" ] && [ -e "$root/failed-thing.log" ] &&
	grep -q 'a thing: failed with status 7' "$work/fail.err"
check cache_get__build_fails__absent_and_said $?

# SIGKILL in the middle: absent, builder ended, remains swept, rebuilt on the next call.
rm -f "$work/runs" "$work/pid"
"$work/get" 600 >"$work/kill.out" 2>"$work/kill.err" &
owner=$!
wait_for "$work/pid" && builder=$(cat "$work/pid") && sleep 0.3 && kill -KILL "$owner"
wait "$owner" 2>/dev/null
[ ! -e "$entry" ] && gone "$builder"
check cache_get__owner_killed__absent_and_builder_ended $?
"$work/get" 0 >"$work/again.out" 2>"$work/again.err"
[ $? = 0 ] && [ "$(cat "$work/again.out")" = "$entry" ] && [ "$(cat "$entry/result")" = whole ] && [ "$(runs)" = 2 ] &&
	[ -z "$(find "$root" -maxdepth 1 -name '.tmp-*')" ]
check cache_get__after_kill__rebuilt_and_swept $?

# There: no builder runs.
"$work/get" 0 >"$work/hit.out" 2>"$work/hit.err" && [ "$(cat "$work/hit.out")" = "$entry" ] && [ "$(runs)" = 2 ] &&
	[ ! -s "$work/hit.err" ]
check cache_get__present__no_build_no_word $?

# Two at once: one build, both get it, the long step says where it is.
rm -rf "$entry" "$work/runs"
"$work/get" 3 >"$work/one.out" 2>"$work/one.err" &
one=$!
"$work/get" 3 >"$work/two.out" 2>"$work/two.err" &
two=$!
wait "$one" && wait "$two" && [ "$(runs)" = 1 ] && [ "$(cat "$work/one.out")" = "$entry" ] &&
	[ "$(cat "$work/two.out")" = "$entry" ]
check cache_get__two_builders__one_build $?
cat "$work/one.err" "$work/two.err" | grep -q 'a thing: step one (' && cat "$work/one.err" "$work/two.err" | grep -q waiting
check cache_get__long_step__said $?

# The terminal's Ctrl-C: the whole group gets SIGINT; nothing is left.
rm -rf "$entry" "$work/runs" "$work/pid"
set -m
"$work/get" 600 >"$work/int.out" 2>"$work/int.err" &
owner=$!
set +m
wait_for "$work/pid" && builder=$(cat "$work/pid") && sleep 0.3 && kill -INT -- "-$owner"
wait "$owner" 2>/dev/null
[ ! -e "$entry" ] && gone "$builder" && [ -z "$(find "$root" -maxdepth 1 -name '.tmp-*')" ]
check cache_get__interrupted__nothing_left $?

# gc 0 drops what is there, but not what is being built.
"$work/get" 0 >"$work/gc.out" 2>"$work/gc.err"
"$top/guest/setup/cache" gc 0 >>"$work/gc.out" 2>>"$work/gc.err" && [ ! -e "$entry" ] && [ -z "$(ls -A "$root"/.lock-* 2>/dev/null)" ]
check cache_gc__zero_days__empty $?

exit $bad
