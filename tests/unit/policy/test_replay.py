"""Recorded traffic under proposed policies: whose verdict changes, and what is uncertain."""

from __future__ import annotations

from typing import Any

import pytest

from meshtls.errors import ConfigError
from meshtls.policy import replay as module
from meshtls.policy.istio.model import MeshOptions
from meshtls.policy.istio.parse import parse_documents
from meshtls.policy.replay import OTHERS, Change, Proposal, Replay, Report
from meshtls.spiffeid import SpiffeId
from tests.unit.policy.recorded_lines import CLIENT, OTHER, WEB, connection, recorded, request


def document(kind: str, spec: str, name: str = "p", annotations: str = "{}") -> str:
    return (
        f"apiVersion: security.istio.io/v1\nkind: {kind}\n"
        f"metadata: {{name: {name}, namespace: shop, annotations: {annotations}}}\nspec: {spec}\n"
    )


def allow(rule: str, **more: Any) -> str:
    return document("AuthorizationPolicy", f"{{rules: [{rule}]}}", **more)


def deny(rule: str, **more: Any) -> str:
    return document("AuthorizationPolicy", f"{{action: DENY, rules: [{rule}]}}", **more)


DRY_RUN = '{istio.io/dry-run: "true"}'
GET = "{to: [{operation: {methods: [GET]}}]}"


def replayed(lines: list[str], *texts: str, **more: Any) -> Report:
    documents = parse_documents([("p.yaml", "---\n".join(texts))])
    replay = Replay(Proposal(documents=documents, **more))
    for line in lines:
        replay.add(recorded(line))
    return replay.report()


def changes(report: Report) -> list[tuple[Change, str, str | None, str | None, int]]:
    return [(one.change, one.source, one.method, one.path, one.count) for one in report.groups]


def test_a_verdict_that_stays_is_counted_and_not_listed() -> None:
    report = replayed([request("GET"), request("POST", denied=True)], allow(GET))

    assert (report.judged, report.unchanged, report.groups, report.changes) == (2, 2, (), False)


def test_newly_denied_and_newly_allowed_requests_are_listed_with_the_most_frequent_first() -> None:
    lines = [request("GET", "/a", denied=True), *[request("POST", f"/b/{number}") for number in (1, 2)]]
    report = replayed(lines, allow(GET))

    assert changes(report) == [
        (Change.DENIED, CLIENT, "POST", "/b/{*}", 2),
        (Change.ALLOWED, CLIENT, "GET", "/a", 1),
    ]
    first, second = report.groups
    assert (first.policy, first.rule, first.clause) == (
        "ns[shop]-policy[p]",
        "0",
        "operation.methods: wanted GET, got POST",
    )
    assert first.reason.startswith("denied: no ALLOW rule matches. The peer is a.test/ns/front/sa/client;")
    assert (second.policy, second.rule, second.clause) == ("ns[shop]-policy[p]", "0", None)
    assert report.changes


def test_a_path_is_judged_as_it_was_and_not_as_its_template() -> None:
    report = replayed([request("GET", "/a/1"), request("GET", "/a/2")], allow('{to: [{operation: {paths: ["/a/1"]}}]}'))

    assert changes(report) == [(Change.DENIED, CLIENT, "GET", "/a/{*}", 1)]


def test_connections_of_a_port_with_http_are_not_judged_beside_their_requests() -> None:
    lines = [connection(), connection(port=9000), request("GET")]
    report = replayed(lines, allow(GET))

    assert [(one.change, one.port, one.method) for one in report.groups] == [(Change.DENIED, 9000, None)]
    assert report.judged == 2


def test_a_denied_connection_of_a_port_with_http_is_uncertain_until_its_requests_are_known() -> None:
    report = replayed([connection(denied=True), request("GET")], allow(GET))

    assert changes(report) == [(Change.UNCERTAIN, CLIENT, None, None, 1)]
    assert (
        replayed([connection(denied=True), request("GET")], allow(GET), deny("{}", name="d")).of(Change.UNCERTAIN) == ()
    )


@pytest.mark.parametrize(
    ("text", "uncertain"),
    [
        (allow("{when: [{key: 'request.headers[x-user]', values: [a]}]}"), True),
        (allow("{when: [{key: 'request.auth.claims[a]', values: [a]}]}"), True),
        (allow("{when: [{key: connection.sni, values: [a]}]}"), True),
        (allow("{when: [{key: destination.ip, values: [10.0.0.1]}]}"), True),
        (allow('{from: [{source: {requestPrincipals: ["*"]}}]}'), True),
        (allow('{from: [{source: {notRequestPrincipals: ["a/b"]}}]}'), True),
        (deny('{from: [{source: {notRequestPrincipals: ["*"]}}]}'), True),
        (deny("{when: [{key: 'request.headers[x-user]', notValues: [a]}]}"), True),
        (allow("{when: [{key: 'request.headers[Host]', values: [web]}]}"), False),
        (allow("{when: [{key: 'request.headers[:authority]', values: [web]}]}"), False),
        (allow("{when: [{key: 'request.headers[:method]', values: [GET]}]}"), False),
        (allow("{when: [{key: 'request.headers[:path]', values: [/a]}]}"), True),
        (allow("{when: [{key: source.ip, values: [10.0.0.1]}]}"), False),
        (allow("{to: [{operation: {methods: [GET]}}], when: [{key: connection.sni, values: [a]}]}"), True),
        (deny("{to: [{operation: {methods: [PUT]}}], when: [{key: connection.sni, values: [a]}]}"), False),
        (document("AuthorizationPolicy", "{action: CUSTOM, provider: {name: opa}, rules: [{}]}"), True),
    ],
)
def test_a_verdict_that_depends_on_what_the_log_does_not_have_is_uncertain(text: str, uncertain: bool) -> None:
    assert bool(replayed([request("GET")], text).of(Change.UNCERTAIN)) is uncertain


def test_a_rule_that_asks_for_a_header_leaves_other_verdicts_certain() -> None:
    header = "{to: [{operation: {methods: [PUT]}}], when: [{key: 'request.headers[x-user]', values: [a]}]}"

    assert replayed([request("GET")], allow(f"{GET}, {header}")).groups == ()
    assert [one.change for one in replayed([request("POST")], allow(f"{GET}, {header}")).groups] == [Change.DENIED]


def test_an_uncertain_verdict_names_what_it_depends_on() -> None:
    (group,) = replayed([request("GET")], allow("{when: [{key: 'request.headers[x-user]', values: [a]}]}")).groups

    assert group.reason.startswith(
        "uncertain: it depends on a header, a token, a server name or an address that the access log does not have."
        " Without what the rules ask for: denied: no ALLOW rule matches."
    )


def test_mutual_tls_to_a_port_that_becomes_disable_is_not_a_verdict_that_stays() -> None:
    disable = document("PeerAuthentication", "{mtls: {mode: DISABLE}}", name="m")
    named = allow("{from: [{source: {principals: [a.test/ns/front/sa/client]}}]}")

    (group,) = replayed([request("GET")], disable).groups
    assert (group.change, group.policy) == (Change.DENIED, "ns[shop]-policy[m]")
    assert group.reason.startswith("denied with 400: ns[shop]-policy[m] sets DISABLE, so no TLS ends at the port")
    (group,) = replayed([connection()], disable).groups
    assert (group.change, group.source) == (Change.UNCERTAIN, CLIENT)
    assert group.reason == (
        "uncertain: the port is DISABLE, where no TLS ends, and this caller sent TLS. It would be allowed as plaintext,"
        " and its TLS passed to the app as it is: only an app that speaks TLS itself can serve it"
    )
    assert [one.change for one in replayed([connection()], disable, named).groups] == [Change.DENIED]
    assert replayed([connection(plaintext=True), request("GET", plaintext=True)], disable).groups == ()


def test_strict_denies_plaintext_by_policy_and_by_option() -> None:
    lines = [request("GET", plaintext=True)]
    strict = document("PeerAuthentication", "{mtls: {mode: STRICT}}")

    assert [one.change for one in replayed(lines, strict).groups] == [Change.DENIED]
    assert [one.change for one in replayed(lines, allow("{}"), strict=True).groups] == [Change.DENIED]
    assert replayed(lines, allow("{}")).groups == ()


def test_plaintext_callers_are_listed_by_destination_port_and_address() -> None:
    lines = [
        request("GET", plaintext=True),
        request("PUT", plaintext=True, remote="10.0.0.1:2", time="2030-01-02T00:00:00Z"),
        connection(plaintext=True, port=8080),
        connection(plaintext=True, port=9000, remote="[::1]:1"),
        connection(plaintext=True, port=9000, denied=True),
        request("GET"),
    ]
    report = replayed(lines, allow("{}"))

    assert [(one.port, one.address, one.mode, one.count, one.last) for one in report.plaintext_callers] == [
        (8080, "10.0.0.1", "PERMISSIVE", 2, "2030-01-02T00:00:00Z"),
        (9000, "::1", "PERMISSIVE", 1, "2030-01-01T00:00:00Z"),
    ]
    assert replayed([request("GET")], allow("{}")).plaintext_callers == ()


def test_a_dry_run_policy_changes_no_verdict_and_is_listed() -> None:
    lines = [request("GET"), request("POST")]
    report = replayed(lines, allow("{}"), deny(GET, name="shadow", annotations=DRY_RUN))

    assert changes(report) == [(Change.DRY_RUN_DENIED, CLIENT, "GET", "/", 1)]
    assert report.groups[0].policy == "ns[shop]-policy[shadow]"
    assert not report.changes
    assert changes(replayed(lines, allow("{}"), deny(GET, name="shadow"))) == [(Change.DENIED, CLIENT, "GET", "/", 1)]


def test_a_dry_run_allow_policy_is_listed_for_what_it_would_let_in() -> None:
    lines = [request("POST", denied=True)]
    report = replayed(lines, allow(GET), allow("{}", name="shadow", annotations=DRY_RUN))

    assert changes(report) == [(Change.DRY_RUN_ALLOWED, CLIENT, "POST", "/", 1)]


def test_a_dry_run_of_custom_proposes_no_verdict() -> None:
    custom = document(
        "AuthorizationPolicy", "{action: CUSTOM, provider: {name: opa}, rules: [{}]}", name="c", annotations=DRY_RUN
    )

    assert replayed([request("POST", denied=True)], allow(GET), custom).groups == ()


def test_a_selector_is_matched_with_the_labels_given_and_told_without_them() -> None:
    text = document("AuthorizationPolicy", "{selector: {matchLabels: {app: web}}, rules: []}")
    labels = {SpiffeId.parse(WEB): (("app", "web"),)}

    assert replayed([request("GET")], text).unselected == (("ns[shop]-policy[p]", WEB),)
    # It may apply, or not.
    for given in (request("GET"), request("GET", denied=True)):
        report = replayed([given], text)
        assert changes(report) == [(Change.UNCERTAIN, CLIENT, "GET", "/", 1)]
        assert report.groups[0].reason.startswith(
            f"uncertain: ns[shop]-policy[p] may apply, by a selector, and the labels of {WEB} are not known; give them"
            " with --labels. With"
        )
    no_matter = document("AuthorizationPolicy", "{selector: {matchLabels: {app: web}}, rules: [{}]}")
    assert replayed([request("GET")], no_matter).groups == ()
    labelled = replayed([request("GET")], text, labels=labels)
    assert (labelled.unselected, changes(labelled)) == ((), [(Change.DENIED, CLIENT, "GET", "/", 1)])


def test_the_principal_of_an_alias_counts() -> None:
    text = allow('{from: [{source: {principals: ["old.test/ns/front/sa/client"]}}]}')

    assert changes(replayed([request("GET")], text)) == [(Change.DENIED, CLIENT, "GET", "/", 1)]
    assert replayed([request("GET")], text, mesh=MeshOptions(trust_domain_aliases=("old.test",))).groups == ()


def test_the_period_of_the_log_is_told() -> None:
    days = [f"2030-01-0{day}T00:00:00Z" for day in (2, 1, 3)]
    report = replayed([request(time=day) for day in days], allow("{}"))

    assert (report.first, report.last) == ("2030-01-01T00:00:00Z", "2030-01-03T00:00:00Z")


def test_paths_above_the_most_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_PATHS", 2)
    report = replayed([request("PUT", f"/{name}") for name in "abcd"], allow(GET))

    assert changes(report) == [
        (Change.DENIED, CLIENT, "PUT", OTHERS, 2),
        (Change.DENIED, CLIENT, "PUT", "/a", 1),
        (Change.DENIED, CLIENT, "PUT", "/b", 1),
    ]


def test_groups_above_the_most_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_GROUPS", 2)
    lines = [request("PUT", source_id=f"spiffe://a.test/c{number}") for number in range(5)]
    report = replayed(lines, allow(GET))

    assert [(one.source, one.count) for one in report.groups] == [
        (OTHERS, 3),
        ("spiffe://a.test/c0", 1),
        ("spiffe://a.test/c1", 1),
    ]


def test_too_many_destinations_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_DESTINATIONS", 1)

    with pytest.raises(ConfigError, match="wanted at most 1 destinations, got more"):
        replayed([request(), request(destination_id=OTHER)], allow("{}"))


def test_policies_that_can_not_be_compiled_are_an_error() -> None:
    with pytest.raises(ConfigError):
        replayed([request()], document("AuthorizationPolicy", "{action: DENY}"))
