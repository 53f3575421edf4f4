#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# image: what build/guest/ holds, looked at from outside: base image, kernel, archives.  No guest is started.
# Output: `ok NAME`, `not ok NAME` or `skip NAME` a case; status 0, 1, or 77 when nothing is built yet.
set -u
export LC_ALL=C PATH=$PATH:/usr/sbin:/sbin
cd "$(dirname "$0")/../.." || exit 1
guest=build/guest
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

# check NAME COMMAND...: one line of the result
check()
{
	local name=$1
	shift
	if "$@" >"$work/said" 2>&1; then
		echo "ok $name"
	else
		echo "not ok $name"
		sed 's/^/# /' "$work/said"
		bad=1
	fi
}

# inode PATH: type, mode, owner and size of a file in the image
inode()
{
	debugfs -R "stat $1" "$guest/base.ext4" 2>/dev/null |
		sed -nE 's/.*Type: ([a-z]+) +Mode: +([0-7]+) .*/\1 \2/p; s/^User: +([0-9]+) +Group: +([0-9]+) .*/\1 \2/p' | tr '\n' ' '
}

text()
{
	debugfs -R "cat $1" "$guest/base.ext4" 2>/dev/null
}

is() # WANT GOT
{
	[ "$1" = "$2" ] || { echo "want '$1', got '$2'"; return 1; }
}

# has PATH: there, in a root whose /bin, /lib and /sbin are links
has()
{
	local path
	for path in "$@"; do
		[ -n "$(inode "$path")" ] || { echo "$path is not in the image"; return 1; }
	done
}

superblock()
{
	dumpe2fs -h "$guest/base.ext4" 2>/dev/null | sed -n "s/^$1: *//p"
}

sparse() # at most 400 MB on disk, of 8 GiB
{
	local blocks
	blocks=$(stat -L -c %b "$guest/base.ext4")
	is 8589934592 "$(stat -L -c %s "$guest/base.ext4")" && [ $((blocks * 512)) -le 400000000 ] ||
		{ echo "$blocks blocks of 512 bytes on disk"; return 1; }
}

# The kernel zeroes inode tables at the first mount where this flag is missing.
nothing_lazy()
{
	local groups zeroed
	groups=$(dumpe2fs "$guest/base.ext4" 2>/dev/null | grep -c '^Group [0-9]')
	zeroed=$(dumpe2fs "$guest/base.ext4" 2>/dev/null | grep '^Group [0-9]' | grep -c ITABLE_ZEROED)
	is "$groups" "$zeroed"
}

fragments_survived()
{
	local config
	config=$(dirname "$(readlink -f "$guest/vmlinux")")/config
	! grep -hE '^(CONFIG_|# CONFIG_.* is not set$)' guest/kernel/*.config | grep -vxFf "$config"
}

json()
{
	python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); assert d["name"] == "base" and d["bytes"] > 0' \
		"$guest/base.json"
}

small() # FILE BYTES
{
	[ "$(stat -L -c %s "$1")" -le "$2" ] || { stat -L "$1"; return 1; }
}

same_twice()
{
	guest/initramfs/build-agent /bin/true "$work/a.cpio" && sleep 1.1 &&
		guest/initramfs/build-agent /bin/true "$work/b.cpio" && cmp "$work/a.cpio" "$work/b.cpio"
}

# What cpio makes of the archive: names, and the bytes of /init.
cpio_reads_it()
{
	(cd "$work" && cpio -i --quiet --to-stdout init <a.cpio) | cmp - /bin/true &&
		is 'dev proc sys run tmp newroot dev/console dev/null init' "$(cpio -it --quiet <"$work/a.cpio" | tr '\n' ' ' | sed 's/ $//')"
}

no_agent()
{
	! guest/initramfs/build-agent "$work/absent" "$work/c.cpio" >"$work/out" 2>&1 &&
		grep -q 'absent: no such file' "$work/out" && [ ! -e "$work/c.cpio" ]
}

check build_agent__same_binary__same_bytes same_twice
if command -v cpio >/dev/null; then
	check build_agent__archive__cpio_reads_it cpio_reads_it
else
	echo "skip build_agent__archive__cpio_reads_it (no cpio)"
fi
check build_agent__no_binary__said_and_nothing_written no_agent

if [ -e "$guest/initramfs.cpio" ]; then
	check initramfs__size__750_kB_at_most small "$guest/initramfs.cpio" 750000
else
	echo "skip initramfs__size__750_kB_at_most (not built: make guest-initramfs)"
fi

if [ -e "$guest/vmlinux" ]; then
	check kernel__fragments__every_line_in_config fragments_survived
	check kernel__vmlinux__20_MB_at_most small "$guest/vmlinux" 20000000
else
	echo "skip kernel__fragments__every_line_in_config (not built: make guest-kernel)"
fi

if [ -e "$guest/base.ext4" ]; then
	check image__file_system__clean e2fsck -fn "$guest/base.ext4"
	check image__file__sparse sparse
	check image__first_mount__nothing_to_initialize nothing_lazy
	check image__mount_options__user_xattr_and_acl is 'user_xattr acl' "$(superblock 'Default mount options')"
	check image__journal__smallest is 4096k "$(superblock 'Total journal size')"
	check image__user__owns_home is 'directory 0755 1000 1000 ' "$(inode /home/user)"
	check image__sudo__setuid_root is 'regular 04755 0 0 ' "$(inode /usr/bin/sudo)"
	check image__sudo__no_password is 'user ALL=(ALL:ALL) NOPASSWD: ALL' "$(text /etc/sudoers.d/user)"
	check image__sudo__rule_mode is 'regular 0440 0 0 ' "$(inode /etc/sudoers.d/user)"
	check image__locale__utf8 is 'LANG=C.UTF-8' "$(text /etc/default/locale)"
	check image__identity__none is '' "$(text /etc/machine-id)$(text /etc/resolv.conf)"
	check image__programs__there has /usr/bin/bash /usr/bin/python3 /usr/bin/python /usr/bin/git \
		/usr/lib/git-core/git-daemon /usr/bin/curl /etc/ssl/certs/ca-certificates.crt /usr/bin/ps /usr/bin/tput \
		/usr/bin/ionice /usr/bin/apt-get
	check image__json__readable json
else
	echo "skip image__file_system__clean (not built: make guest-image)"
fi
exit $bad
