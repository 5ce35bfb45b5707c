#!/bin/sh
# Runs beside the server each time the stack comes up, and does what an operator would do by hand: the node gets a
# token, and each uid its identity.
set -eu
umask 027 # for the agent's group, and nobody else
node=spiffe://example.org/node

meshtls bundle show >/run/bootstrap/bundle.pem
{
    cat /etc/meshtls/agent.yaml
    meshtls token generate --spiffe-id "$node" --output json |
        python3 -c 'import json, sys; print("join_token:", json.load(sys.stdin)["token"])'
} >/run/bootstrap/agent.yaml

register() { # register UID NAME
    id=spiffe://example.org/ns/default/sa/$2
    if ! meshtls entry show --spiffe-id "$id" --output json | grep -q '"spiffe_id"'; then
        meshtls entry create --spiffe-id "$id" --parent-id "$node" --selector "unix:uid:$1"
    fi
}
register 10001 service-a
register 10002 service-b
