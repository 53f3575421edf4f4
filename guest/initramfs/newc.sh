# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# newc.sh: write an initramfs in cpio's newc form to stdout (sourced).
#
# Needs no root (device nodes are header lines only) and gives the same bytes for the same input: inode numbers
# count up, times are 0, owner is root.  Source of the format: Linux, Documentation/driver-api/early-userspace/
# buffer-format.rst.  Call newc_dir, newc_node, newc_file in order, then newc_end.

newc_inode=0
newc_size=0

newc_pad()
{
	local count=$(((4 - newc_size % 4) % 4))
	((count == 0)) || head -c "$count" /dev/zero
	newc_size=$((newc_size + count))
}

# newc_header NAME MODE NLINK BYTES MAJOR MINOR
newc_header()
{
	newc_inode=$((newc_inode + 1))
	printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\0' \
		"$newc_inode" "$2" 0 0 "$3" 0 "$4" 0 0 "$5" "$6" $((${#1} + 1)) 0 "$1"
	newc_size=$((newc_size + 110 + ${#1} + 1))
	newc_pad
}

newc_dir()
{
	newc_header "$1" $((0040755)) 2 0 0 0
}

# newc_node NAME MAJOR MINOR: a character device
newc_node()
{
	newc_header "$1" $((0020600)) 1 0 "$2" "$3"
}

# newc_file NAME PATH: an executable file with the bytes of PATH
newc_file()
{
	local bytes
	bytes=$(stat -L -c %s "$2") || return 1
	newc_header "$1" $((0100755)) 1 "$bytes" 0 0
	cat "$2" || return 1
	newc_size=$((newc_size + bytes))
	newc_pad
}

newc_end()
{
	newc_inode=-1
	newc_header 'TRAILER!!!' 0 1 0 0 0
}
