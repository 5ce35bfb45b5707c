"""The keys of a sidecar's file that are about policies: what they give, and for each mistake the whole message."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from meshtls.errors import ConfigError
from meshtls.policy.istio.model import Documents, Normalization
from meshtls.policy.istio.parse import parse_documents
from meshtls.policy.request import Request
from meshtls.sidecar.config import parse_config
from meshtls.sidecar.settings import Mode, Protocol, SidecarConfig
from meshtls.sidecar.view import view_of
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

ID = "spiffe://example.org/ns/shop/sa/web"
FILE = f"""\
name: web
spiffe_id: {ID}
policies: [p.yaml, more/]
inbound:
  - listen: "127.0.0.1:15006"
    app: "127.0.0.1:8080"
"""
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: m, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: p, namespace: shop}
spec: {selector: {matchLabels: {app: web}}, rules: [{from: [{source: {principals: [example.org/ns/shop/sa/a]}}]}]}
"""


def read(text: str, policies: str = STRICT) -> SidecarConfig:
    def documents(paths: Sequence[Path]) -> Documents:
        assert paths == (Path("dir/p.yaml"), Path("dir/more"))
        return parse_documents([("p.yaml", policies)])

    return parse_config(text, "dir/a.yaml", documents)


def test_a_provider_that_is_not_configured_is_told_of() -> None:
    custom = STRICT.replace("{selector:", "{action: CUSTOM, provider: {name: opa}, selector:")
    told = (
        "p.yaml, line 9: metadata: no ext_authz provider 'opa' is configured; configured: {}; what a rule of"
        " ns[shop]-policy[p] matches is denied"
    )
    provider = 'labels: {app: web}\next_authz: [{name: NAME, kind: grpc, address: "127.0.0.1:9191"}]\n'
    assert told.format("none") in read(FILE + "labels: {app: web}\n", custom).notices
    assert told.format("'other'") in read(FILE + provider.replace("NAME", "other"), custom).notices
    assert not [one for one in read(FILE + provider.replace("NAME", "opa"), custom).notices if "provider" in one]


def test_policies_say_the_mode_and_who_may_come() -> None:
    config = read(FILE + "labels: {app: web}\npath_normalization: NONE\ntrust_domain_aliases: [old.test]\n")
    assert config.policies is not None
    workload, mesh = config.policies.workload, config.policies.mesh
    assert (workload.namespace, workload.labels, workload.service_account) == ("shop", (("app", "web"),), "web")
    assert (mesh.trust_domain, mesh.trust_domain_aliases, mesh.normalization) == (
        "example.org",
        ("old.test",),
        Normalization.NONE,
    )
    (inbound,) = config.inbound
    assert (inbound.mode, inbound.allow_given, inbound.protocol) == (Mode.STRICT, False, Protocol.TCP)
    assert config.notices == ()
    (policy,) = view_of(config).policies
    assert policy.rules is not None
    assert [one.policy for one in policy.rules.compiled.rules] == ["ns[shop]-policy[p]"]


def test_a_port_that_policies_leave_open_is_told() -> None:
    config = read(FILE, STRICT.replace("namespace: shop", "namespace: other"))
    assert config.inbound[0].mode is Mode.PERMISSIVE
    where = "dir/a.yaml, line 5: inbound[0].listen"
    assert config.notices[-2:] == (
        f"{where}: no PeerAuthentication is for port 8080, so plaintext is taken, too (PERMISSIVE); write one with mode"
        " STRICT, or mode: STRICT here",
        f"{where}: no AuthorizationPolicy with action ALLOW is for this workload, and there is no allow, so everybody"
        " whom no DENY policy refuses may connect; write one with `spec: {}` to allow nobody",
    )


def test_the_file_s_own_mode_and_allow_are_kept() -> None:
    config = read(FILE.replace("    app", f'    mode: PERMISSIVE\n    allow: ["{ID}"]\n    app'))
    (inbound,) = config.inbound
    assert (inbound.mode, inbound.allow_given) == (Mode.PERMISSIVE, True)
    (policy,) = view_of(config).policies
    assert policy.rules is not None
    (by_allow,) = policy.rules.compiled.rules  # the other does not select this workload, which has no labels
    assert by_allow.policy == "ns[shop]-policy[inbound 127.0.0.1:15006 allow]"


@pytest.mark.parametrize("named", ["spiffe://cluster.local/ns/shop/sa/a", "spiffe://old.test/ns/shop/sa/a", f"{ID}/a"])
def test_allow_admits_the_ids_that_it_names_and_none_that_a_principal_would_stand_for(named: str) -> None:
    """As a principal ``cluster.local`` is our trust domain, and an alias and ours are the same."""
    text = FILE.replace("    app", f'    allow: ["{named}"]\n    app') + "trust_domain_aliases: [old.test]\n"
    (policy,) = view_of(read(text)).policies
    assert policy.compiled is not None
    admitted = []
    for domain in ("cluster.local", "old.test", "example.org"):
        for path in ("/ns/shop/sa/a", "/ns/shop/sa/web/a"):
            peer = VerifiedPeer(SpiffeId.parse(f"spiffe://{domain}{path}"), ())
            request = Request(peer, SpiffeId.parse(ID), port=8080)
            if policy.compiled.evaluate(request, reads_http=False).allowed:
                admitted.append(str(peer.spiffe_id))
    assert admitted == [named]


RULE = """
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: r, namespace: shop}
spec: {host: db, trafficPolicy: {tls: {mode: MODE}}}
"""
OUTBOUND = f"""\
outbound:
  - {{listen: "127.0.0.1:15001", to: "10.0.0.1:5432", peer: "{ID}", host: db.shop.svc.cluster.local}}
"""


def test_a_destination_rule_may_disable_tls_and_that_is_told() -> None:
    for mode, plaintext in (("DISABLE", True), ("ISTIO_MUTUAL", False)):
        config = read(FILE + OUTBOUND, STRICT + RULE.replace("MODE", mode))
        assert config.outbound[0].plaintext is plaintext
        told = (
            "outbound 127.0.0.1:15001: the DestinationRule for db.shop.svc.cluster.local says DISABLE: it is dialled in"
            f" plaintext, and nothing proves that it is {ID}"
        )
        assert (told in config.notices) is plaintext


WITHOUT = FILE.replace("policies: [p.yaml, more/]\n", "").replace("    app", "    allow: []\n    app")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            WITHOUT.replace("    allow: []\n", ""),
            "a.yaml, line 4: inbound[0].allow: this key is required, and it is missing",
        ),
        (WITHOUT + "labels: {app: web}\n", "a.yaml, line 7: labels: wanted no such key without policies"),
        (WITHOUT + "namespace: shop\n", "a.yaml, line 7: namespace: wanted no such key without policies"),
        (
            WITHOUT + OUTBOUND,
            "a.yaml, line 8: outbound[0].host: wanted no such key without policies, whose DestinationRules are for it",
        ),
        (
            WITHOUT + "path_normalization: SOME\n",
            "a.yaml, line 7: path_normalization: wanted NONE, BASE, MERGE_SLASHES or DECODE_AND_MERGE_SLASHES, got"
            " 'SOME'\na.yaml, line 7: path_normalization: wanted no such key without policies",
        ),
        (
            WITHOUT.replace("    app", "    http: {streams: 5}\n    app"),
            "a.yaml, line 6: inbound[0].http: wanted no such key with protocol: tcp, which reads no HTTP",
        ),
        (
            WITHOUT.replace("    app", "    forward_client_cert: sanitize\n    app"),
            "a.yaml, line 6: inbound[0].forward_client_cert: wanted no such key with protocol: tcp, which reads no"
            " HTTP",
        ),
        (
            WITHOUT.replace("    app", "    protocol: http\n    proxy_protocol: true\n    app"),
            "a.yaml, line 7: inbound[0].proxy_protocol: wanted no such key without protocol: tcp; over HTTP,"
            " x-forwarded-client-cert tells it",
        ),
        (
            WITHOUT.replace("    app", "    num_trusted_proxies: 1\n    app"),
            "a.yaml, line 6: inbound[0].num_trusted_proxies: wanted no such key with protocol: tcp, which reads no"
            " HTTP",
        ),
        (
            WITHOUT.replace("    app", "    protocol: http\n    num_trusted_proxies: -1\n    app"),
            "a.yaml, line 7: inbound[0].num_trusted_proxies: wanted a whole number from 0 to 100, got '-1'",
        ),
        (
            WITHOUT.replace("    app", "    proxy_protocol_from: []\n    app"),
            "a.yaml, line 6: inbound[0].proxy_protocol_from: wanted at least one block of addresses; without the key no"
            " header is read",
        ),
        (
            WITHOUT.replace("    app", "    proxy_protocol_from: [10.0.0.1/8]\n    app"),
            "a.yaml, line 6: inbound[0].proxy_protocol_from[0]: wanted a block of addresses such as 10.0.0.0/8 or"
            " 2001:db8::/32, got '10.0.0.1/8'",
        ),
        (
            WITHOUT.replace("    app", "    protocol: grpc\n    app"),
            "a.yaml, line 6: inbound[0].protocol: wanted tcp, http or auto, got 'grpc'",
        ),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config(text, "a.yaml")
    assert str(raised.value) == message
