#!/usr/bin/env bash
# clang-format has nothing to change, and every source file names its licence.
set -eu
cd "$(dirname "$0")/../.."
git ls-files '*.c' '*.h' | xargs clang-format --dry-run --Werror
echo "ok format"
missing=$(git ls-files '*.c' '*.h' '*.S' | xargs grep -L 'SPDX-License-Identifier: Apache-2.0' || true)
[ -z "$missing" ] || { echo "not ok licence: $missing"; exit 1; }
echo "ok licence"
