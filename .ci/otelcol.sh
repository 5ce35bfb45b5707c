#!/usr/bin/env bash
# Builds OpenTelemetry's Collector for the tests: .ci/otelcol.sh FILE, then MESHTLS_OTELCOL_BIN=FILE. Needs Go and its
# module proxy. It has only the parts that the tests use (.ci/otelcol), each as it was released.
set -euo pipefail

main() {
    (($# == 1)) || die "usage: ${0##*/} FILE"
    command -v go >/dev/null || die "wanted Go on PATH, got none"
    local here out
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    out=$(realpath "$1")
    cp "$here/otelcol/main.go" "$here/otelcol/go.mod" "$tree"
    cd "$tree"
    # Go checks what it fetches against its checksum database.
    CGO_ENABLED=0 GOTOOLCHAIN=local go build -mod=mod -trimpath -ldflags '-s -w' -o "$out" .
}

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

tree=$(mktemp -d -t meshtls-otelcol.XXXXXX)
trap 'rm -rf -- "$tree"' EXIT
main "$@"
