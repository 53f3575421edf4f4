# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by the programs of tests/lab: names, options, cache.  bash, set -eu.

lab_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
tree=$(cd "$lab_dir/../.." && pwd -P)
labs=$tree/build/lab
bin=$labs/bin
. "$tree/guest/setup/cache.sh"
cache=$(cache_root)

# What a lab is made of; the options below and the environment change it.
shape=${LAB_SHAPE:-2} kernel=${LAB_KERNEL:-6.12} memory=${LAB_MEMORY:-3072}
idle=${LAB_IDLE:-600} fresh='' hostfwd=()

say() { echo "lab: $*" >&2; }
die() { say "$1"; exit "${2:-70}"; }

# Takes one option that describes a lab from the caller's "$@"; sets $took to what it used.
lab_option() {
	took=2
	case $1 in
	--shape) shape=${2-} ;;
	--kernel) kernel=${2-} ;;
	--memory) memory=${2-} ;;
	--idle) idle=${2-} ;;
	--hostfwd) hostfwd+=("${2-}") ;;
	--fresh) fresh=--fresh took=1 ;;
	*) took=0 ;;
	esac
}

# Checks the options, and sets the lab's name and folder.
lab_name() {
	case $shape in 1 | 2 | icount) ;; *) die "--shape is 1, 2 or icount, not '$shape'" 2 ;; esac
	case $kernel in 6.1 | 6.12) ;; *) die "--kernel is 6.1 or 6.12, not '$kernel'" 2 ;; esac
	case $memory in '' | *[!0-9]*) die "--memory is a number of MiB, not '$memory'" 2 ;; esac
	case $idle in '' | *[!0-9]*) die "--idle is a number of seconds, not '$idle'" 2 ;; esac
	name=$shape-$kernel${LAB_SUFFIX:+-$LAB_SUFFIX}
	state=$labs/$name
}

# The keeper holds "alive" for its whole life.
lab_alive() { [ -e "$1/alive" ] && ! flock -n "$1/alive" true; }
lab_ready() { [ -e "$1/ready" ] && lab_alive "$1"; }

# End a lab and wait until nothing of it runs.
lab_stop() {
	local pid
	if lab_alive "$1"; then
		pid=$(cat "$1/pid" 2>/dev/null || true)
		[ -z "$pid" ] || kill "$pid" 2>/dev/null || true
		flock -w 20 "$1/alive" true || die "the keeper of $1 does not end"
	fi
	rm -f "$1/ready" "$1/token" "$1/port"
}
