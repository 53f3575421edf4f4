# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# cache.sh: things that take long to build, kept by the hash of what they were built from (sourced).
#
#   dir=$(cache_get KIND HASH WHAT COMMAND [ARG...])
#
# looks for ${XDG_CACHE_HOME:-~/.cache}/spore/KIND-HASH and prints its path.  When it is not there, COMMAND runs
# in an empty folder beside it, and that folder is renamed into place when COMMAND has succeeded: an entry is
# complete or absent, whoever is killed and when.  An entry is never changed afterwards.
#
# - One lock an entry: two builders at once do the work once, the second waits and says so.
# - COMMAND runs in a process group of its own under a watcher.  The watcher prints a line every CACHE_BEAT_S
#   seconds (what, step, time gone, lines of log) and ends the group when its owner has died, by SIGKILL too.
# - COMMAND's output goes to build.log in the entry; when it fails, the end of the log is shown and the log is
#   kept as failed-KIND.log.  A line written to the file $CACHE_STEP names the step that the watcher prints.
# - Whatever a killed builder has left is swept by the next one.  `guest/setup/cache gc` drops old entries.

CACHE_BEAT_S=${CACHE_BEAT_S:-8}

cache_root()
{
	printf '%s/spore\n' "${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}"
}

# Hash of stdin as 16 hex digits: enough to never meet a twin among the few entries of one user.
cache_hash()
{
	sha256sum | cut -c1-16
}

cache_say()
{
	printf '%s\n' "$*" >&2
}

cache_time()
{
	if (($1 < 60)); then printf '%ds' "$1"; else printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); fi
}

# cache_lock ENTRY WAIT: leaves the lock in fd $cache_lock_fd.  WAIT: -n to give up at once, or a text to wait with.
# A lock file may be removed by gc between open and flock: then it is not the one at that path, and we try again.
cache_lock()
{
	local file wait=$2 begin=$SECONDS
	file=$(cache_root)/.lock-$1
	while :; do
		exec {cache_lock_fd}>"$file"
		until flock -n "$cache_lock_fd"; do
			if [ "$wait" = -n ]; then
				exec {cache_lock_fd}>&-
				return 1
			fi
			kill -0 $$ 2>/dev/null || exit 1
			cache_say "$wait: somebody else is building it, waiting ($(cache_time $((SECONDS - begin))))"
			flock -w "$CACHE_BEAT_S" "$cache_lock_fd" && break
		done
		[ "$file" -ef "/proc/self/fd/$cache_lock_fd" ] && return 0
		exec {cache_lock_fd}>&-
	done
}

# Files of a root file system made in a user namespace may belong to ids that only that namespace can remove.
cache_remove()
{
	rm -rf -- "$@" 2>/dev/null && return 0
	chmod -R u+rwx -- "$@" 2>/dev/null
	rm -rf -- "$@"
}

# Removes the remains of builders that were killed: a temporary folder whose entry nobody has locked.
cache_sweep()
{
	local tmp entry
	for tmp in "$(cache_root)"/.tmp-*; do
		[ -e "$tmp" ] || continue
		entry=${tmp##*/.tmp-}
		entry=${entry%.*}
		[ "$entry" = "${1-}" ] || (cache_lock "$entry" -n) || continue
		cache_remove "$tmp"
	done
}

# The watcher, leader of the build's process group.  The owner is gone when the pipe at stdin ends (the subshell of
# cache_get) or when $$ does (the script that called it).
cache_watch()
{
	local what=$1 tmp=$2 begin=$SECONDS beat=$SECONDS pid line status
	shift 2
	cd "$tmp" || return 1
	# The caller's stderr stays with the watcher alone.
	CACHE_STEP=$tmp/.step "$@" >build.log 2>&1 </dev/null &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		read -r -t 0.2 line
		status=$?
		if ((status <= 128)) || ! kill -0 $$ 2>/dev/null; then
			trap '' TERM
			kill -TERM 0
			sleep 0.5
			cache_remove "$tmp"
			kill -KILL 0
		fi
		((SECONDS - beat >= CACHE_BEAT_S)) || continue
		beat=$SECONDS
		line=working
		[ ! -s .step ] || line=$(tail -n 1 .step)
		cache_say "$what: $line ($(cache_time $((SECONDS - begin))), $(wc -l <build.log) lines of log)"
	done
	wait "$pid"
}

cache_hit()
{
	[ -d "$1" ] || return 1
	touch -c "$1" # the time of last use, for gc
	printf '%s\n' "$1"
}

# In a subshell: its traps, lock and coprocess end with it.
cache_get()
(
	root=$(cache_root) name=$1-$2 what=$3 kind=$1
	shift 3
	set +e
	cache_hit "$root/$name" && exit 0
	mkdir -p "$root" || exit 1
	cache_lock "$name" "$what"
	cache_hit "$root/$name" && exit 0
	cache_sweep "$name"
	tmp=$(mktemp -d "$root/.tmp-$name.XXXXXX") || exit 1
	chmod 755 "$tmp"
	cache_say "$what: building (kept as $root/$name)"
	begin=$SECONDS
	set -m
	# Neither the build nor its watcher holds the lock: whoever comes after a kill need not wait for them.
	coproc WATCH { exec {cache_lock_fd}>&-; cache_watch "$what" "$tmp" "$@"; }
	set +m
	watch=$WATCH_PID
	trap 'exec {WATCH[1]}>&-; wait "$watch"; exit 130' INT
	trap 'exec {WATCH[1]}>&-; wait "$watch"; exit 143' TERM HUP
	wait "$watch"
	status=$?
	trap - INT TERM HUP
	rm -f "$tmp/.step"
	if ((status)); then
		mv -f "$tmp/build.log" "$root/failed-$kind.log"
		tail -n 30 "$root/failed-$kind.log" >&2
		cache_say "$what: failed with status $status, log: $root/failed-$kind.log"
		cache_remove "$tmp"
		exit 1
	fi
	find "$tmp" -maxdepth 1 -type f -exec sync {} + # a power cut must not leave empty files under a good name
	mv -T "$tmp" "$root/$name" || exit 1
	cache_say "$what: done in $(cache_time $((SECONDS - begin)))"
	cache_hit "$root/$name"
)
