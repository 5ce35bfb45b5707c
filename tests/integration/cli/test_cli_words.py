"""What the command line says to people: whole messages, exit codes, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from meshtls.cli.main import cli
from meshtls.cli.sidecar_reload import ConfigFile, SharedConfig
from tests.integration.cli.processes import meshtls

GOOD = """\
name: a
spiffe_id: spiffe://example.org/a
identity: {workload_api: unix:///run/agent.sock}
inbound:
  - {listen: "127.0.0.1:15006", app: "127.0.0.1:8080", allow: [spiffe://example.org/b]}
"""
TOKENS = """\
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: default}
spec: {jwtRules: [{issuer: i, jwksUri: "http://idp.test/keys"}]}
"""


def test_a_good_file_is_summarized(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD)

    done = meshtls("sidecar", "validate", "--config", file)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"{file}: sidecar a is spiffe://example.org/a\n"
        "  inbound 127.0.0.1:15006 (STRICT) to the app at 127.0.0.1:8080; allowed: spiffe://example.org/b\n"
        "  gets its SVID from unix:///run/agent.sock\n"
        "  serves up to 1024 connections, and drains for 10 s before it stops\n"
        "  logs at level INFO\n"
    )


def test_the_summary_of_a_sidecar_names_how_it_is_observed(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        f"{GOOD}metrics: {{listen: 127.0.0.1:9100}}\n"
        f"admin: {{socket: {tmp_path}/admin.sock, listen: '127.0.0.1:9901'}}\n"
        "tracing: {otlp: 'http://127.0.0.1:4318'}\n"
    )

    done = meshtls("sidecar", "validate", "--config", file)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-6:] == [
        "  serves up to 1024 connections, and drains for 10 s before it stops",
        "  answers scrapes of metrics on 127.0.0.1:9100",
        f"  answers the admin interface on {tmp_path}/admin.sock",
        "  answers the admin interface on 127.0.0.1:9901",
        "  sends spans to http://127.0.0.1:4318",
        "  logs at level INFO",
    ]
    record = json.loads(meshtls("sidecar", "validate", "--config", file, "--output", "json").stdout)
    assert (record["admin_socket"], record["admin_listen"], record["tracing"]) == (
        f"{tmp_path}/admin.sock",
        "127.0.0.1:9901",
        "http://127.0.0.1:4318",
    )


def test_a_file_whose_key_set_can_not_be_used_is_refused(tmp_path: Path) -> None:
    file, policies = tmp_path / "a.yaml", tmp_path / "policies.yaml"
    file.write_text(f"{GOOD}policies: [policies.yaml]\n")
    policies.write_text(TOKENS)
    done = meshtls("sidecar", "validate", "--config", file)
    assert done.returncode == 2
    assert "RequestAuthentication, issuer 'i': wanted https:// for a key set on another host" in done.stderr
    file.write_text(f"{GOOD}policies: [policies.yaml]\nrequest_auth: {{insecure_fetch_over_plaintext: true}}\n")
    assert meshtls("sidecar", "validate", "--config", file).returncode == 0


def test_workers_are_not_told_of_a_file_whose_key_set_can_not_be_used(tmp_path: Path) -> None:
    path, policies = tmp_path / "a.yaml", tmp_path / "policies.yaml"
    path.write_text(f"{GOOD}policies: [policies.yaml]\nworkers: 2\n")
    policies.write_text(TOKENS.replace("http://idp.test", "https://idp.test"))
    file = ConfigFile(path, None)
    with SharedConfig(file) as shared:
        good = shared.load()
        assert (shared.reread(asked=True), shared.not_taken) == (True, "")
        policies.write_text(TOKENS)
        assert shared.reread(asked=True)
        assert "wanted https:// for a key set on another host" in shared.not_taken
        assert shared.load() == good


def test_a_good_file_is_summarized_as_json(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD)

    done = meshtls("sidecar", "validate", "--config", file, "--output", "json")

    inbound = {
        "listen": "127.0.0.1:15006",
        "app": "127.0.0.1:8080",
        "mode": "STRICT",
        "allow": ["spiffe://example.org/b"],
        "protocol": "tcp",
    }
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "name": "a",
        "spiffe_id": "spiffe://example.org/a",
        "workload_api": "unix:///run/agent.sock",
        "inbound": [inbound],
        "outbound": [],
        "health": None,
        "metrics": None,
        "admin_socket": None,
        "admin_listen": None,
        "tracing": None,
        "policies": [],
        "workers": 1,
        "log_level": "INFO",
        "notices": [],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("name: a\n", ""), "line 1: name: this key is required, and it is missing"),
        (
            GOOD.replace("app:", "ap:"),
            "line 5: inbound[0].app: this key is required, and it is missing\n"
            "meshtls: {file}, line 5: inbound[0].ap: unknown key; wanted one of listen, app, mode, allow, tls_min,"
            " key_exchange, tunnel, destinations, resumption, protocol, forward_client_cert, client_cert_details,"
            " proxy_protocol, proxy_protocol_from, num_trusted_proxies, http",
        ),
        (
            GOOD.replace("spiffe://example.org/a", "example.org/a"),
            "line 2: spiffe_id: SPIFFE ID 'example.org/a': wanted it to start with 'spiffe://'",
        ),
        (
            GOOD.replace("15006", "70000"),
            "line 5: inbound[0].listen: wanted host:port such as 127.0.0.1:8080 or [::1]:8080, got '127.0.0.1:70000'",
        ),
        (
            GOOD.replace(", allow: [spiffe://example.org/b]", ""),
            "line 5: inbound[0].allow: this key is required, and it is missing",
        ),
        (
            GOOD + "colour: red\n",
            "line 6: colour: unknown key; wanted one of name, spiffe_id, identity, inbound, outbound, workload, limits,"
            " policies, labels, namespace, trust_domain_aliases, root_namespace, path_normalization, ext_authz,"
            " request_auth, crls, health, insecure_keylog_file, insecure_capture, metrics, tracing, workers,"
            " admin, log_level, log_format",
        ),
    ],
)
def test_a_bad_file_is_an_error_with_its_line_and_the_expected_value(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(text)

    done = meshtls("sidecar", "validate", "--config", file)

    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        f"meshtls: {file}, {message.format(file=file)}\n",
    )


def test_a_healthcheck_without_an_address_asks_for_one(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD)

    done = meshtls("sidecar", "healthcheck", "--config", file)

    message = "health: wanted the address that the sidecar answers probes on; it is missing"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"meshtls: {file}: {message}\n")


def test_a_sidecar_without_an_identity_asks_where_its_workload_api_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPIFFE_ENDPOINT_SOCKET", raising=False)
    file = tmp_path / "a.yaml"
    file.write_text(GOOD.replace("identity: {workload_api: unix:///run/agent.sock}\n", ""))

    done = meshtls("sidecar", "run", "--config", file)

    message = (
        "set SPIFFE_ENDPOINT_SOCKET, or give an address; wanted unix:///absolute/path, unix:/absolute/path or"
        " tcp://IP:port"
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().endswith(f"meshtls: no Workload API address: {message}")


@pytest.mark.parametrize(
    "verb", [("sidecar", "run"), ("sidecar", "healthcheck"), ("ca", "serve"), ("ca", "healthcheck")]
)
def test_every_verb_with_a_file_reports_a_missing_file(tmp_path: Path, verb: tuple[str, str]) -> None:
    file = tmp_path / "none.yaml"

    done = meshtls(*verb, "--config", file)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"meshtls: {file}: wanted a configuration file to read: No such file or directory\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("app",), "Error: wanted --listen and --name, or --healthcheck\n"),
        (("up", "--svid-ttl", "5x"), "wanted a time above 0 such as 100ms, 5s, 5m or 1h30m, got '5x'\n"),
        (
            ("up", "--svid-ttl", f"{'9' * 400}s"),
            f"wanted a time of at most 876600h, which is 100 years, got '{'9' * 60}'... (401 characters)\n",
        ),
        (
            ("entry", "create", "--x509-svid-ttl", "1" * 400),
            f"wanted a whole number from 0 to 3155760000, got '{'1' * 60}'... (400 characters)\n",
        ),
        (("x509", "mint", "--ttl", "1500ms"), "Invalid value for '--ttl': wanted whole seconds, got '1500ms'\n"),
        (("node", "--trust-domain", "a b"), "trust domain 'a b': wanted one or more of a-z, 0-9, '.', '_' and '-'\n"),
        (("app", "--healthcheck", "x"), "wanted host:port such as 127.0.0.1:8080 or [::1]:8080, got 'x'\n"),
        (("dance",), "Error: No such command 'dance'.\n"),
    ],
)
def test_a_bad_command_line_is_a_usage_error(arguments: tuple[str, ...], words: str) -> None:
    done = meshtls(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(words)


def test_version_prints_the_version() -> None:
    done = meshtls("--version")

    assert done.returncode == 0
    assert done.stdout.startswith("meshtls, version ")


def test_the_list_of_verbs_is_whole_and_loads_none_of_them() -> None:
    program = "import sys, atexit; from meshtls.cli.main import main\n"
    program += "atexit.register(lambda: print('sqlalchemy' in sys.modules))\n"
    done = subprocess.run(
        [sys.executable, "-c", program + "main(['--help'])"], capture_output=True, text=True, timeout=60, check=True
    )

    *words, loaded = done.stdout.splitlines()
    verbs = [line.split()[0] for line in words[words.index("Commands:") + 1 :]]
    assert verbs == cli.list_commands(click.Context(cli))
    assert not [line for line in words if line.startswith("  ") and line.endswith("...")]
    assert loaded == "False"


def test_fetch_does_not_load_the_client_of_the_server() -> None:
    program = "import sys, atexit; from meshtls.cli.main import main\n"
    program += "atexit.register(lambda: print('loaded:', *(one for one in sys.modules if 'serverapi' in one)))\n"
    done = subprocess.run(
        [sys.executable, "-c", program + "main(['fetch', 'x509', '--help'])"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert "--log-key" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded:"


# Without the packages of the extra `server`, as for whoever installed meshtls alone.
BARE = """
import sys
for name in ("aiosqlite", "alembic", "asyncpg", "sqlalchemy"):
    sys.modules[name] = None
"""


@pytest.mark.parametrize("verb", ["run", "validate", "healthcheck"])
def test_a_server_verb_without_its_extra_says_what_to_install(tmp_path: Path, verb: str) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("trust_domain: example.org\n")
    program = f"{BARE}from meshtls.cli.main import main; main(['server', {verb!r}, '--config', {str(file)!r}])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "meshtls: sqlalchemy is not installed; this verb needs pip install 'meshtls[server]'\n"


HELP_OF_ALL = """
import click
from meshtls.cli.main import cli

def tell(command, context):
    assert command.get_help(context).startswith("Usage: "), context.command_path
    print(context.command_path)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            tell(inner, click.Context(inner, info_name=name, parent=context))

tell(cli, click.Context(cli, info_name="meshtls"))
"""


def test_the_help_of_every_verb_needs_no_extra() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BARE + HELP_OF_ALL], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert {"meshtls server run", "meshtls server validate", "meshtls config schema"} <= set(done.stdout.splitlines())


@pytest.mark.parametrize("file", ["sidecar", "agent", "server", "ca"])
def test_the_keys_of_a_file_are_listed_without_any_extra(file: str) -> None:
    program = f"{BARE}from meshtls.cli.main import main; main(['config', 'schema', {file!r}, '--output', 'json'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "log_level" in json.loads(done.stdout)["properties"]
