#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# needs: linux-guest
#
# cli_net.sh - spore run with a network: a server by address and by name, what is closed, published ports, and
# that no passt outlives its VM.  All in a network namespace of its own: the "Internet" is a second address.
set -u
cd "$(dirname "$0")/../.."
command -v passt >/dev/null || { echo "passt is not installed"; exit 77; }
if [ -z "${NET_TEST_INSIDE:-}" ]; then
	NET_TEST_INSIDE=1 exec unshare --net --mount "$0" "$@" || exit 77
fi
spore=$PWD/build/spore
for f in build/guest/vmlinux build/guest/agent.cpio build/guest/base.ext4; do
	[ -e "$f" ] || { echo "$f is not there: make guest"; exit 77; }
done
work=$(mktemp -d /tmp/cli-net-XXXXXX)
mkdir "$work/tmp" "$work/www"
export TMPDIR=$work/tmp XDG_RUNTIME_DIR=$work/tmp
servers=()
# shellcheck disable=SC2317
clean()
{
	kill "${servers[@]}" 2>/dev/null
	rm -rf "$work"
}
trap clean EXIT
# Its name becomes that of the variant it runs (passt.avx2): the port that we publish tells it from others'.
ours='^passt .*127\.0\.0\.1/18080:80'
failed=0

check() # NAME CONDITION...
{
	local name=$1
	shift
	if "$@"; then echo "ok $name"; else echo "not ok $name: $(cat "$work/out" "$work/err" | head -c 600)"; failed=1; fi
}

# 203.0.113.0/24 is for documentation: no private block, and no host of anybody's.
ip link set lo up
ip link add wide type dummy
ip addr add 203.0.113.5/24 dev wide
ip addr add 10.9.9.9/24 dev wide
ip link set wide up
ip route add default via 203.0.113.1
echo 'nameserver 203.0.113.5' >"$work/resolv.conf"
mount --bind "$work/resolv.conf" /etc/resolv.conf
echo 'hello from the host' >"$work/www/file"

# Answers every question for an address with 203.0.113.5.
python3 - <<'PY' &
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("203.0.113.5", 53))
while True:
    q, who = s.recvfrom(512)
    end = 12
    while q[end]:
        end += q[end] + 1
    a = q[end + 1:end + 3] == b"\0\1"
    answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([203, 0, 113, 5])
    s.sendto(q[:2] + b"\x81\x80\0\1\0" + bytes([a]) + b"\0\0\0\0" + q[12:end + 5] + (answer if a else b""), who)
PY
servers+=($!)
(cd "$work/www" && exec python3 -m http.server --bind 0.0.0.0 8000) >"$work/server" 2>&1 &
servers+=($!)
until curl -s http://127.0.0.1:8000/file >/dev/null; do sleep 0.2; done

guest() # ARGS...: what it printed is in out and err
{
	"$spore" run "$@" </dev/null >"$work/out" 2>"$work/err"
}

fetch='import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode(), end="")'

guest -- python3 -c "$fetch" http://203.0.113.5:8000/file
check by_address [ "$?:$(cat "$work/out")" = '0:hello from the host' ]
guest -- python3 -c "$fetch" http://files.example.com:8000/file
check by_name [ "$?:$(cat "$work/out")" = '0:hello from the host' ]
cat >"$work/closed" <<'SH'
for at in 127.0.0.1 10.0.2.2 10.9.9.9; do
	timeout 3 bash -c "exec 3<>/dev/tcp/$at/8000" 2>/dev/null && echo "$at is open"
done
echo looked
SH
guest -- bash -c "$(cat "$work/closed")"
check loopback_and_private_closed [ "$(cat "$work/out")" = looked ]
guest --net-allow loopback --net-allow private -- bash -c "$(cat "$work/closed")"
check opened_when_asked_for [ "$(cat "$work/out")" = "$(printf '10.0.2.2 is open\n10.9.9.9 is open\nlooked')" ]
guest --net none -- sh -c 'ls /sys/class/net'
check none [ "$(cat "$work/out")" = lo ]

"$spore" run --publish 18080:80 --user root -- sh -c \
	'echo inside >/tmp/file; cd /tmp; exec python3 -m http.server 80' </dev/null >"$work/out" 2>"$work/err" &
run=$!
while kill -0 "$run" 2>/dev/null && ! curl -s --max-time 5 -o "$work/got" http://127.0.0.1:18080/file; do
	sleep 0.5
done
check published [ "$(cat "$work/got")" = inside ]
check one_passt [ "$(pgrep -c -f "$ours")" = 1 ]
kill -9 "$run"
wait "$run" 2>/dev/null
for _ in $(seq 50); do
	pgrep -f "$ours" >/dev/null || break
	sleep 0.1
done
check no_passt_after_kill [ -z "$(pgrep -f "$ours")" ]
check nothing_left [ -z "$(ls -A "$work/tmp")" ]
exit "$failed"
