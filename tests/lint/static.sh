#!/usr/bin/env bash
# Static analysis by cppcheck.  Left out: leaks and uninitialized variables, which it sees wrongly where a cleanup
# attribute frees, or an out-parameter fills, what it follows; ASan, UBSan and the compilers' own warnings watch those.
set -eu
cd "$(dirname "$0")/../.."
command -v cppcheck >/dev/null || { echo "cppcheck is not installed"; exit 77; }
if ! cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr -I. -D_GNU_SOURCE \
	-DSPORE_VERSION='"0"' --suppress=missingIncludeSystem --suppress=unknownMacro --suppress=memleak \
	--suppress=uninitvar --suppress=legacyUninitvar --suppress=ctuuninitvar --error-exitcode=1 \
	wire base snapshot devices vmm agent supervisor; then
	echo "not ok static"
	exit 1
fi
echo "ok static"
