"""What ``meshtls policy`` prints, and its exit codes."""

from __future__ import annotations

import gzip
import io
import json
import re
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from meshtls.cli.main import main
from tests.support.jwts import Issuer
from tests.unit.policy.recorded_lines import CLIENT, OTHER, WEB, connection, request

POLICIES = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  rules:
  - from: [{source: {principals: ["cluster.local/ns/front/sa/client"]}}]
    to: [{operation: {methods: [GET]}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
"""
SHADOW = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: shadow, namespace: shop, annotations: {istio.io/dry-run: "true"}}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}
"""
SIDECAR = """\
name: web
spiffe_id: spiffe://a.test/ns/shop/sa/web
identity: {workload_api: "unix:///run/agent.sock"}
policies: [policies.yaml]
labels: {app: web}
inbound:
  - {listen: "127.0.0.1:15006", app: "127.0.0.1:8080", protocol: http}
  - {listen: "127.0.0.1:15007", app: "127.0.0.1:9000", mode: PERMISSIVE, allow: ["spiffe://a.test/ns/front/sa/other"]}
"""


class Cli:
    """Runs ``meshtls`` in the directory of its files."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys

    def write(self, name: str, text: str) -> str:
        (self.directory / name).write_text(text)
        return name

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        with pytest.raises(SystemExit) as ended:
            main(["policy", *arguments])
        captured = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, captured.out, captured.err

    def json(self, *arguments: str) -> tuple[int, Any]:
        code, out, _ = self(*arguments, "--output", "json")
        return code, json.loads(out)


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    found = Cli(tmp_path, capsys)
    found.write("policies.yaml", POLICIES)
    return found


# -- check --


def test_check_of_good_policies_exits_with_0(cli: Cli) -> None:
    code, out, err = cli("check", "policies.yaml", "--strict", "--trust-domain", "a.test")

    assert (code, err) == (0, "")
    assert out.endswith("2 documents: 0 errors, 0 warnings\n")


@pytest.mark.parametrize(
    ("rule", "code", "kind", "said"),
    [
        ({"jwksFile": "none.json"}, 2, "key-set-unusable", "none.json: wanted "),
        ({"jwksUri": "http://idp.test/keys"}, 1, "key-set-over-plaintext", "insecure_fetch_over_plaintext allows it"),
        ({"jwksUri": "https://idp.test/keys"}, 0, "", ""),
        ({"jwksUri": "http://127.0.0.1/keys"}, 0, "", ""),
    ],
)
def test_check_finds_key_sets_that_can_not_be_used(
    cli: Cli, rule: dict[str, str], code: int, kind: str, said: str
) -> None:
    file = cli.write("tokens.yaml", tokens({"issuer": ISSUER.name, **rule}))
    found = cli("check", "policies.yaml", file, "--strict")
    assert (found[0], kind in found[1], said in found[1]) == (code, True, True)
    assert bool(kind) is ("key-set" in found[1])


def test_warnings_exit_with_1_only_if_check_is_strict(cli: Cli) -> None:
    permissive = cli.write("p.yaml", POLICIES.replace("STRICT", "PERMISSIVE"))

    assert cli("check", permissive, "--strict")[0] == 1
    code, found = cli.json("check", permissive)
    assert (code, found["warnings"]) == (0, 1)
    first, last = found["findings"]
    assert (first["severity"], first["code"], first["file"], first["line"], first["field"]) == (
        "info",
        "http-rule-on-tcp",
        "p.yaml",
        7,
        "spec.rules[0]",
    )
    assert (last["severity"], last["code"], last["file"]) == ("warning", "strict-missing", None)


def test_errors_of_check_exit_with_2(cli: Cli) -> None:
    unreadable = cli.write("p.yaml", SHADOW.replace('"true"', '"maybe"'))
    unknown = cli.write("q.yaml", SHADOW.replace("paths:", "path:"))

    code, out, _ = cli("check", unreadable)
    assert (code, "error dry-run-unreadable" in out) == (2, True)
    code, out, err = cli("check", unknown)
    assert (code, out) == (2, "")
    assert err.startswith("meshtls: q.yaml, line 4: spec.rules[0].to[0].operation.path: unknown field")


def test_check_finds_a_policy_that_is_for_no_known_workload(cli: Cli) -> None:
    known = ("--workload", "spiffe://a.test/ns/shop/sa/web")

    assert "selects-nothing" in cli("check", "policies.yaml", *known, "app=db")[1]
    assert "selects-nothing" not in cli("check", "policies.yaml", *known, "app=web")[1]


# -- explain --

ASKED = ("explain", "--from", CLIENT, "--to", WEB, "--label", "app=web", "--port", "8080")


def test_explain_of_an_allowed_request_exits_with_0(cli: Cli) -> None:
    code, out, err = cli(*ASKED, "--method", "GET", "policies.yaml", "--trust-domain-alias", "old.test")

    assert (code, err) == (0, "")
    assert out == (
        f"ALLOW  {CLIENT} to {WEB} port 8080: GET /\n"
        "allowed by ns[shop]-policy[readers]-rule[0]\n"
        "  policy      ns[shop]-policy[readers]\n"
        "  rule        0\n"
        "  mode        STRICT, by ns[shop]-policy[default]: plaintext is refused\n"
        "  principals  ns[shop]-policy[readers]-rule[0]: a.test/ns/front/sa/client, old.test/ns/front/sa/client\n"
    )


def test_explain_of_a_denied_request_exits_with_1_and_says_what_to_add(cli: Cli) -> None:
    code, found = cli.json(*ASKED, "--method", "PUT", "--path", "/a", "policies.yaml")

    assert (code, found["verdict"], found["clause"]) == (1, "deny", "operation.methods: wanted GET, got PUT")
    assert found["nearest"] == {"policy": "ns[shop]-policy[readers]", "rule": "0", "clause": found["clause"]}
    assert (found["mode"], found["passes_plaintext"]) == ("STRICT", False)
    assert found["rule_to_add"] == {
        "from": [{"source": {"principals": ["a.test/ns/front/sa/client"]}}],
        "to": [{"operation": {"ports": ["8080"], "methods": ["PUT"], "paths": ["/a"]}}],
    }


def test_explain_tells_of_policies_that_are_not_applied_for_want_of_labels(cli: Cli) -> None:
    asked = ("explain", "--from", CLIENT, "--to", WEB, "--method", "PUT", "policies.yaml")
    missed = "ns[shop]-policy[readers]: its selector wants app=web, and no label was given"

    code, out, _ = cli(*asked)
    assert (code, f"  not applied {missed}\n" in out) == (0, True)
    assert cli.json(*asked)[1]["not_applied"] == [missed]
    code, out, _ = cli(*asked, "--label", "app=web")
    assert (code, "not applied" in out) == (1, False)


def test_explain_of_a_dry_run_policy_says_what_it_would_do(cli: Cli) -> None:
    shadow = cli.write("shadow.yaml", SHADOW)
    code, found = cli.json(*ASKED, "--path", "/admin", "policies.yaml", shadow)

    assert (code, found["verdict"], found["dry_run"][0]["verdict"]) == (0, "allow", "deny")
    assert "ns[shop]-policy[shadow]-rule[0]" in found["dry_run"][0]["reason"]
    assert cli.json(*ASKED, "--path", "/a", "policies.yaml", shadow)[1]["dry_run"][0]["verdict"] == "allow"


@pytest.mark.parametrize(
    ("rule", "option", "matching", "other"),
    [
        ("{when: [{key: 'request.headers[x-user]', values: [ann]}]}", "--header", "X-User=ann", "X-User=b"),
        ("{when: [{key: 'request.headers[x-user]', values: [Köln]}]}", "--header", "X-User=Köln", "X-User=K\udcf6ln"),
        ("{when: [{key: 'request.auth.claims[group]', values: [a]}]}", "--claim", 'group=["a"]', "group=b"),
        ("{when: [{key: request.auth.presenter, values: [a]}]}", "--claim", "azp=a", "azp=b"),
        ("{when: [{key: connection.sni, values: [web.test]}]}", "--sni", "web.test", "b.test"),
        ("{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}", "--ip", "10.1.1.1", "11.1.1.1"),
        ("{from: [{source: {remoteIpBlocks: [10.0.0.0/8]}}]}", "--remote-ip", "10.1.1.1", "11.1.1.1"),
        ("{when: [{key: destination.ip, values: [10.0.0.1]}]}", "--destination-ip", "10.0.0.1", "10.0.0.2"),
        ("{to: [{operation: {hosts: [web.test]}}]}", "--host", "web.test", "b.test"),
        ("{to: [{operation: {hosts: [web.test]}}]}", "--header", "Host=web.test", "Host=b.test"),
    ],
)
def test_explain_takes_each_fact_of_a_request(cli: Cli, rule: str, option: str, matching: str, other: str) -> None:
    meta = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"
    file = cli.write("p.yaml", f"{meta}spec: {{rules: [{rule}]}}\n")

    assert cli(*ASKED, option, matching, file)[0] == 0
    assert cli(*ASKED, option, other, file)[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", "web"), "SPIFFE ID, or the word plaintext"),
        (("--ip", "here"), "wanted an IP address, got 'here'"),
        (("--header", "a"), "wanted NAME=VALUE such as app=web, got 'a'"),
        (("--claim", "a=[1"), "claim 'a': wanted a text, or JSON, got '[1'"),
        (("--config", "sidecar.yaml"), "wanted --config, or POLICIES with --label and the like, got both"),
    ],
)
def test_explain_says_what_is_wrong_with_an_option(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = cli(*ASKED, *arguments, "policies.yaml")

    assert (code, out) == (2, "")
    assert message in err


REFUSED = "a sidecar refuses such a request with 400 before any policy judges it"
TARGET = "wanted printable ASCII that begins with a slash, without blanks and '#'"


@pytest.mark.parametrize(
    ("option", "value", "problem", "twin"),
    [
        ("--method", "post", "method: wanted one in capital letters, got 'post'; write POST", "POST"),
        ("--method", "G T", "method: wanted one in capital letters, got 'G T'", "GET"),
        ("--host", "x y", "host: wanted a name or an address, with or without a port, got 'x y'", "x"),
        ("--host", "x:99999", "host: wanted a name or an address, with or without a port, got 'x:99999'", "x:9999"),
        ("--path", "/a b", f"path: {TARGET}, got '/a b'", "/a%20b"),
        ("--path", "a", f"path: {TARGET}, got 'a'", "/a"),
        ("--header", "x y=1", "header: wanted a field's name, got 'x y'", "x=1"),
        ("--header", "x=1\r\ny: 2", "header 'x': wanted lines that end with CRLF and have no control bytes, got others",
         "x=1 y: 2"),
    ],
)  # fmt: skip
def test_explain_judges_no_request_that_a_sidecar_refuses(
    cli: Cli, option: str, value: str, problem: str, twin: str
) -> None:
    meta = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: all, namespace: shop}\n"
    file = cli.write("all.yaml", f"{meta}spec: {{rules: [{{}}]}}\n")

    assert cli(*ASKED, option, value, file) == (2, "", f"meshtls: {problem}; {REFUSED}\n")
    assert cli(*ASKED, option, twin, file)[0] == 0


_NO_ANSWER = "a sidecar refuses such a request with {} before any policy judges it"


def _one_listener(cli: Cli, spec: str, more: str) -> str:
    meta = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"
    cli.write("p.yaml", f"{meta}spec: {spec}\n")
    return cli.write(
        "one.yaml",
        "name: web\nspiffe_id: spiffe://a.test/ns/shop/sa/web\npolicies: [p.yaml]\ninbound:\n"
        f'  - {{listen: "127.0.0.1:15006", app: "127.0.0.1:8080", {more}}}\n',
    )


_HTTP = "protocol: http"
_ONE_PROXY = f"{_HTTP}, num_trusted_proxies: 1"
_BY_CLIENT = "{rules: [{from: [{source: {remoteIpBlocks: [127.0.0.0/8]}}]}]}"
_XFCC = "{rules: [{when: [{key: 'request.headers[x-forwarded-client-cert]', %s}]}]}"
_UPGRADE = "{action: DENY, rules: [{when: [{key: 'request.headers[upgrade]', values: [%s]}]}]}"
_CONNECT = ("--method", "CONNECT", "--host", "a:1")
_UPGRADES = ("--header", "upgrade=WebSocket", "--header", "connection=Upgrade")


@pytest.mark.parametrize(
    ("spec", "listener", "options", "code"),
    [
        # The original client is the one that the outermost trusted proxy noted, and not the connection's address.
        (_BY_CLIENT, _ONE_PROXY, ("--ip", "127.0.0.1", "--path", "/"), 1),
        (_BY_CLIENT, _ONE_PROXY, ("--ip", "127.0.0.1", "--header", "x-forwarded-for=9.9.9.9"), 1),
        (_BY_CLIENT, _ONE_PROXY, ("--ip", "127.0.0.1", "--header", "x-forwarded-for=127.0.0.1"), 0),
        (_BY_CLIENT, _HTTP, ("--ip", "127.0.0.1", "--header", "x-forwarded-for=9.9.9.9"), 0),
        # CONNECT has no path.
        ("{rules: [{to: [{operation: {methods: [CONNECT], paths: [/]}}]}]}", _HTTP, _CONNECT, 1),
        ("{rules: [{to: [{operation: {methods: [CONNECT]}}]}]}", _HTTP, _CONNECT, 0),
        ("{action: DENY, rules: [{to: [{operation: {paths: ['/*']}}]}]}", _HTTP, _CONNECT, 0),
        ("{action: DENY, rules: [{to: [{operation: {methods: [CONNECT]}}]}]}", _HTTP, _CONNECT, 1),
        # The app's x-forwarded-client-cert is the sidecar's own.
        (_XFCC % "notValues: ['*']", _HTTP, ("--path", "/"), 1),
        (_XFCC % "notValues: ['*']", f"{_HTTP}, forward_client_cert: sanitize", ("--path", "/"), 0),
        (_XFCC % "values: ['*evil']", _HTTP, ("--header", "x-forwarded-client-cert=By=evil"), 1),
        (_XFCC % "values: ['*evil']", f"{_HTTP}, forward_client_cert: always_forward_only",
         ("--header", "x-forwarded-client-cert=By=evil"), 0),
        (_XFCC % f"values: ['*URI={CLIENT}']", _HTTP, ("--path", "/"), 0),
        # An upgrade is compared in lower case, and is one only beside Connection.
        (_UPGRADE % "WebSocket", _HTTP, ("--path", "/", *_UPGRADES), 0),
        (_UPGRADE % "websocket", _HTTP, ("--path", "/", *_UPGRADES), 1),
        (_UPGRADE % "websocket", _HTTP, ("--path", "/", *_UPGRADES[:2]), 0),
        # What is no HTTP is not refused as such.
        ("{action: DENY, rules: [{from: [{source: {namespaces: [x]}}]}]}", "protocol: tcp", ("--path", "/z%00"), 0),
        ("{rules: [{to: [{operation: {hosts: [good]}}]}]}", _HTTP, ("--header", "host=good"), 0),
        ("{rules: [{to: [{operation: {hosts: [good]}}]}]}", _HTTP, ("--header", "host=bad"), 1),
        ("{rules: [{}]}", f"{_HTTP}, http: {{underscore_names: true}}", ("--header", "x_y=1"), 0),
        ("{rules: [{}]}", _HTTP, ("--header", "transfer-encoding=chunked", "--header", "expect=100-Continue"), 0),
    ],
)  # fmt: skip
def test_explain_by_a_sidecars_file_judges_what_its_http_filter_makes_of_the_request(
    cli: Cli, spec: str, listener: str, options: tuple[str, ...], code: int
) -> None:
    file = _one_listener(cli, spec, listener)

    found = cli("explain", "--config", file, "--from", CLIENT, *options)
    assert (found[0], found[2]) == (code, "")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--header", "x_y=1"), f"request: wanted no underscore in a field's name, got x_y; {_NO_ANSWER.format(400)}"),
        (
            ("--header", "transfer-encoding=gzip"),
            "request: wanted no Transfer-Encoding but chunked, and that in HTTP/1.1, got another;"
            f" {_NO_ANSWER.format(400)}",
        ),
        (
            ("--host", "a", "--header", "host=a"),
            f"request: wanted one host at most, got several; {_NO_ANSWER.format(400)}",
        ),
        (
            ("--header", "expect=foo"),
            f"request: wanted no Expect but 100-continue, got another; {_NO_ANSWER.format(417)}",
        ),
        (
            ("--header", f"x={'a' * 70000}"),
            f"request: wanted at most 65536 bytes of fields, got more; {_NO_ANSWER.format(431)}",
        ),
        (
            ("--method", "CONNECT", "--host", "a"),
            "request: wanted a host and a port as CONNECT's target, and the same in Host, got others;"
            f" {_NO_ANSWER.format(400)}",
        ),
        (("--method", "CONNECT"), "host: wanted the host and port that CONNECT names, got none"),
        (
            ("--method", "CONNECT", "--host", "a:1", "--path", "/"),
            "path: wanted none for CONNECT, whose target is the host, got '/'",
        ),
    ],
)
def test_explain_by_a_sidecars_file_refuses_what_its_http_filter_refuses(
    cli: Cli, options: tuple[str, ...], problem: str
) -> None:
    asked = ("explain", "--config", _one_listener(cli, "{rules: [{}]}", _HTTP), "--from", CLIENT)

    assert cli(*asked, *options) == (2, "", f"meshtls: {problem}\n")
    assert cli(*asked, "--host", "a:1", "--header", "x=1")[0] == 0


def test_explain_by_a_sidecars_file_reads_the_client_of_x_forwarded_for(cli: Cli) -> None:
    asked = ("explain", "--from", CLIENT, "--path", "/", "--remote-ip", "127.0.0.1", "--config")

    assert cli(*asked, _one_listener(cli, _BY_CLIENT, _ONE_PROXY)) == (
        2,
        "",
        "meshtls: --remote-ip: the listener reads it of x-forwarded-for (num_trusted_proxies: 1); give --header"
        " x-forwarded-for=127.0.0.1, or as many addresses as there are proxies\n",
    )
    assert cli(*asked, _one_listener(cli, _BY_CLIENT, _HTTP))[0] == 0


def test_explain_tells_what_became_of_headers(cli: Cli) -> None:
    file = _one_listener(cli, _XFCC % "values: ['By=*']", _HTTP)
    options = [one for name in ("upgrade=h2c", "te=a", "expect=100-continue", "x=1") for one in ("--header", name)]
    element = f"By={WEB};Hash=unknown;URI={CLIENT}"

    code, out, _ = cli("explain", "--config", file, "--from", CLIENT, *options)
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("  header ")] == [
        "  header      upgrade is not judged: it counts only as websocket, beside the header connection with upgrade,"
        " in a GET without a body",
        "  header      te is not judged: it is of one connection, or of a body's framing, and taken out before",
        "  header      expect is not judged: it counts only with a body, such as one of content-length 1",
        f"  header      x-forwarded-client-cert is judged as {element}: the certificate, and so Hash, is not known",
    ]
    allowed = cli("explain", "--config", file, "--from", CLIENT, "--header", "x=1", "--output", "json")
    assert json.loads(allowed[1])["header_notes"] == [
        f"x-forwarded-client-cert is judged as {element}: the certificate, and so Hash, is not known"
    ]
    assert cli.json(*ASKED, "--header", "x_y=1", "p.yaml")[1]["header_notes"] == [
        "x_y has an underscore: a sidecar refuses it with 400, unless http.underscore_names is set"
    ]
    assert cli.json(*ASKED, "--header", "xy=1", "p.yaml")[1]["header_notes"] == []


def test_explain_judges_without_the_headers_of_one_connection_as_a_sidecar_does(cli: Cli) -> None:
    meta = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: p, namespace: shop}\n"
    rules = "{{action: DENY, rules: [{{when: [{{key: 'request.headers[{}]', values: [a]}}]}}]}}"
    te, other = (cli.write(f"{name}.yaml", f"{meta}spec: {rules.format(name)}\n") for name in ("te", "tea"))

    assert cli(*ASKED, "--header", "TE=a", te)[0] == 0
    assert cli(*ASKED, "--header", "TEA=a", other)[0] == 1


def test_explain_by_a_sidecars_file_uses_its_mode_labels_protocol_and_allow(cli: Cli) -> None:
    config = ("explain", "--config", cli.write("sidecar.yaml", SIDECAR))

    assert cli(*config, "--from", CLIENT, "--port", "8080", "--path", "/")[0] == 0
    assert cli(*config, "--from", OTHER, "--port", "8080", "--path", "/")[0] == 1
    assert cli(*config, "--from", OTHER, "--port", "9000")[0] == 0
    # The help has the word in capitals.
    code, found = cli.json(*config, "--from", "PLAINTEXT", "--port", "9000")
    assert (code, found["mode"], found["mode_policy"]) == (1, "PERMISSIVE", "the sidecar's file")
    code, out, _ = cli(*config, "--from", CLIENT, "--port", "8080")
    assert (code, "each HTTP request is judged by itself; give --method and --path" in out) == (1, True)
    code, _, err = cli(*config, "--from", CLIENT)
    assert (code, "one of 8080, 9000, got none" in err) == (2, True)
    code, _, err = cli(*config, "--from", CLIENT, "--to", OTHER, "--port", "8080")
    assert (code, err) == (2, f"meshtls: --to: wanted {WEB}, that of the sidecar's file, got {OTHER}\n")


ALLOWS = """\
name: web
spiffe_id: spiffe://a.test/ns/shop/sa/web
inbound:
  - {listen: "127.0.0.1:15006", app: "127.0.0.1:8080", protocol: http, allow: [%s]}
  - {listen: "127.0.0.1:15007", app: "127.0.0.1:9000", mode: PERMISSIVE, allow: ["spiffe://a.test/ns/front/sa/other"]}
  - {listen: "127.0.0.1:15008", app: "127.0.0.1:9001", mode: DISABLE}
"""
LISTED = '"spiffe://a.test/ns/front/sa/client", "spiffe://cluster.local/ns/front/sa/client"'
AT_8080 = "ns[shop]-policy[inbound 127.0.0.1:15006 allow]"
AT_9000 = "ns[shop]-policy[inbound 127.0.0.1:15007 allow]"
CLIENTS = "a.test/ns/front/sa/client, cluster.local/ns/front/sa/client"
BY_FILE = "by the sidecar's file"


@pytest.mark.parametrize(
    ("source", "arguments", "code", "told"),
    [
        pytest.param(
            CLIENT,
            ("--port", "8080", "--path", "/a"),
            0,
            f"ALLOW  {CLIENT} to {WEB} port 8080: GET /a\npeer {CLIENT} is allowed to reach {WEB}\n"
            "  mode        STRICT, the default: plaintext is refused\n"
            f"  principals  {AT_8080}-rule[0]: {CLIENTS}\n",
            id="listed",
        ),
        pytest.param(
            OTHER,
            ("--port", "8080", "--path", "/a"),
            1,
            f"DENY  {OTHER} to {WEB} port 8080: GET /a\n"
            f"peer {OTHER} is not allowed to reach {WEB}; allowed: {CLIENT}, spiffe://cluster.local/ns/front/sa/client\n"
            f"  clause      source.principals: wanted {CLIENTS}, got a.test/ns/front/sa/other\n"
            f"  nearest     policy {AT_8080}, rule 0: source.principals: wanted {CLIENTS}, got"
            " a.test/ns/front/sa/other\n"
            "  mode        STRICT, the default: plaintext is refused\n"
            f"  principals  {AT_8080}-rule[0]: {CLIENTS}\n"
            f"  To allow this caller, add it to inbound[0].allow in s.yaml:\n    - {OTHER}\n",
            id="not listed",
        ),
        pytest.param(
            "plaintext",
            ("--port", "8080", "--path", "/a"),
            1,
            f"DENY  plaintext to {WEB} port 8080: GET /a\n"
            "denied: the port's mode is STRICT, and plaintext proves no identity. Call with mutual TLS, or set"
            " PERMISSIVE for this port until every caller does.\n"
            "  clause      mtls.mode: wanted mutual TLS, got plaintext\n"
            "  mode        STRICT, the default: plaintext is refused\n"
            f"  principals  {AT_8080}-rule[0]: {CLIENTS}\n",
            id="plaintext, STRICT",
        ),
        pytest.param(
            "plaintext",
            ("--port", "9000"),
            0,
            f"ALLOW  plaintext to {WEB} port 9000\nplaintext is allowed here\n"
            f"  mode        PERMISSIVE, {BY_FILE}: plaintext passes, too, and no policy judges it\n"
            f"  principals  {AT_9000}-rule[0]: a.test/ns/front/sa/other\n",
            id="plaintext, PERMISSIVE",
        ),
        pytest.param(
            CLIENT,
            ("--port", "9000"),
            1,
            f"DENY  {CLIENT} to {WEB} port 9000\npeer {CLIENT} is not allowed to reach {WEB}; allowed: {OTHER}\n"
            "  clause      source.principals: wanted a.test/ns/front/sa/other, got a.test/ns/front/sa/client\n"
            f"  nearest     policy {AT_9000}, rule 0: source.principals: wanted a.test/ns/front/sa/other, got"
            " a.test/ns/front/sa/client\n"
            f"  mode        PERMISSIVE, {BY_FILE}: plaintext passes, too, and no policy judges it\n"
            f"  principals  {AT_9000}-rule[0]: a.test/ns/front/sa/other\n"
            f"  To allow this caller, add it to inbound[1].allow in s.yaml:\n    - {CLIENT}\n",
            id="not listed, PERMISSIVE",
        ),
        pytest.param(
            CLIENT,
            ("--port", "9001"),
            0,
            f"ALLOW  plaintext to {WEB} port 9001\nplaintext is allowed here\n"
            f"  mode        DISABLE, {BY_FILE}: no TLS ends here, and every caller is allowed\n"
            f"  caller      {CLIENT} is judged as plaintext: if it sends TLS, that passes to the app as it is\n",
            id="TLS, DISABLE",
        ),
    ],
)
def test_explain_by_a_file_without_policies_says_what_its_allow_and_mode_decide(
    cli: Cli, source: str, arguments: tuple[str, ...], code: int, told: str
) -> None:
    file = cli.write("s.yaml", ALLOWS % LISTED)
    assert cli("explain", "--config", file, "--from", source, *arguments) == (code, told, "")


def test_an_id_of_cluster_local_in_allow_is_not_one_of_our_trust_domain(cli: Cli) -> None:
    asked = ("explain", "--config", cli.write("s.yaml", ALLOWS % LISTED.partition(", ")[2]), "--port", "8080")
    assert cli(*asked, "--from", "spiffe://cluster.local/ns/front/sa/client")[0] == 0
    assert cli(*asked, "--from", CLIENT)[0] == 1


def test_explain_names_the_id_that_an_empty_allow_lacks(cli: Cli) -> None:
    file = cli.write("s.yaml", ALLOWS % "")
    code, found = cli.json("explain", "--config", file, "--from", CLIENT, "--port", "8080")
    assert (code, found["reason"]) == (1, f"peer {CLIENT} is not allowed to reach {WEB}; allowed: nobody")
    assert (found["nearest"], found["rule_to_add"]) == (None, None)
    assert found["allow_to_add"] == {"key": "inbound[0].allow", "file": "s.yaml", "spiffe_id": CLIENT}


DENIES = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: clients, namespace: shop}
spec: {action: DENY, rules: [{from: [{source: {principals: [cluster.local/ns/front/sa/client]}}]}]}
"""


def test_explain_beside_policies_advises_an_id_for_allow_only_where_that_would_let_the_caller_in(cli: Cli) -> None:
    added = "  Or, to allow this caller whatever it asks, add it to inbound[0].allow in s.yaml:\n"
    file = cli.write("s.yaml", SIDECAR.replace("protocol: http", f'protocol: http, allow: ["{OTHER}"]'))
    asked = ("explain", "--config", file, "--from", CLIENT, "--port", "8080", "--method", "PUT")
    code, out, _ = cli(*asked)
    assert code == 1
    assert "  To allow just this, add a rule to an ALLOW policy of the workload:\n" in out
    assert out.endswith(f"{added}    - {CLIENT}\n")

    cli.write("policies.yaml", f"{POLICIES}---\n{DENIES}")
    code, found = cli.json(*asked)
    assert (code, found["policy"], found["allow_to_add"]) == (1, "ns[shop]-policy[clients]", None)


def test_explain_advises_no_id_for_an_allow_that_the_file_does_not_have(cli: Cli) -> None:
    file = cli.write("s.yaml", SIDECAR)
    code, found = cli.json("explain", "--config", file, "--from", OTHER, "--port", "8080", "--path", "/")
    assert (code, found["allow_to_add"]) == (1, None)


MODE_DISABLE = """\
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: mode, namespace: shop}
spec: {mtls: {mode: DISABLE}}
"""


def test_explain_judges_a_caller_of_a_disable_port_as_plaintext(cli: Cli) -> None:
    mode = cli.write("mode.yaml", MODE_DISABLE)
    code, out, err = cli(*ASKED, mode)

    assert (code, err) == (0, "")
    assert out == (
        f"ALLOW  plaintext to {WEB} port 8080\n"
        "allowed: no DENY rule matches, and no ALLOW policy applies to this workload\n"
        "  mode        DISABLE, by ns[shop]-policy[mode]: no TLS ends here, so that all callers are judged as"
        " plaintext\n"
        f"  caller      {CLIENT} is judged as plaintext: if it sends TLS, that passes to the app as it is\n"
    )
    named = cli.write("named.yaml", POLICIES.split("---")[0].replace("    to: [{operation: {methods: [GET]}}]\n", ""))
    code, found = cli.json(*ASKED, mode, named)
    assert (code, found["verdict"], found["unseen_caller"]) == (1, "deny", CLIENT)
    assert found["clause"].endswith("got plaintext, which proves no identity")
    code, found = cli.json("explain", "--from", "plaintext", *ASKED[3:], mode)
    assert (code, found["verdict"], found["unseen_caller"]) == (0, "allow", None)


@pytest.mark.parametrize(
    ("protocol", "code", "reason"),
    [
        ("tcp", 0, "allowed: no DENY rule matches, and no ALLOW policy applies to this workload"),
        ("auto", 0, "allowed: no DENY rule matches, and no ALLOW policy applies to this workload"),
        (
            "http",
            1,
            "denied with 400: the sidecar's file sets DISABLE, so no TLS ends at the port, and TLS is no HTTP request."
            " Call in plaintext, or set PERMISSIVE for this port.",
        ),
    ],
)
def test_explain_of_tls_at_a_disable_listener_depends_on_its_protocol(
    cli: Cli, protocol: str, code: int, reason: str
) -> None:
    cli.write("none.yaml", POLICIES.split("---")[1])
    file = f"""\
name: web
spiffe_id: spiffe://a.test/ns/shop/sa/web
identity: {{workload_api: "unix:///run/agent.sock"}}
policies: [none.yaml]
inbound: [{{listen: "127.0.0.1:1", app: "127.0.0.1:8080", protocol: {protocol}, mode: DISABLE}}]
"""
    config = ("explain", "--config", cli.write("disabled.yaml", file), "--path", "/")
    found = cli.json(*config, "--from", CLIENT)
    assert (found[0], found[1]["reason"]) == (code, reason)
    assert cli.json(*config, "--from", "plaintext")[0] == 0


# -- explain: what a sidecar judges beside the rules --

CUSTOM = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: shop}
spec: {action: CUSTOM, provider: {name: opa}, rules: [{to: [{operation: {paths: [/ask]}}]}]}
"""
PROVIDER = 'ext_authz: [{name: %s, kind: grpc, address: "127.0.0.1:9191"}]\n'
GET = f"{CLIENT} to {WEB} port 8080: GET"
READERS = "  policy      ns[shop]-policy[readers]\n  rule        0\n"
MODE = "  mode        STRICT, by ns[shop]-policy[default]: plaintext is refused\n"
PRINCIPALS = "  principals  ns[shop]-policy[readers]-rule[0]: a.test/ns/front/sa/client\n"
ASKED_OF_OPA = "  not judged  the provider opa, which ns[shop]-policy[ask] asks: it has to"


def test_explain_denies_where_a_provider_is_not_configured(cli: Cli) -> None:
    cli.write("policies.yaml", f"{POLICIES}---\n{CUSTOM}")
    other, own = (cli.write(f"{one}.yaml", SIDECAR + PROVIDER % one) for one in ("other", "opa"))
    arguments = ("--from", CLIENT, "--port", "8080", "--path", "/ask")

    denied = (
        f"DENY  {GET} /ask\n"
        "denied by ns[shop]-policy[ask]: no ext_authz provider 'opa' is configured; configured: 'other'\n"
        f"  policy      ns[shop]-policy[ask]\n  rule        0\n{MODE}{PRINCIPALS}"
    )
    assert cli("explain", "--config", other, *arguments) == (1, denied, "")
    allowed = (
        f"ALLOW  {GET} /ask\nallowed by ns[shop]-policy[readers]-rule[0]\n{READERS}{MODE}"
        f"{ASKED_OF_OPA} allow this, too\n{PRINCIPALS}"
    )
    assert cli("explain", "--config", own, *arguments) == (0, allowed, "")


def test_explain_without_a_sidecars_file_says_that_a_provider_was_not_judged(cli: Cli) -> None:
    cli.write("policies.yaml", f"{POLICIES}---\n{CUSTOM}")

    code, out, _ = cli(*ASKED, "--path", "/ask", "policies.yaml")
    assert (code, out) == (
        0,
        f"ALLOW  {GET} /ask\nallowed by ns[shop]-policy[readers]-rule[0]\n{READERS}{MODE}"
        f"{ASKED_OF_OPA} be configured, and to allow this, too\n{PRINCIPALS}",
    )
    assert "not judged" not in cli(*ASKED, "--path", "/b", "policies.yaml")[1]
    assert cli.json(*ASKED, "--path", "/ask", "policies.yaml")[1]["not_judged"] == [
        "the provider opa, which ns[shop]-policy[ask] asks: it has to be configured, and to allow this, too"
    ]


def test_explain_denies_a_connection_about_which_a_provider_can_not_be_asked(cli: Cli) -> None:
    everything = CUSTOM.replace("{to: [{operation: {paths: [/ask]}}]}", "{}")
    file, twin = cli.write("ask.yaml", CUSTOM), cli.write("all.yaml", everything)

    code, found = cli.json(*ASKED, file)
    assert (code, found["rule"], "has fields of HTTP (operation.paths)" in found["reason"]) == (1, "0", True)
    assert cli(*ASKED, twin)[0] == 0


#: The machine's clock is asked: tokens have to outlive the whole run, which begins when this is imported.
ISSUER = Issuer("https://issuer.test", datetime.now(UTC), life=86_400)


def tokens(*rules: dict[str, Any]) -> str:
    document = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "tokens", "namespace": "shop"},
        "spec": {"jwtRules": list(rules)},
    }
    alice = "{when: [{key: 'request.auth.claims[sub]', values: [alice]}]}"
    meta = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: alice, namespace: shop}\n"
    return f"{meta}spec: {{rules: [{alice}]}}\n---\n{json.dumps(document)}\n"


INLINE = {"issuer": ISSUER.name, "audiences": ["shop"], "jwks": ISSUER.jwks()}
FETCHED = {"issuer": ISSUER.name, "jwksUri": "https://issuer.test/keys"}


def verdict(found: tuple[int, str, str]) -> tuple[int, str]:
    """The exit code and the reason."""
    return found[0], found[1].split("\n")[1]


def test_explain_judges_a_token(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    file = cli.write("tokens.yaml", tokens(INLINE))
    good, late = cli.write("good", f"{ISSUER.token()}\n"), cli.write("late", ISSUER.token(exp=1))

    allowed = (0, "allowed by ns[shop]-policy[alice]-rule[0]")
    assert verdict(cli(*ASKED, "--token", good, file)) == allowed
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(ISSUER.token().encode())))
    assert verdict(cli(*ASKED, "--token", "-", file)) == allowed
    code, reason = verdict(cli(*ASKED, "--token", late, file))
    assert code == 1
    assert reason.startswith(
        "denied with 401: the request's token is refused: JWT: it expired at 1970-01-01T00:00:01Z; our clock says "
    )
    code, reason = verdict(cli(*ASKED, "--path", "/", file))
    assert (code, "which fails in when request.auth.claims[sub]: wanted alice, got none" in reason) == (1, True)


def test_explain_fetches_no_key_set(cli: Cli) -> None:
    good = cli.write("good", ISSUER.token())

    found = verdict(cli(*ASKED, "--token", good, cli.write("tokens.yaml", tokens(FETCHED))))
    assert found == (
        1,
        "denied with 401: the request's token is refused: JWT of issuer 'https://issuer.test': https://issuer.test/keys"
        " is not fetched here; give the token's claims with --claim instead",
    )
    keys = cli.write("keys.json", ISSUER.jwks())
    by_file = {"issuer": ISSUER.name, "jwksFile": str(cli.directory / keys)}
    assert cli(*ASKED, "--token", good, cli.write("tokens.yaml", tokens(by_file)))[0] == 0


ALICE = ("--claim", "sub=alice", "--claim", "aud=shop")


@pytest.mark.parametrize(
    ("claims", "rule", "code", "said"),
    [
        (
            (*ALICE, "--claim", "iss=https://issuer.test"),
            INLINE,
            0,
            "  not judged  the token's signature and times: --claim is taken for a claim of a verified token",
        ),
        (
            (*ALICE, "--claim", "iss=https://other.test"),
            INLINE,
            1,
            "denied with 401: the request's token is refused: JWT: wanted the issuer to be one of https://issuer.test,"
            " got 'https://other.test'",
        ),
        (
            ("--claim", "sub=alice", "--claim", "aud=web", "--claim", "iss=https://issuer.test"),
            INLINE,
            1,
            "denied with 403: the request's token is refused: JWT: it is meant for ['web'], not for 'shop'",
        ),
        (
            ("--claim", "sub=spiffe://a.test/web", "--claim", "aud=shop"),
            {"issuer": "spiffe://a.test"},
            1,
            "denied with 403: the request's token is refused: JWT-SVID of spiffe://a.test/web: it is not meant for"
            f" {WEB}",
        ),
    ],
)
def test_explain_compares_claims_with_the_rules_for_tokens(
    cli: Cli, claims: tuple[str, ...], rule: dict[str, Any], code: int, said: str
) -> None:
    found = cli(*ASKED, *claims, cli.write("tokens.yaml", tokens(rule)))

    assert found[0] == code
    assert said in found[1].split("\n")


SVID_CLAIMS = ("--claim", "sub=spiffe://a.test/ns/x/sa/alice", "--claim", "aud=shop")
SVIDS = {"issuer": "spiffe://a.test", "audiences": ["shop"]}


@pytest.mark.parametrize(
    ("claims", "rule", "principal", "code"),
    [
        (SVID_CLAIMS, SVIDS, "spiffe://a.test/*", 0),
        (SVID_CLAIMS, SVIDS, "spiffe://a.test/ns/x/sa/alice", 0),
        ((*SVID_CLAIMS, "--claim", "iss=https://other.test"), SVIDS, "https://other.test/*", 1),
        ((*SVID_CLAIMS, "--claim", "iss=https://issuer.test"), INLINE, "spiffe://a.test/ns/x/sa/alice", 1),
        ((*SVID_CLAIMS, "--claim", "iss=https://issuer.test"), INLINE, "https://issuer.test/*", 0),
    ],
)
def test_claims_name_the_issuer_and_the_spiffe_id_that_the_rule_which_takes_them_gives(
    cli: Cli, claims: tuple[str, ...], rule: dict[str, Any], principal: str, code: int
) -> None:
    by_claim = "{when: [{key: 'request.auth.claims[sub]', values: [alice]}]}"
    by_principal = f"{{from: [{{source: {{requestPrincipals: ['{principal}']}}}}]}}"
    file = cli.write("tokens.yaml", tokens(rule).replace(by_claim, by_principal))

    assert cli(*ASKED, *claims, file)[0] == code


def test_explain_says_that_claims_are_not_known_without_a_rule_for_tokens(cli: Cli) -> None:
    file = cli.write("tokens.yaml", tokens(INLINE).partition("---")[0])

    assert (
        "  not judged  the token: no RequestAuthentication of the workload is given, and without one no token is read"
        " and its claims are not known" in cli(*ASKED, *ALICE, file)[1].split("\n")
    )
    code, _, err = cli(*ASKED, *ALICE, "--token", file, file)
    assert (code, "wanted --token or --claim, got both" in err) == (2, True)
    code, _, err = cli(*ASKED, "--token", "none", file)
    assert (code, "--token: wanted a file with a JWT, got none: " in err) == (2, True)


# -- test --

CASES = f"""\
policies: [policies.yaml]
workloads: [{{id: "{WEB}", labels: {{app: web}}}}]
cases:
- {{name: reads, from: "{CLIENT}", to: "{WEB}", method: GET, expect: allow, policy: readers, rule: 0}}
- {{name: writes, from: "{CLIENT}", to: "{WEB}", method: PUT, expect: deny}}
- {{name: plaintext, from: plaintext, to: "{WEB}", method: GET, expect: deny, policy: "ns[shop]-policy[default]"}}
"""


def test_cases_that_are_as_wanted_pass(cli: Cli) -> None:
    assert cli("test", cli.write("cases.yaml", CASES)) == (0, "3 passed, 0 failed\n", "")


def test_a_case_whose_workload_has_no_entry_is_warned_of_where_a_policy_has_a_selector(cli: Cli) -> None:
    entry = CASES[CASES.index("workloads:") : CASES.index("cases:")]

    code, _, err = cli("test", cli.write("cases.yaml", CASES.replace(entry, "")))
    assert (code, err) == (
        1,
        f"meshtls: warning: cases.yaml: {WEB} is not in workloads, so that not applied: ns[shop]-policy[readers]: its"
        " selector wants app=web, and no label was given\n",
    )
    code, _, err = cli("test", cli.write("cases.yaml", CASES.replace(", labels: {app: web}", "")))
    assert (code, err) == (1, "")


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ("expect: allow", "expect: deny", "reads: wanted deny, got allow"),
        ("method: PUT, expect: deny", "method: PUT, expect: allow", "writes: wanted allow, got deny"),
        ("policy: readers", "policy: other", "reads: wanted policy other to decide, got ns[shop]-policy[readers]"),
        ("rule: 0", "rule: 1", "reads: wanted rule 1 to decide, got 0"),
    ],
)
def test_a_case_that_differs_fails_and_is_explained(cli: Cli, old: str, new: str, wrong: str) -> None:
    file = cli.write("cases.yaml", CASES.replace(old, new))

    code, out, _ = cli("test", file)
    assert (code, out.split("\n")[0], out.split("\n")[-2]) == (1, f"FAIL  {wrong}", "2 passed, 1 failed")
    assert f"      {'DENY' if 'PUT' in old else 'ALLOW'}  {CLIENT} to {WEB}" in out
    code, found = cli.json("test", file)
    assert (code, found["failed"]) == (1, 1)
    assert [f"{one['name']}: {one['wrong']}" for one in found["results"] if not one["passed"]] == [wrong]
    code, out, _ = cli("test", file, "--output", "junit")
    suite = ElementTree.fromstring(out.encode())[0]  # noqa: S314  # our own
    assert (code, suite.attrib) == (1, {"name": "cases.yaml", "tests": "3", "failures": "1"})
    assert [f"{case.get('name')}: {one.get('message')}" for case in suite for one in case] == [wrong]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("expect: allow", "expect: maybe", "cases.yaml, line 4: cases[0].expect: wanted allow or deny, got 'maybe'"),
        ("expect: allow, ", "", "cases.yaml, line 4: cases[0].expect: this key is required, and it is missing"),
        ("method: GET, expect: allow", "methd: GET, expect: allow", "cases.yaml, line 4: cases[0].methd: unknown key"),
        ("name: writes", "name: reads", "wanted a name of its own for each case, got 'reads' again"),
        (
            CASES[CASES.index("cases:") :],
            "cases: []\n",
            "cases.yaml, line 3: cases: wanted at least one case, got none",
        ),
        ("policies.yaml", "none.yaml", "none.yaml: wanted a configuration file to read: No such file or directory"),
    ],
)
def test_a_table_that_can_not_be_read_exits_with_2(cli: Cli, old: str, new: str, message: str) -> None:
    code, out, err = cli("test", cli.write("cases.yaml", CASES.replace(old, new, 1)))

    assert (code, out) == (2, "")
    assert message in err


# -- show --


def test_show_lists_the_rules_of_each_listener(cli: Cli) -> None:
    file = cli.write("sidecar.yaml", SIDECAR)
    code, found = cli.json("show", "--config", file)

    first, second = found["listeners"]
    assert (code, found["labels"], found["running"]) == (0, {"app": "web"}, None)
    assert (first["mode"], first["mode_policy"], first["protocol"]) == ("STRICT", "ns[shop]-policy[default]", "http")
    assert [(one["action"], one["policy"], one["principals"]) for one in first["rules"]] == [
        ("ALLOW", "ns[shop]-policy[readers]", ["a.test/ns/front/sa/client"])
    ]
    assert (second["mode"], second["mode_policy"]) == ("PERMISSIVE", "the sidecar's file")
    assert [one["principals"] for one in second["rules"]] == [
        ["a.test/ns/front/sa/client"],
        ["a.test/ns/front/sa/other"],  # its allow
    ]
    code, out, _ = cli("show", "--config", file)
    assert (code, "ns[shop]-policy[readers]" in out) == (0, True)
    assert first["rules"][0]["to"] == [{"methods": ["GET"]}]
    assert first["rules"][0]["from"] == [{"principals": ["cluster.local/ns/front/sa/client"]}]
    assert out.count("to methods GET") == 2
    assert out.endswith("the running sidecar was not asked: its file has neither admin.socket nor health\n")


def test_show_tells_all_that_a_rule_asks_for_and_wraps_no_line_in_a_pipe(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = (
        "from: [{source: {namespaces: [front], notIpBlocks: [10.0.0.0/8]}}],"
        " to: [{operation: {hosts: [a, b], notMethods: [PUT]}}, {operation: {paths: [/x]}}],"
        " when: [{key: 'request.auth.claims[iss]', values: [me]}, {key: source.ip, notValues: [10.1.0.0/16]}]"
    )
    cli.write("policies.yaml", POLICIES[: POLICIES.index("spec:")] + f"spec: {{rules: [{{{rule}}}]}}\n")
    file = cli.write("sidecar.yaml", SIDECAR)

    (found,) = cli.json("show", "--config", file)[1]["listeners"][0]["rules"]
    assert found["when"][1] == {"key": "source.ip", "notValues": ["10.1.0.0/16"]}
    _, out, _ = cli("show", "--config", file)
    words = (
        "from namespaces front, notIpBlocks 10.0.0.0/8; to hosts a or b, notMethods PUT | paths /x;"
        " when request.auth.claims[iss] me; when not source.ip 10.1.0.0/16"
    )
    assert words not in out  # the table wraps at COLUMNS, which the fixture sets
    monkeypatch.delenv("COLUMNS")
    assert words in cli("show", "--config", file)[1]


def test_show_of_a_sidecar_that_does_not_run_exits_with_1(cli: Cli) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        code, found = cli.json("show", "--config", cli.write("s.yaml", f'{SIDECAR}health: "{address}"\n'))

    assert (code, found["running"]["ready"]) == (1, False)
    assert address in found["running"]["text"]


def test_show_of_a_sidecar_without_policies_is_an_error(cli: Cli) -> None:
    plain = SIDECAR.replace("policies: [policies.yaml]\nlabels: {app: web}\n", "")
    plain = (
        plain[: plain.index('  - {listen: "127.0.0.1:15006"')] + plain[plain.index('  - {listen: "127.0.0.1:15007"') :]
    )
    code, _, err = cli("show", "--config", cli.write("s.yaml", plain))

    assert (code, err) == (
        2,
        "meshtls: sidecar web: policies: wanted the files of policies, got none; its allow lists decide, which `meshtls"
        " sidecar validate` shows and `meshtls policy explain` judges by\n",
    )


# -- replay --

LABELS = ("--labels", WEB, "app=web")
REPLAY = ("replay", "--policies", "policies.yaml", *LABELS)
LINES = (
    request("GET", "/a"),
    request("PUT", "/a/4711"),
    request("PUT", "/a/4712"),
    request("GET", "/a", denied=True),
    request("GET", "/a", plaintext=True, remote="10.0.0.9:1"),
    connection(direction="outbound"),
    connection(verdict="denied", outcome="PEER_UNTRUSTED"),
    "{broken",
)


def test_replay_lists_what_changes_and_who_uses_plaintext(cli: Cli) -> None:
    code, found = cli.json(*REPLAY, cli.write("a.log", "\n".join(LINES)))

    assert code == 1
    assert found["lines"] == {
        "read": 8,
        "broken": 1,
        "outbound": 1,
        "not_judged": 1,
        "first_broken": ["a.log, line 8"],
    }
    assert (found["judged"], found["unchanged"]) == (5, 1)
    denied = [(one["source"], one["method"], one["path"], one["count"]) for one in found["newly_denied"]]
    assert denied == [(CLIENT, "PUT", "/a/{*}", 2), ("plaintext", "GET", "/a", 1)]
    assert [(one["source"], one["count"]) for one in found["newly_allowed"]] == [(CLIENT, 1)]
    assert found["strict"]["ready"] is False
    assert [(one["address"], one["count"]) for one in found["strict"]["callers"]] == [("10.0.0.9", 1)]


def test_replay_says_in_words_whether_it_can_go_strict(cli: Cli) -> None:
    code, out, err = cli(*REPLAY, cli.write("a.log", "\n".join(LINES)))

    assert (code, err) == (1, "")
    assert out.startswith(
        "8 lines read, of these 1 broken, 1 outbound, 1 not judged by a policy\n"
        "broken: a.log, line 8\n"
        "5 verdicts judged again, from 2030-01-01T00:00:00Z to 2030-01-01T00:00:00Z: 1 stay as they are\n"
        "\n"
        "Newly denied: allowed when recorded, and denied by these policies (3)\n"
    )
    assert "Can it go STRICT? No: 1 caller came in plaintext, 1 times. STRICT would refuse them:\n" in out
    assert re.search(r"^ *count +from +to +port +proposed mode +last *$", out, re.MULTILINE)

    code, out, _ = cli(*REPLAY, cli.write("b.log", LINES[0]))
    assert (code, out) == (
        0,
        "1 lines read\n"
        "1 verdicts judged again, from 2030-01-01T00:00:00Z to 2030-01-01T00:00:00Z: 1 stay as they are\n"
        "\n"
        "Can it go STRICT? Yes, by these 1 lines: no plaintext was allowed.\n",
    )


def test_replay_reads_gzip_and_standard_input(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(LINES).encode()
    (cli.directory / "a.log.gz").write_bytes(gzip.compress(text))
    stdin = io.BufferedReader(io.BytesIO(text))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stdin))

    code, found = cli.json(*REPLAY, "a.log.gz", "-")

    assert (code, found["lines"]["read"], found["judged"]) == (1, 16, 10)
    assert found["lines"]["first_broken"] == ["a.log.gz, line 8", "standard input, line 8"]


def test_replay_drops_a_line_that_is_too_long_and_reads_on(cli: Cli) -> None:
    long = "x" * 200_000
    code, found = cli.json(*REPLAY, cli.write("a.log", "\n".join((LINES[0], long, LINES[0]))))

    assert (code, found["lines"]["read"], found["lines"]["broken"], found["judged"]) == (0, 3, 1, 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "a.log: wanted an access log to read: No such file or directory"),
        (b"\x1f\x8bx", "a.log: wanted an access log"),
    ],
)
def test_a_log_that_can_not_be_read_exits_with_2(cli: Cli, content: bytes | None, message: str) -> None:
    if content is not None:
        (cli.directory / "a.log").write_bytes(content)

    code, out, err = cli(*REPLAY, "a.log")

    assert (code, out) == (2, "")
    assert message in err


def test_replay_with_strict_mtls_denies_plaintext(cli: Cli) -> None:
    open_to_all = cli.write("open.yaml", POLICIES[: POLICIES.index("spec:")] + "spec: {rules: [{}]}\n")
    log = cli.write("a.log", request("GET", plaintext=True))

    assert cli("replay", "--policies", open_to_all, log)[0] == 0
    assert cli("replay", "--policies", open_to_all, "--strict-mtls", log)[0] == 1


# -- suggest --


def test_a_suggestion_is_read_again_and_changes_nothing(cli: Cli) -> None:
    log = cli.write("a.log", "\n".join(LINES[:2]))
    code, out, err = cli("suggest", *LABELS, log)

    assert (code, err) == (0, "")
    cli.write("suggested.yaml", out)
    assert cli("replay", "--policies", "suggested.yaml", *LABELS, log)[0] == 0
    assert [one["metadata"]["name"] for one in yaml.safe_load_all(out)] == ["allow-seen-web"]


def test_suggest_tells_what_has_no_labels_and_what_it_left_out(cli: Cli) -> None:
    code, out, err = cli("suggest", cli.write("a.log", "\n".join((LINES[0], request("GET", "/a*"), "{"))))

    assert (code, "selector" in out) == (1, False)
    assert err == (
        "meshtls: 1 broken lines were left out: a.log, line 3\n"
        f"meshtls: {WEB}: its labels are not in the log, and its policy has no selector: it is for the whole namespace"
        f" shop; give them with --labels {WEB} NAME=VALUE\n"
        f"meshtls: {WEB}: GET /a* is not allowed: a path with a star at an end, or with an operator of templates, is a"
        " pattern\n"
    )


def test_suggest_writes_no_text_of_a_caller_that_no_rule_can_have(cli: Cli) -> None:
    hostile = "/a*b/\n- {}\nrules: [{}]{x}"
    lines = (LINES[0], request("GET", hostile), request(destination_id="spiffe://a.test/ns/Prod_1/sa/B"))
    code, out, err = cli("suggest", *LABELS, cli.write("a.log", "\n".join(lines)))

    assert code == 1
    assert out.startswith(
        "# No policy for spiffe://a.test/ns/Prod_1/sa/B: see standard error.\n"
        f"# What was recorded of calls to {WEB}.\n"
        "# Not all that was recorded is allowed here, since no rule means just that: see standard error.\n"
        "apiVersion: security.istio.io/v1\n"
    )
    assert "a*b" not in out
    assert cli("suggest", *LABELS, cli.write("b.log", LINES[0]))[1] == "".join(
        one for one in out.splitlines(keepends=True) if not one.startswith(("# No policy", "# Not all"))
    )
    assert err == (
        f"meshtls: {WEB}: GET /a*b/\\n- {{}}\\nrules: [{{}}]{{x}} is not allowed: the path can't be written in a rule:"
        " wanted a path, or a template such as /users/{*}/files/{**}, got '/a*b/\\n- {}\\nrules: [{}]{x}': the"
        " segment 'a*b' has a character that a template may not have\n"
        "meshtls: spiffe://a.test/ns/Prod_1/sa/B: no policy is written: no policy can be in its namespace: wanted a"
        " namespace's name of a-z, 0-9 and '-', of at most 63 characters, got 'Prod_1'\n"
    )


def test_suggest_of_destinations_that_can_have_no_policy_writes_comments_alone(cli: Cli) -> None:
    log = cli.write("a.log", request(destination_id="spiffe://a.test/ns/Prod_1/sa/B"))

    assert cli("suggest", log)[:2] == (1, "# No policy for spiffe://a.test/ns/Prod_1/sa/B: see standard error.\n")
    code, found = cli.json("suggest", log)
    assert (code, found["policies"], found["without_labels"]) == (1, [], [])
    assert [(one["destination"], one["source"], one["method"], one["path"]) for one in found["left_out"]] == [
        ("spiffe://a.test/ns/Prod_1/sa/B", "", "", "")
    ]


def test_explain_says_why_no_rule_allows_just_a_request(cli: Cli) -> None:
    asked = ("explain", cli.write("p.yaml", POLICIES), "--to", WEB, "--from", OTHER, "--label", "app=web")
    reason = (
        "the path can't be written in a rule: wanted at most one star, at the beginning or at the end, got '/a*b/c'"
    )
    code, out, _ = cli(*asked, "--method", "GET", "--path", "/a*b/c")
    assert (code, "To allow just this" in out) == (1, False)
    assert f"  no rule     allows just this: {reason}\n" in out
    found = cli.json(*asked, "--method", "GET", "--path", "/a*b/c")[1]
    assert (found["rule_to_add"], found["no_rule_to_add"]) == (None, reason)

    code, out, _ = cli(*asked, "--method", "GET", "--path", "/a/b/c")
    assert (code, "To allow just this" in out, "no rule" in out) == (1, True, False)
    assert cli.json(*asked, "--method", "GET", "--path", "/a/b/c")[1]["no_rule_to_add"] is None


def test_suggest_exits_with_1_where_a_policy_without_labels_allows_more(cli: Cli) -> None:
    other = "spiffe://a.test/ns/shop/sa/db"
    log = cli.write("a.log", "\n".join((LINES[0], request(destination_id=other))))

    code, _, err = cli("suggest", log)
    assert (code, err.count("and so allows this to 1 more that were recorded there")) == (1, 2)
    assert cli("suggest", log, *LABELS, "--labels", other, "app=db")[::2] == (0, "")


@pytest.mark.parametrize("verb", ["suggest", "replay"])
@pytest.mark.parametrize(
    ("text", "counted"), [("{}\n", "1 (1 broken)"), ("", "0"), (connection(direction="outbound"), "1")]
)
def test_a_log_without_a_line_that_was_judged_is_an_error(cli: Cli, verb: str, text: str, counted: str) -> None:
    code, out, err = cli(*(REPLAY if verb == "replay" else (verb,)), cli.write("a.log", text))

    assert (code, out) == (2, "")
    assert err == (
        f"meshtls: no inbound line of {counted} was judged by a policy; wanted the access log that a sidecar writes\n"
    )
