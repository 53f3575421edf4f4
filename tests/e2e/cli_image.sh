#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# cli_image.sh - images into the store and out of it: ext4, tar, OCI layout; as root and in user namespaces;
# what is refused; and that a killed import leaves nothing behind for long.
set -u
cd "$(dirname "$0")/../.."
spore=$PWD/build/spore
[ -x "$spore" ] || { echo "build/spore is not built"; exit 77; }
for tool in mke2fs debugfs python3 unshare; do
	command -v "$tool" >/dev/null || { echo "needs $tool"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
export XDG_DATA_HOME=$work/data
store=$work/data/spore/images
failed=0

check() # NAME CONDITION...
{
	local name=$1
	shift
	if "$@" >/dev/null 2>&1; then echo "ok $name"; else echo "not ok $name"; failed=1; fi
}
in_image() # IMAGE FILE: its content
{
	debugfs -R "cat $2" "$store/$1/rootfs.ext4" 2>/dev/null
}

mkdir -p "$work/tree/etc" "$work/tree/bin"
echo content >"$work/tree/etc/file"
ln -s ../etc/file "$work/tree/bin/link"
tar -C "$work/tree" --owner=1234 --group=4321 --numeric-owner -czf "$work/tree.tar.gz" .

# tar
check import_tar "$spore" image import tar "$work/tree.tar.gz"
check tar_content [ "$(in_image tar /etc/file)" = content ]
check tar_clean e2fsck -fn "$store/tar/rootfs.ext4"
[ "$(id -u)" != 0 ] || check tar_owner \
	[ "$(debugfs -R 'stat /etc/file' "$store/tar/rootfs.ext4" 2>/dev/null | grep -oE 'User: +[0-9]+' | tr -d ' ')" = User:1234 ]
check import_taken [ "$("$spore" image import tar "$work/tree.tar.gz" 2>&1)" = \
	"spore image import: there is an image 'tar' already: --replace" ]
check import_replace "$spore" image import --replace tar "$work/tree.tar.gz"
check import_too_big [ "$("$spore" image import --max-size 4 big "$work/tree.tar.gz" 2>&1 | tail -n 1 | grep -c 'more than allowed')" = 1 ]
check too_big_absent [ ! -e "$store/big" ]

# ext4
truncate -s 8M "$work/fs.ext4"
mke2fs -q -t ext4 -d "$work/tree" "$work/fs.ext4"
check import_ext4 "$spore" image import ext4 "$work/fs.ext4"
check ext4_same cmp "$work/fs.ext4" "$store/ext4/rootfs.ext4"

# OCI layout: two layers, the upper one with whiteouts
python3 - "$work" <<'END'
import gzip, hashlib, io, json, os, sys, tarfile
top = sys.argv[1] + "/oci"
os.makedirs(top + "/blobs/sha256")
def blob(data, kind):
    digest = hashlib.sha256(data).hexdigest()
    open(f"{top}/blobs/sha256/{digest}", "wb").write(data)
    return {"mediaType": kind, "digest": "sha256:" + digest, "size": len(data)}
def layer(files):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for name, text in files:
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text))
    return blob(gzip.compress(raw.getvalue()), "application/vnd.oci.image.layer.v1.tar+gzip")
layers = [layer([("etc/a", b"lower"), ("etc/b", b"lower"), ("opt/old", b"x")]),
          layer([("etc/a", b"upper"), ("etc/.wh.b", b""), ("opt/new", b"y"), ("opt/.wh..wh..opq", b"")])]
manifest = blob(json.dumps({"schemaVersion": 2, "layers": layers}).encode(), "application/vnd.oci.image.manifest.v1+json")
json.dump({"schemaVersion": 2, "manifests": [manifest]}, open(top + "/index.json", "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open(top + "/oci-layout", "w"))
END
check import_oci "$spore" image import oci "$work/oci"
check oci_content [ "$(in_image oci /etc/a)$(in_image oci /etc/b)$(in_image oci /opt/old)$(in_image oci /opt/new)" = uppery ]

# list and remove
check ls [ "$("$spore" image ls | awk 'NR > 1 { print $1 }' | tr '\n' ' ')" = 'ext4 oci tar ' ]
check ls_json python3 -c 'import json, sys; sys.exit(sorted(i["name"] for i in json.loads(sys.argv[1])) != ["ext4", "oci", "tar"])' \
	"$("$spore" image ls --json)"
check rm "$spore" image rm ext4 oci
check rm_gone [ ! -e "$store/ext4" ]

# what is no image
head -c 5000 /dev/urandom >"$work/garbage"
check garbage_refused [ "$("$spore" image import g "$work/garbage" 2>&1)" = \
	"spore image import: $work/garbage: neither ext4 nor a tar that can be used: archive: Unrecognized archive format" ]
head -c 150 "$work/tree.tar.gz" >"$work/cut.tar.gz"
check truncated_refused [ "$("$spore" image import g "$work/cut.tar.gz" >/dev/null 2>&1; echo $?)" = 125 ]
mkdir "$work/none"
check empty_folder_refused [ "$("$spore" image import g "$work/none" 2>&1)" = \
	"spore image import: $work/none/index.json: No such file or directory" ]
check refused_absent [ ! -e "$store/g" ]

# a plain user without subordinate ids: owners are lost, and that is said
if [ "$(id -u)" = 0 ] && setpriv --reuid 65534 --regid 65534 --clear-groups unshare --user true 2>/dev/null; then
	mkdir "$work/user"
	chown 65534:65534 "$work/user"
	said=$(setpriv --reuid 65534 --regid 65534 --clear-groups env XDG_DATA_HOME="$work/user" \
		"$spore" image import tar "$work/tree.tar.gz" 2>&1)
	check user_import [ "$(debugfs -R 'cat /etc/file' "$work/user/spore/images/tar/rootfs.ext4" 2>/dev/null)" = content ]
	check user_says_loss [ "$(grep -c 'are lost$' <<<"$said")" = 1 ]
else
	echo "skip user_import: needs root, and user namespaces for others"
fi

# killed at any time: absent or complete, and the next writer sweeps
mkdir -p "$work/many"
for i in $(seq 300); do head -c 20000 /dev/zero >"$work/many/$i"; done
tar -C "$work/many" -cf "$work/many.tar" .
for delay in 0.01 0.03 0.06 0.1 0.2 0.4; do
	"$spore" image import killed "$work/many.tar" 2>/dev/null &
	sleep "$delay"
	kill -KILL $! 2>/dev/null
	wait $! 2>/dev/null
	[ ! -e "$store/killed" ] || e2fsck -fn "$store/killed/rootfs.ext4" >/dev/null 2>&1 || { echo "not ok kill_at_$delay"; failed=1; }
	"$spore" image rm killed 2>/dev/null
done
sleep 0.5
"$spore" image import last "$work/tree.tar.gz" 2>/dev/null
check kill_leaves_nothing [ -z "$(find "$store" -maxdepth 1 -name '.stage-*')" ]
exit "$failed"
