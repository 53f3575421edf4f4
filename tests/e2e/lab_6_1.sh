#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# lab_6_1.sh - the oldest host kernel that we support, Debian 12's own, in the lab: a Linux guest, what `spore doctor`
# says is lost there, and the tests of what has a fallback (Landlock, PR_SET_MDWE, PAGEMAP_SCAN, io_uring, memory, vsock; capture and load).
set -u
cd "$(dirname "$0")/../.."
command -v qemu-system-x86_64 >/dev/null || { echo "skip: no qemu-system-x86_64"; exit 77; }
for f in build/spore build/guest/vmlinux build/guest/agent.cpio build/guest/base.ext4 build/tests/kvm/seal_test \
	build/tests/unit/sandbox_test; do
	[ -e "$f" ] || { echo "skip: no $f: make all unit-build kvm-build guest"; exit 77; }
done
export LAB_SUFFIX=oldest$$
lab=(tests/lab/run --shape 1 --kernel 6.1 --timeout 800)
trap 'tests/lab/down --shape 1 --kernel 6.1 2>/dev/null; rm -rf "build/lab/1-6.1-$LAB_SUFFIX"*' EXIT

# Inside, as root.
inside='
failed=0
check() { # NAME WANTED SEEN
	if [ "$2" = "$3" ]; then echo "ok $1"; else printf "not ok %s\n# wanted: %s\n# seen:   %s\n" "$1" "$2" "$3"; failed=1; fi
}
program() { # NAME PROGRAM: a cmocka program; nothing of it fails
	if timeout 200 "$2" >/tmp/said 2>&1; then echo "ok $1"; else echo "not ok $1"; tail -n 15 /tmp/said | sed "s/^/# /"; failed=1; fi
}
check host__kernel__is_6_1 6.1 "$(uname -r | cut -d. -f1,2)"
said=$(build/spore run -- sh -c "echo hello; exit 3" 2>&1 </dev/null)
check guest__status_and_output__pass_through "3 hello" "$? $said"
doctor=$(build/spore doctor --json)
check doctor__kvm__usable 0 $?
lost() { printf %s "$doctor" | python3 -c "import json, sys
print(*[c[\"name\"] for c in json.load(sys.stdin)[\"checks\"] if c[\"name\"] in (\"mdwe\", \"pagemap_scan\") and c[\"status\"] == \"degraded\" and c[\"lost\"] and c[\"how\"]])"; }
check doctor__newer_interfaces__said_to_be_lost "pagemap_scan mdwe" "$(lost)"
for t in unit/sandbox_test unit/seccomp_test unit/loop_test unit/gmem_test unit/anon_test kvm/seal_test kvm/blk_test kvm/irq_test kvm/vsock_test \
	kvm/ctl_test kvm/device_state_test; do
	program "$t" "build/tests/$t"
done
exit $failed
'
"${lab[@]}" bash -c "$inside" </dev/null
