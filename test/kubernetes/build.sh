#!/bin/sh
# Copyright The Drover Authors.
# SPDX-License-Identifier: Apache-2.0

# Builds kubetest into a cache outside the checkout and links it.
#
#   build.sh [LINK]        LINK defaults to bin/kubetest of the checkout
#
# The cache is $DROVER_CACHE, else $XDG_CACHE_HOME/drover, else ~/.cache/drover.
# A binary is named after the hash of everything that goes into it; the newest
# two are kept.
set -eu

src=$(cd "$(dirname "$0")" && pwd)
link=${1:-$src/../../bin/kubetest}
cache=${DROVER_CACHE:-${XDG_CACHE_HOME:-${HOME:?set HOME or DROVER_CACHE}/.cache}/drover}/kubetest
mkdir -p "$cache" "$(dirname "$link")"
cache=$(cd "$cache" && pwd)
link=$(cd "$(dirname "$link")" && pwd)/$(basename "$link")
cd "$src"

export CGO_ENABLED=0 GOWORK=off LC_ALL=C

# Without the version flags /version says v0.0.0-master, and every client that
# parses it fails.
version=$(awk '$1 == "k8s.io/kubernetes" { print $2; exit }' go.mod)
minor=${version#v1.}
minor=${minor%%.*}
ldflags="-s -w
-X k8s.io/component-base/version.gitVersion=$version
-X k8s.io/client-go/pkg/version.gitVersion=$version
-X k8s.io/component-base/version.gitMajor=1
-X k8s.io/component-base/version.gitMinor=$minor
-X k8s.io/component-base/version.gitTreeState=clean"

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }
hash=$({
	go env GOVERSION GOOS GOARCH
	echo "$ldflags"
	for f in go.mod go.sum *.go; do
		echo "$f"
		cat "$f"
	done
} | sha256 | cut -c1-20)
dir=$cache/$hash
bin=$dir/kubetest

say() { echo "kubetest: $*" >&2; }

# show prints the state of the build: on a terminal in one line that it keeps
# rewriting, elsewhere as a line every 15 seconds.
shown=0
show() {
	if [ -t 2 ]; then
		printf '\r\033[Kkubetest: %s' "$*" >&2
	elif [ $(($(date +%s) - shown)) -ge 15 ]; then
		shown=$(date +%s)
		say "$*"
	fi
}

build() {
	mkdir -p "$dir"
	tmp=$dir/.kubetest.$$
	log=$dir/build.log
	pid=
	trap 'test -z "$pid" || kill "$pid" 2>/dev/null || :; rm -f "$tmp"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM

	say "reading packages (downloads 0.6 GB of modules the first time)"
	total=$(go list -deps -f '{{if .Stale}}{{.ImportPath}}{{end}}' . | grep -c .) || :
	if [ "$total" -gt 1000 ]; then
		say "building $version: 4 to 8 minutes on 2 cores, about 3.5 GB of disk; only the first time"
	fi

	start=$(date +%s)
	go build -buildvcs=false -v -ldflags "$ldflags" -o "$tmp" . >"$log" 2>&1 &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		# -v names each package when its compilation starts.
		done=$(grep -c '^[^ #]*$' "$log") || :
		seconds=$(($(date +%s) - start))
		if grep -q '^github.com/drover-io/drover/test/kubernetes$' "$log"; then
			show "linking, ${seconds} s"
		else
			show "compiled $done of $total packages, ${seconds} s"
		fi
		sleep 1
	done
	test ! -t 2 || echo >&2
	status=0
	wait "$pid" || status=$?
	pid=
	if [ "$status" -ne 0 ]; then
		grep -v '^[^ #]*$' "$log" | tail -n 20 >&2 || :
		say "error: build failed (log: $log)"
		exit 1
	fi
	mv -f "$tmp" "$bin"
	say "built in $(($(date +%s) - start)) s"
}

# prune removes all but the newest two binaries.
prune() {
	ls -t "$cache"/*/kubetest | tail -n +3 | while read -r old; do
		rm -rf "${old%/kubetest}"
	done
}

if [ ! -x "$bin" ]; then
	# Two builds at once are safe without the lock, only slow and short of memory.
	if command -v flock >/dev/null; then
		exec 9>"$cache/lock"
		flock -n 9 || {
			say "another build is running; waiting for it"
			flock 9
		}
	fi
	test -x "$bin" || build
	prune
fi

touch "$bin" # in use: prune keeps it
if [ "$(readlink "$link" 2>/dev/null)" != "$bin" ]; then
	ln -s "$bin" "$link.$$"
	mv -f "$link.$$" "$link"
fi
say "$link -> $bin"
