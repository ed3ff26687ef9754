#!/bin/sh
# Copyright The Drover Authors.
# SPDX-License-Identifier: Apache-2.0

# Builds registrytest, an OCI registry for tests, into a cache outside the
# checkout and links it.
#
#   build.sh [LINK]        LINK defaults to bin/registrytest of the checkout
#
# The cache is $DROVER_CACHE, else $XDG_CACHE_HOME/drover, else ~/.cache/drover.
# A binary is named after the hash of everything that goes into it; the newest
# two are kept. Building takes about a minute, once.
set -eu

src=$(cd "$(dirname "$0")" && pwd)
link=${1:-$src/../../bin/registrytest}
cache=${DROVER_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME or DROVER_CACHE}/.cache}/drover}/registrytest
mkdir -p "$cache" "$(dirname "$link")"
cache=$(cd "$cache" && pwd)
link=$(cd "$(dirname "$link")" && pwd)/$(basename "$link")
cd "$src"
export CGO_ENABLED=0 GOWORK=off LC_ALL=C

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }
hash=$({
	go env GOVERSION GOOS GOARCH
	for f in go.mod go.sum *.go; do
		echo "$f"
		cat "$f"
	done
} | sha256 | cut -c1-20)
dir=$cache/$hash
bin=$dir/registrytest

if [ ! -x "$bin" ]; then
	if command -v flock >/dev/null; then
		exec 9>"$cache/lock"
		flock 9
	fi
	if [ ! -x "$bin" ]; then
		echo "registrytest: building; about a minute, only the first time" >&2
		mkdir -p "$dir"
		tmp=$dir/.registrytest.$$
		trap 'rm -f "$tmp"' EXIT
		go build -buildvcs=false -trimpath -ldflags "-s -w" -o "$tmp" .
		mv -f "$tmp" "$bin"
	fi
	ls -t "$cache"/*/registrytest | tail -n +3 | while read -r old; do
		rm -rf "${old%/registrytest}"
	done
fi

touch "$bin" # in use: the next build keeps it
if [ "$(readlink "$link" 2>/dev/null)" != "$bin" ]; then
	ln -s "$bin" "$link.$$"
	mv -f "$link.$$" "$link"
fi
echo "registrytest: $link -> $bin" >&2
