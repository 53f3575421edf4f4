#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# vmm_process: spore-vmm as its parent sees it, with tiny guests: exit status, messages, timings, what is left.
# Output: `ok NAME` or `not ok NAME` a case; status 0, 1, or 77 when it cannot run here.
set -u
cd "$(dirname "$0")/../.." || exit 1
[ -r /dev/kvm ] && [ -w /dev/kvm ] || { echo "skip: no usable /dev/kvm"; exit 77; }
vmm=build/spore-vmm guests=build/tests/kvm/guest
[ -x "$vmm" ] && [ -e "$guests/hello.elf" ] || { echo "skip: make all kvm-build first"; exit 77; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

# check NAME WANTED SEEN
check()
{
	if [ "$2" = "$3" ]; then
		echo "ok $1"
	else
		echo "not ok $1"
		printf '# wanted: %s\n# seen:   %s\n' "$2" "$3"
		bad=1
	fi
}

config()
{
	printf '{"boot-source":{"kernel_image_path":"%s"},"machine-config":{"vcpu_count":1,"mem_size_mib":%s}}' \
		"$guests/$1.elf" "${2-128}" >"$work/$1.json"
}

# run ARGS...: out, err and status of spore-vmm
run()
{
	timeout 60 "$vmm" "$@" >"$work/out" 2>"$work/err"
	status=$?
}

# boot GUEST [ARGS...]: the same with a guest's configuration
boot()
{
	config "$1"
	run --no-api --config-file "$work/$1.json" "${@:2}"
}

boot hello --timings="$work/timings"
check guest_resets__status_0 "0 hello" "$status $(cat "$work/out")"
check guest_resets__stderr_empty "" "$(cat "$work/err")"
check timings__json_in_order ordered "$(python3 - "$work/timings" <<'END'
import json, sys
t = json.load(open(sys.argv[1]))
order = ["create_begin", "kvm_ready", "memory_ready", "vcpus_ready", "devices_ready", "kernel_loaded",
         "created", "started", "first_run", "first_exit", "ended"]
at = [t[k] for k in order]
print("ordered" if at == sorted(at) and at[0] > 0 and t["serial_bytes"] == 6 else at)
END
)"

boot triple
check triple_fault__status_1 "1 spore-vmm: vCPU 0: triple fault" "$status $(cat "$work/err")"

# A guest that breaks its devices: each says so in a line, from the io thread, which may write and nothing else of
# stdio; and the same guest with manners is served after.
python3 -c 'import array, sys # the words of tests/kvm/disk.h
words = array.array("Q", ((i * 0x9e3779b97f4a7c15 + 1) % 2**64 for i in range(2048 * 64)))
for name in sys.argv[1:]: open(name, "wb").write(words.tobytes())' "$work/disk" "$work/fixed"
printf '{"boot-source":{"kernel_image_path":"%s","boot_args":"seed=7 count=400"},
"machine-config":{"vcpu_count":1,"mem_size_mib":16},"entropy":{},"vsock":{"guest_cid":3,"uds_path":"%s"},
"drives":[{"drive_id":"disk","path_on_host":"%s","is_root_device":false,"is_read_only":false},
{"drive_id":"fixed","path_on_host":"%s","is_root_device":false,"is_read_only":true}]}' \
	"$guests/hostile.elf" "$work/vsock" "$work/disk" "$work/fixed" >"$work/hostile.json"
run --no-api --config-file "$work/hostile.json"
check hostile_guest__sealed_vmm_serves_after "0 honest good" "$status $(tail -n 2 "$work/out" | tr '\n' ' ' | sed 's/ $//')"
check hostile_guest__devices_say_so said \
	"$(grep -q '^spore-vmm: device=.* event=broken-by-guest why=".*" dropped=[0-9]*$' "$work/err" && echo said || head -n 3 "$work/err")"
rm -f "$work/disk" "$work/fixed" "$work/vsock"

echo '{"bogus":{}}' >"$work/bogus.json"
run --no-api --config-file "$work/bogus.json"
check bad_config__status_152 \
	"152 spore-vmm: config file '$work/bogus.json': unknown section \"bogus\"" "$status $(cat "$work/err")"
run --bogus
check bad_argument__status_153 "153 spore-vmm: unknown option '--bogus' (see --help)" "$status $(cat "$work/err")"

# A guest that runs for ever, ended from outside: the process goes, and nothing of it stays.
config spin
before=$(find "$work" | sort)
"$vmm" --no-api --config-file "$work/spin.json" >"$work/dots" 2>"$work/err" &
pid=$!
for _ in $(seq 600); do
	[ -s "$work/dots" ] && break
	sleep 0.1
done
rss=$(awk '/^[0-9a-f]+-/ { guest = /memfd/ } /^Rss:/ && !guest { n += $2 } END { print n }' "/proc/$pid/smaps")
echo "resident beyond guest memory, 1 vCPU, 128 MiB: $rss KiB"
children=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null)
check running__has_no_child "" "$children"
kill -TERM "$pid"
wait "$pid" 2>/dev/null
check sigterm__ends_it_in_order 0 $?
check sigterm__process_is_gone gone "$([ -e "/proc/$pid" ] && echo there || echo gone)"
rm -f "$work/dots"
check sigterm__leaves_no_file "$(echo "$before" | grep -vE '/dots$')" "$(find "$work" | sort)"
exit $bad
