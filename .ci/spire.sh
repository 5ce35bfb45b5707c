#!/usr/bin/env bash
# Builds SPIRE's server and agent for the tests: .ci/spire.sh DIRECTORY, then MESHTLS_SPIRE_BIN=DIRECTORY. Needs Go, a
# C compiler and Go's module proxy. The plugins for clouds and Kubernetes are left out, which the tests have no use for:
# their libraries are most of what there is to compile. All else is SPIRE as it was released, with the versions that its
# own go.mod and go.sum say.
set -euo pipefail

module=github.com/spiffe/spire@v1.13.3
oldest=go1.25.3                                        # says SPIRE's go.mod
plugins='disk|memory|jointoken|x509pop|unix|uniqueid|spireplugin' # those that stay

main() {
    (($# == 1)) || die "usage: ${0##*/} DIRECTORY"
    local found out unpacked
    found=$(cd / && go env GOVERSION 2>/dev/null) || found="no Go"
    [[ $found != no* && $(printf "%s\n" "$oldest" "$found" | sort -V | head -n 1) == "$oldest" ]] ||
        die "wanted $oldest or newer on PATH, got $found"
    out=$(cd "$1" && pwd)
    cd "$tree"
    # Go checks what it fetches against its checksum database.
    unpacked=$(go mod download -json "$module" | python3 -c 'import json, sys; print(json.load(sys.stdin)["Dir"])')
    cp -r --no-preserve=mode "$unpacked/." .
    sed -Ei '/(\/plugin\/[a-z0-9]+\/[a-z0-9]+"|BuiltIn\(\),)$/{/\b('"$plugins"')\b/!d}' pkg/{server,agent}/catalog/*.go
    CGO_ENABLED=1 GOTOOLCHAIN=local go build -trimpath -ldflags '-s -w' -o "$out/" ./cmd/spire-server ./cmd/spire-agent
}

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

tree=$(mktemp -d -t meshtls-spire.XXXXXX)
trap 'rm -rf -- "$tree"' EXIT
main "$@"
