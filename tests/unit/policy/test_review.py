"""What a workload's policies say of one request, in the order in which a sidecar asks them."""

from __future__ import annotations

import pytest

from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import MeshSettings, Workload
from meshtls.policy.istio.parse import parse_documents
from meshtls.policy.request import HttpRequest, Request
from meshtls.policy.review import review
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer

WEB, CLIENT = SpiffeId.parse("spiffe://a.test/ns/shop/sa/web"), SpiffeId.parse("spiffe://a.test/ns/shop/sa/client")
PEER = VerifiedPeer(CLIENT, ())


def policies(*texts: str) -> WorkloadPolicies:
    documents = parse_documents([("p.yaml", "---\n".join(texts))])
    return compile_policies(documents, MeshSettings(trust_domain="a.test"), Workload(namespace="shop"))


def custom(rule: str) -> str:
    return (
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: c, namespace: shop}\n"
        f"spec: {{action: CUSTOM, provider: {{name: opa}}, rules: [{rule}]}}\n"
    )


@pytest.mark.parametrize("reads_http", [False, True])
def test_a_custom_rule_with_fields_of_http_denies_where_none_is_read(reads_http: bool) -> None:
    http = HttpRequest("GET", "web", "/") if reads_http else None
    found = review(
        policies(custom("{to: [{operation: {methods: [GET]}}]}")),
        Request(PEER, WEB, 8080, http=http),
        reads_http=reads_http,
    )
    assert found.decision.allowed is reads_http
    if not reads_http:
        assert (found.decision.policy, found.decision.rule) == ("ns[shop]-policy[c]", "0")
        assert found.decision.reason.startswith("denied: the CUSTOM rule ns[shop]-policy[c]-rule[0] (p.yaml, line 4")
        assert "so provider opa can't be asked about a request" in found.decision.reason


def test_a_custom_rule_whose_provider_can_be_asked_is_reviewed_as_allowed() -> None:
    found = review(policies(custom("{}")), Request(PEER, WEB, 8080), reads_http=False)
    assert (found.decision.allowed, [one.provider for one in found.custom]) == (True, ["opa"])
