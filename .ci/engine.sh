# shellcheck shell=bash
# Sourced by .ci/run. A Docker engine of this run's own, whose data, sockets and containers live in one scratch
# directory; the machine's own engine, if it has one, is not touched.

engine_pid=

start_engine() { # start_engine DIR: start dockerd there and point DOCKER_HOST at it
    local dir=$1 deadline=$((SECONDS + 60))
    local firewall=(--iptables=false --ip6tables=false)
    # Containers here talk to each other only, on a bridge, which needs no rules; so the machine's firewall stays as it
    # is. Unless it drops what it forwards, as one does where Docker has run before: bridged traffic counts as that.
    if iptables -S FORWARD 2>/dev/null | grep -qx -- '-P FORWARD DROP'; then
        firewall=()
    fi
    mkdir -p "$dir"
    echo '{}' >"$dir/daemon.json"
    # In a mount namespace of its own, so that what it mounts is gone when it is.
    unshare --mount dockerd --config-file "$dir/daemon.json" --pidfile "$dir/dockerd.pid" --host "unix://$dir/docker.sock" \
        --data-root "$dir/data" --exec-root "$dir/exec" --log-level warn \
        --containerd-namespace meshtls-ci --containerd-plugins-namespace meshtls-ci-plugins \
        --bridge none --ip-forward=false --ip-masq=false "${firewall[@]}" >"$dir/dockerd.log" 2>&1 &
    engine_pid=$!
    unset DOCKER_CONTEXT
    export DOCKER_HOST="unix://$dir/docker.sock"
    until docker info &>/dev/null; do
        if ! kill -0 "$engine_pid" 2>/dev/null || ((SECONDS > deadline)); then
            cat "$dir/dockerd.log" >&2
            die "dockerd did not come up"
        fi
        sleep 0.1
    done
}

stop_engine() { # with whatever a test that was cut short has left in it: a bridge would outlive the engine
    [[ -n $engine_pid ]] || return 0
    if docker info &>/dev/null; then
        docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes >/dev/null
        docker network prune --force >/dev/null
    fi
    kill "$engine_pid" 2>/dev/null || return 0
    timeout 60 tail --pid="$engine_pid" -f /dev/null || kill -KILL "$engine_pid"
}

debian_mirror() { # print the address that this machine's apt takes Debian's main packages from
    # shellcheck disable=SC2016 # it is apt that expands it
    apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Component: main' \
        "Codename: $(. /etc/os-release && echo "$VERSION_CODENAME")" | sed -n 1p
}

import_base_image() { # make the Dockerfile's base image from Debian's packages: where no registry can be reached
    local image suite mirror bundle=/etc/ssl/certs/ca-certificates.crt
    image=$(sed -n 's/^ARG BASE_IMAGE=//p' sidecars/Dockerfile)
    suite=${image##*-}
    mirror=$(debian_mirror)
    [[ -n $mirror ]] || die "apt's sources name no Debian mirror to make $image from"
    # libstdc++6 stands for apt, which needs it and which the image that this one stands in for has: greenlet wants it.
    # With the bundle of this machine, the image trusts the same package mirrors as the machine does.
    mmdebstrap --quiet --mode=root --variant=essential --include=python3,python3-venv,ca-certificates,libstdc++6 \
        --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook="upload $bundle $bundle" \
        "$suite" - "deb $mirror $suite main" | docker import - "$image"
}

build_image() { # build_image TAG: the network is the host's, for this engine has no bridge to the outside
    docker build --quiet --network host --build-arg PIP_INDEX_URL --file sidecars/Dockerfile --tag "$1" .
}
