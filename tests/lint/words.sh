#!/usr/bin/env bash
# Nothing in the tree names a machine's private paths, a package registry's host, or a test that cannot fail.
set -eu
cd "$(dirname "$0")/../.."
none() {
	local name=$1
	shift
	if git grep --untracked -nIE "$@"; then
		echo "not ok $name"
		exit 1
	fi
	echo "ok $name"
}
none "no private paths" -e '/(work|root)/(wt|main|shared|\.library|\.cache)' -- ':!tests/lint/words.sh'
none "no registry hosts" -e '(deb\.debian\.org|registry\.npmjs\.org|pypi\.org|crates\.io|proxy\.golang\.org)' -- ':!tests/lint/words.sh'
none "no unfinished marks" -e '\b(XXX|FIXME|HACK)\b|TODO([^(]|$)' -- '*.c' '*.h' '*.sh' ':!tests/lint/words.sh'
