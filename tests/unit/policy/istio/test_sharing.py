"""Rules of documents that did not change are shared by the generations of a set of documents, and by listeners."""

from __future__ import annotations

import pytest

from meshtls.errors import ConfigError
from meshtls.policy.istio.model import Action, MeshSettings
from meshtls.policy.istio.rules import CompiledRule
from tests.unit.policy.istio.making import MESH, compiled, policy, request, rule, source


def test_a_document_that_did_not_change_is_not_compiled_again() -> None:
    def rules_with(name: str) -> tuple[CompiledRule, ...]:
        return compiled(
            policy(rule(source=source(principals=("cluster.local/x",))), name="kept"),
            policy(rule(source=source(principals=(name,))), name="changed"),
        ).rules

    (kept_before, before), (kept_after, after) = rules_with("a"), rules_with("b")
    assert kept_after is kept_before
    assert after is not before


def test_the_same_document_means_another_thing_in_another_mesh_namespace_or_action() -> None:
    rules = (rule(source=source(principals=("cluster.local/x",))),)
    other = MeshSettings(trust_domain="z.test")
    theirs = request("z.test/x")
    assert not compiled(policy(*rules)).evaluate(theirs, reads_http=True)
    assert compiled(policy(*rules), mesh=other).evaluate(theirs, reads_http=True)
    assert compiled(policy(*rules)).evaluate(request("old.test/x"), reads_http=True)
    accounts = (rule(source=source(service_accounts=("web",))),)
    of_shop = request("a.test/ns/shop/sa/web")
    assert compiled(policy(*accounts)).evaluate(of_shop, reads_http=True)
    assert not compiled(policy(*accounts, namespace="istio-system")).evaluate(of_shop, reads_http=True)
    hidden = request(source_ip=None)
    blocks = (rule(source=source(ip_blocks=("10.0.0.0/8",))),)
    assert not compiled(policy(*blocks)).evaluate(hidden, reads_http=True)
    assert not compiled(policy(*blocks, action=Action.DENY)).evaluate(hidden, reads_http=True)


def test_an_invalid_document_is_an_error_each_time() -> None:
    bad = policy(rule(source=source(ip_blocks=("x",))))
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"source\.ipBlocks: wanted an address or a block"):
            compiled(bad)


@pytest.mark.parametrize("alias", ["*-td", "old*", "*", "", "A.test", "a.test/x"])
def test_item_16_an_alias_that_is_no_trust_domain_is_refused(alias: str) -> None:
    mesh = MeshSettings(trust_domain="a.test", trust_domain_aliases=("old.test", alias))
    with pytest.raises(ConfigError) as error:
        compiled(mesh=mesh)
    assert str(error.value) == (
        f"trust domain alias {alias!r}: wanted the name of one trust domain, without a star: Istio's '*-td' would also"
        " match IDs of other trust domains, and text in the middle of an ID; list each alias by its name"
    )
    compiled(mesh=MESH)
