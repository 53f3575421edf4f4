#!/usr/bin/env bash
# Includes point down the floors only (docs/DESIGN.md, "Floors").  Prints each offender as file:line.
set -eu
cd "$(dirname "$0")/../.."

# folder:folders it may include.  "api" stands for vmm/libvmm.h, the one public door of vmm/.
rows="wire:wire base:wire,base snapshot:wire,base,snapshot
devices:wire,base,snapshot,devices vmm:wire,base,snapshot,devices,vmm,api
supervisor:wire,base,snapshot,supervisor,api agent:wire,base,agent bench:wire,base,bench,api"

git grep --untracked -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' -- '*.c' '*.h' |
	awk -F'[:"]' -v rows="$rows" '
	BEGIN {
		n = split(rows, row, /[ \n]+/)
		for (i = 1; i <= n; i++) {
			split(row[i], r, ":")
			m = split(r[2], to, ",")
			for (j = 1; j <= m; j++)
				ok[r[1], to[j]] = 1
		}
	}
	{
		split($1, from, "/")
		split($4, into, "/")
		dst = ($4 == "vmm/libvmm.h") ? "api" : into[1]
		if (from[1] != "tests" && !((from[1], dst) in ok)) {
			print $1 ":" $2 ": " from[1] "/ may not include " $4
			bad = 1
		}
	}
	END { exit bad }'

# none WHY GREP-ARGUMENTS: no line may match.
none() {
	local why=$1
	shift
	if git grep --untracked -nE "$@"; then
		echo "not ok layers: $why"
		exit 1
	fi
}
none "only vmm/ and tests/ and bench/floor/ know KVM" -e 'linux/kvm\.h' -- '*.c' '*.h' ':!vmm' ':!tests' ':!bench/floor'
none "only vmm/kvm*.c call KVM" -e 'ioctl\([^)]*KVM_' -- '*.c' ':!vmm/kvm.c' ':!vmm/kvm_state.c' ':!tests' ':!bench/floor'
none "only base/gmem.c turns a guest address into a pointer" -e '->host\b' -- '*.c' '*.h' ':!base/gmem.c' ':!tests'
echo "ok layers"
