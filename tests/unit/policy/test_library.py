"""``meshtls.policy.load``: the files of a sidecar as an authorizer, what it knows of the workload, and its reloads."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import meshtls
from meshtls import ConfigError, InvalidSpiffeIdError, VerifiedPeer
from meshtls.policy.authorizer import Target, evaluate
from meshtls.policy.library import Policies
from meshtls.pytest.mesh import Mesh
from meshtls.request_auth.settings import KeySetSettings
from meshtls.spiffeid import SpiffeId
from tests.support.waiting import until

OWN = SpiffeId.parse("spiffe://example.org/ns/shop/sa/db")
WEB, BATCH = "spiffe://example.org/ns/shop/sa/web", "spiffe://example.org/ns/shop/sa/batch"


def policy(spec: str, *, name: str = "db", namespace: str = "shop", annotations: str = "{}") -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: {namespace}, annotations: {annotations}}}
spec: {spec}
---
"""


def tokens(keys: str) -> str:
    return f"""
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: shop}}
spec: {{jwtRules: [{{issuer: i, {keys}}}]}}
---
"""


ONLY_WEB = policy("{rules: [{from: [{source: {principals: [example.org/ns/shop/sa/web]}}]}]}")
ONLY_BATCH = ONLY_WEB.replace("sa/web", "sa/batch")


def peer(spiffe_id: str) -> VerifiedPeer:
    return VerifiedPeer(SpiffeId.parse(spiffe_id), ())


def written(directory: Path, text: str) -> Path:
    file = directory / "policies.yaml"
    file.write_text(text)
    return file


def verdict(policies: Policies, caller: str, *, own: SpiffeId = OWN, port: int | None = None) -> bool:
    return evaluate(policies, peer(caller), Target(own, port)).allowed


def reason(policies: Policies, caller: str, *, port: int | None = None) -> str:
    return evaluate(policies, peer(caller), Target(OWN, port)).reason


def test_a_policy_allows_its_principal_and_the_denial_of_another_is_explained(tmp_path: Path) -> None:
    file = written(tmp_path, ONLY_WEB)
    policies = meshtls.policy.load(file)
    assert verdict(policies, WEB)
    assert reason(policies, BATCH) == (
        "denied: no ALLOW rule matches. The peer is example.org/ns/shop/sa/batch. The nearest is"
        f" ns[shop]-policy[db]-rule[0] ({file}, line 5: spec.rules[0]), which fails in source.principals: wanted"
        " example.org/ns/shop/sa/web, got example.org/ns/shop/sa/batch. Send what the rule wants, or add a rule that"
        " allows this."
    )


@pytest.mark.parametrize("given", ["text", "path", "directory", "list"])
def test_a_path_may_be_a_text_a_path_a_directory_or_several(tmp_path: Path, given: str) -> None:
    file = written(tmp_path, ONLY_WEB)
    paths = {"text": str(file), "path": file, "directory": tmp_path, "list": [str(file), file]}[given]
    policies = meshtls.policy.load(paths)  # type: ignore[arg-type]  # the table's values have one type for all
    assert verdict(policies, WEB)
    assert not verdict(policies, BATCH)


class TestWorkload:
    """The namespace, labels and trust domain that decide which policies apply."""

    def test_the_namespace_is_that_of_the_svid(self, tmp_path: Path) -> None:
        policies = meshtls.policy.load(written(tmp_path, ONLY_WEB))
        assert not verdict(policies, BATCH)
        assert verdict(policies, BATCH, own=SpiffeId.parse("spiffe://example.org/ns/other/sa/db"))

    def test_an_id_without_a_namespace_is_in_default(self, tmp_path: Path) -> None:
        policies = meshtls.policy.load(written(tmp_path, policy("{}", namespace="default")))
        assert not verdict(policies, WEB, own=SpiffeId.parse("spiffe://example.org/db"))
        assert verdict(policies, WEB)

    def test_the_argument_namespace_counts_more_than_the_svid(self, tmp_path: Path) -> None:
        policies = meshtls.policy.load(written(tmp_path, policy("{}", namespace="other")), namespace="other")
        assert not verdict(policies, WEB)

    def test_the_argument_spiffe_id_counts_more_than_the_svid(self, tmp_path: Path) -> None:
        other = "spiffe://example.org/ns/other/sa/db"
        policies = meshtls.policy.load(written(tmp_path, policy("{}", namespace="other")), spiffe_id=other)
        assert not verdict(policies, WEB)

    def test_a_selector_matches_the_labels(self, tmp_path: Path) -> None:
        file = written(tmp_path, policy("{selector: {matchLabels: {app: db}}}"))
        assert not verdict(meshtls.policy.load(file, labels={"app": "db", "tier": "1"}), WEB)
        assert verdict(meshtls.policy.load(file, labels={"app": "web"}), WEB)

    def test_the_root_namespace_is_an_argument(self, tmp_path: Path) -> None:
        file = written(tmp_path, policy("{}", namespace="roots"))
        assert not verdict(meshtls.policy.load(file, root_namespace="roots"), WEB)
        assert verdict(meshtls.policy.load(file), WEB)

    @pytest.mark.parametrize("arguments", [{"trust_domain_aliases": ["old.org"]}, {"trust_domain": "old.org"}])
    def test_an_alias_or_another_trust_domain_expands_principals(
        self, tmp_path: Path, arguments: dict[str, object]
    ) -> None:
        file = written(tmp_path, policy("{rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]}"))
        caller = "spiffe://old.org/ns/shop/sa/web"
        assert verdict(meshtls.policy.load(file, **arguments), caller)  # type: ignore[arg-type]
        assert not verdict(meshtls.policy.load(file), caller)


class TestUnknownFacts:
    """An authorizer does not know all of a connection: what it does not know lets nobody in."""

    @pytest.mark.parametrize(
        ("spec", "port", "allowed"),
        [
            ("{rules: [{to: [{operation: {ports: ['5432']}}]}]}", 5432, True),
            ("{rules: [{to: [{operation: {ports: ['5432']}}]}]}", None, False),
            ("{rules: [{to: [{operation: {notPorts: ['1']}}]}]}", None, False),
            ("{action: DENY, rules: [{to: [{operation: {ports: ['1']}}]}]}", 5432, True),
            ("{action: DENY, rules: [{to: [{operation: {ports: ['1']}}]}]}", None, False),
            ("{rules: [{from: [{source: {notIpBlocks: [10.0.0.0/8]}}]}]}", None, False),
            ("{action: DENY, rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}", None, False),
        ],
    )
    def test_an_unknown_port_or_address_matches_what_denies(
        self, tmp_path: Path, spec: str, port: int | None, allowed: bool
    ) -> None:
        file = written(tmp_path, policy(spec))
        assert verdict(meshtls.policy.load(file), WEB, port=port) is allowed
        assert verdict(meshtls.policy.load(file, port=port), WEB) is allowed

    def test_a_condition_on_the_server_name_denies_all(self, tmp_path: Path) -> None:
        spec = "{action: DENY, rules: [{when: [{key: connection.sni, values: [a.test]}]}]}"
        policies = meshtls.policy.load(written(tmp_path, policy(spec)))
        assert reason(policies, WEB) == (
            "denied: ns[shop]-policy[db] asks for connection.sni, which an authorizer is not told; enforce it in a"
            " sidecar or in PolicyMiddleware"
        )
        dry = policy(spec, annotations="{istio.io/dry-run: 'true'}")
        assert verdict(meshtls.policy.load(written(tmp_path, dry)), WEB)

    def test_a_custom_policy_denies_since_no_provider_can_be_asked(self, tmp_path: Path) -> None:
        spec = "{action: CUSTOM, provider: {name: opa}, rules: [{from: [{source: {principals: ['*/web']}}]}]}"
        policies = meshtls.policy.load(written(tmp_path, policy(spec)))
        assert reason(policies, WEB) == (
            "denied: ns[shop]-policy[db] wants provider opa to be asked, which an authorizer can't do within a"
            " handshake; enforce it in a sidecar or in PolicyMiddleware"
        )
        assert verdict(policies, BATCH)

    def test_fields_of_http_are_as_on_tcp_and_a_warning_says_so(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        allow = policy("{rules: [{to: [{operation: {methods: [GET]}}]}]}")
        deny = policy("{action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}")
        for text in (allow, deny):
            with caplog.at_level(logging.WARNING):
                assert not verdict(meshtls.policy.load(written(tmp_path, text)), WEB)
        assert [one.getMessage() for one in caplog.records] == [
            f"{tmp_path}/policies.yaml, line 5: spec.rules[0]: warning http-fields-on-tcp: HTTP is needed for methods:"
            " on a connection on which none is read the rule denies everything, as in Istio's sidecar; in Istio's"
            " ambient mode it has no effect there; add ports to limit it"
        ]


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "wanted at least one document, got none"),
            (policy("{action: DENY}"), "DENY"),
            (policy("{rule: []}"), "rule"),
            (policy("{rules: [{from: [{source: {principals: ['a*b*']}}]}]}"), "a*b*"),
        ],
    )
    def test_documents_without_a_meaning_are_refused_at_once(self, tmp_path: Path, text: str, said: str) -> None:
        with pytest.raises(ConfigError) as refused:
            meshtls.policy.load(written(tmp_path, text))
        assert said in str(refused.value)

    def test_a_missing_file_and_no_path_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="nothing.yaml"):
            meshtls.policy.load(tmp_path / "nothing.yaml")
        with pytest.raises(ConfigError) as refused:
            meshtls.policy.load([])
        assert str(refused.value) == "no path: wanted at least one document, got none"

    def test_arguments_that_are_none_are_refused(self, tmp_path: Path) -> None:
        file = written(tmp_path, ONLY_WEB)
        with pytest.raises(ConfigError) as refused:
            meshtls.policy.load(file, path_normalization="SOME")
        assert str(refused.value) == (
            "policy.load: path_normalization: wanted one of NONE, BASE, MERGE_SLASHES, DECODE_AND_MERGE_SLASHES, got"
            " 'SOME'"
        )
        with pytest.raises(InvalidSpiffeIdError) as invalid:
            meshtls.policy.load(file, trust_domain="example.org/web")
        assert str(invalid.value) == "policy.load: wanted the name of a trust domain, got 'example.org/web'"

    @pytest.mark.parametrize(
        ("argument", "given", "said", "twin"),
        [
            ("labels", "app=x", "wanted a mapping such as {'app': 'web'}, got 'app=x'", {"app": "x"}),
            ("labels", {"app": 1}, "wanted a label's value, a text, got 1", {"app": "1"}),
            (
                "labels",
                {"a*": "x"},
                "wanted a label's key such as app or example.org/app, without a star, got 'a*'",
                {"a": "x"},
            ),
            ("port", "80", "wanted a whole number, 1 to 65535, got '80'", 80),
            ("port", True, "wanted a whole number, 1 to 65535, got True", 1),
            ("port", 65536, "wanted a whole number, 1 to 65535, got 65536", 65535),
            (
                "namespace",
                "Bad NS",
                "wanted a namespace's name of a-z, 0-9 and '-', of at most 63 characters, got 'Bad NS'",
                "bad-ns",
            ),
            (
                "root_namespace",
                "",
                "wanted a namespace's name of a-z, 0-9 and '-', of at most 63 characters, got ''",
                "root",
            ),
        ],
    )
    def test_an_argument_of_another_kind_is_refused(
        self, tmp_path: Path, argument: str, given: object, said: str, twin: object
    ) -> None:
        load: Any = meshtls.policy.load
        file = written(tmp_path, ONLY_WEB)
        with pytest.raises(ConfigError) as refused:
            load(file, **{argument: given})
        assert str(refused.value) == f"policy.load: {argument}: {said}"
        load(file, **{argument: twin})

    @pytest.mark.parametrize(
        ("keys", "said"),
        [
            ("jwksUri: 'https://user@idp.test/keys'", "without spaces and passwords"),
            ("jwksFile: /nowhere/keys", "/nowhere/keys: wanted "),
        ],
    )
    def test_a_key_set_that_is_none_is_refused_at_once_and_in_a_change(
        self, tmp_path: Path, keys: str, said: str
    ) -> None:
        file = written(tmp_path, ONLY_WEB + tokens(keys))
        with pytest.raises(ConfigError) as refused:
            meshtls.policy.load(file, spiffe_id=OWN)
        assert said in str(refused.value)
        file.write_text(ONLY_WEB)
        policies = meshtls.policy.load(file, spiffe_id=OWN)
        file.write_text(ONLY_BATCH + tokens(keys))
        with pytest.raises(ConfigError) as refused:
            policies.reload()
        assert said in str(refused.value)
        assert verdict(policies, WEB)

    def test_a_file_of_keys_is_looked_for_where_its_rule_applies(self, tmp_path: Path) -> None:
        elsewhere = tokens("jwksFile: /nowhere/keys").replace("namespace: shop", "namespace: other")
        assert verdict(meshtls.policy.load(written(tmp_path, ONLY_WEB + elsewhere), spiffe_id=OWN), WEB)

    def test_a_key_set_over_plaintext_is_refused_for_what_may_not_fetch_it(self, tmp_path: Path) -> None:
        file = written(tmp_path, ONLY_WEB + tokens("jwksUri: 'http://idp.test/keys'"))
        policies = meshtls.policy.load(file, spiffe_id=OWN)
        policies.fetch_by(KeySetSettings(insecure_fetch_over_plaintext=True))
        policies.reload()
        with pytest.raises(ConfigError, match="wanted https:// for a key set on another host"):
            policies.fetch_by(KeySetSettings())
        file.write_text(ONLY_WEB)
        policies = meshtls.policy.load(file, spiffe_id=OWN)
        policies.fetch_by(KeySetSettings())
        file.write_text(ONLY_BATCH + tokens("jwksUri: 'http://idp.test/keys'"))
        with pytest.raises(ConfigError, match="wanted https:// for a key set on another host"):
            policies.reload()
        assert verdict(policies, WEB)


class TestReload:
    def test_a_valid_change_is_in_use_and_an_invalid_one_changes_nothing(self, tmp_path: Path) -> None:
        file = written(tmp_path, ONLY_WEB)
        policies = meshtls.policy.load(file)
        assert verdict(policies, WEB)
        file.write_text("kind: Nothing")
        with pytest.raises(ConfigError):
            policies.reload()
        assert policies.complaint is not None
        assert verdict(policies, WEB)
        file.write_text(ONLY_BATCH)
        policies.reload()
        assert [verdict(policies, WEB), verdict(policies, BATCH)] == [False, True]
        assert repr(policies.complaint) == "None"

    def test_a_deleted_file_changes_nothing(self, tmp_path: Path) -> None:
        file = written(tmp_path, ONLY_WEB)
        policies = meshtls.policy.load(tmp_path)
        file.unlink()
        with pytest.raises(ConfigError):
            policies.reload()
        assert not verdict(policies, BATCH)

    async def test_a_watch_reads_a_change_by_itself_and_logs_an_invalid_one(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = written(tmp_path, ONLY_WEB)
        with meshtls.policy.load(tmp_path, watch=True) as policies:
            assert not verdict(policies, BATCH)
            file.write_text(ONLY_BATCH)
            await until(lambda: verdict(policies, BATCH))
            file.write_text("kind: Nothing")
            await until(lambda: policies.complaint is not None)
            assert verdict(policies, BATCH)
            (tmp_path / "more.yaml").write_text(ONLY_WEB.replace("name: db", "name: web"))
            file.write_text(ONLY_BATCH)
            await until(lambda: verdict(policies, WEB))
        assert f"{policies.complaint}; the policies in use stay" not in caplog.text
        assert "the policies in use stay" in caplog.text

    def test_without_watch_a_change_waits_for_a_reload(self, tmp_path: Path) -> None:
        file = written(tmp_path, ONLY_WEB)
        policies = meshtls.policy.load(file)
        file.write_text(ONLY_BATCH)
        assert verdict(policies, WEB)
        policies.reload()
        assert not verdict(policies, WEB)

    def test_a_forked_process_watches_too(self, tmp_path: Path) -> None:
        """gunicorn loads an app before it forks its workers, and threads don't survive a fork."""
        file = written(tmp_path, ONLY_WEB)
        program = f"""
import os, time, meshtls
from meshtls.policy.authorizer import Target, evaluate
from meshtls.spiffeid import SpiffeId
from meshtls.svid.verify import VerifiedPeer
policies = meshtls.policy.load({str(file)!r}, watch=True)
target, batch = Target(SpiffeId.parse({str(OWN)!r})), VerifiedPeer(SpiffeId.parse({BATCH!r}), ())
if os.fork() == 0:
    assert not evaluate(policies, batch, target)
    with open({str(file)!r}, "w") as out: out.write({ONLY_BATCH!r})
    while not evaluate(policies, batch, target): time.sleep(0.05)
    os._exit(7)
os._exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
        done = subprocess.run([sys.executable, "-c", program], env=os.environ, timeout=60, check=False)
        assert done.returncode == 7


async def test_a_server_with_policies_refuses_by_an_alert(mesh: Mesh, tmp_path: Path) -> None:
    policies = meshtls.policy.load(
        written(tmp_path, policy("{rules: [{from: [{source: {principals: [example.org/web]}}]}]}", namespace="default"))
    )
    context = meshtls.server_context(mesh.source("db"), policies)
    assert mesh.handshake(mesh.source("web"), context).spiffe_id == mesh.id("web")
    with pytest.raises(meshtls.NotAuthorizedError, match="no ALLOW rule matches. The peer is example.org/batch"):
        mesh.handshake(mesh.source("batch"), context)


async def test_a_listener_knows_its_port(mesh: Mesh, tmp_path: Path) -> None:
    async def handler(reader: object, writer: object) -> None: ...

    file = tmp_path / "policies.yaml"
    file.write_text(policy("{rules: [{to: [{operation: {ports: ['1']}}]}]}", namespace="default"))
    policies = meshtls.policy.load(file)
    async with await meshtls.listen("127.0.0.1", 0, mesh.source("db"), policies, handler) as listener:
        port = listener.address[1]
        for said, allowed in ((1, False), (port, True)):
            file.write_text(policy(f"{{rules: [{{to: [{{operation: {{ports: ['{said}']}}}}]}}]}}", namespace="default"))
            policies.reload()
            reader, writer = await meshtls.dial("127.0.0.1", port, mesh.source("web"), meshtls.authorize_any())
            if allowed:
                assert await reader.read() == b""
            else:
                with pytest.raises(meshtls.PeerError):
                    await reader.read()
            writer.close()


def test_repr_counts_the_policies(tmp_path: Path) -> None:
    assert "[1 AuthorizationPolicy]" in repr(meshtls.policy.load(written(tmp_path, ONLY_WEB)))
