"""SPIRE's agent.conf: converted keys, keys without effect, and refused keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meshtls.agent.config import parse_config
from meshtls.agent.node.proof import JoinToken
from meshtls.agent.node.upstream import ServerAddress
from meshtls.errors import ConfigError
from tests.support.authority import make_authority

AUTHORITY = make_authority("example.org")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "bundle.pem").write_bytes(AUTHORITY.bundle.to_pem())
    return tmp_path / "bundle.pem"


def conf(bundle: Path, agent: str = "", plugins: str = "", top: str = "") -> str:
    return f"""agent {{
  data_dir = "./.data"
  log_level = "DEBUG"
  server_address = "spire-server"
  server_port = "8081"
  socket_path = "/run/spire/agent.sock"
  trust_bundle_path = "{bundle}"
  trust_domain = "example.org"
  {agent}
}}
plugins {{
  NodeAttestor "join_token" {{ plugin_data {{}} }}
  KeyManager "disk" {{ plugin_data {{ directory = "./.data" }} }}
  WorkloadAttestor "unix" {{ plugin_data {{}} }}
  {plugins}
}}
{top}
"""


def test_the_file_of_spires_own_quickstart_is_read(bundle: Path) -> None:
    config = parse_config("agent.conf", conf(bundle, 'join_token = "s3cret"'))
    assert config.server == ServerAddress("spire-server", 8081, 8082)
    assert (config.bundle, config.proof) == (AUTHORITY.bundle, JoinToken("s3cret"))
    assert (config.data_dir, config.log_level) == (Path(".data"), "DEBUG")
    assert (config.endpoint.socket_path, config.endpoint.attestors) == (Path("/run/spire/agent.sock"), ("unix",))
    assert config.notices == (
        "agent.conf, line 13: plugins.KeyManager.disk.plugin_data.directory: loads; no effect here because the key is"
        " kept with its SVID in data_dir",
    )


def test_json_in_a_config_map_gives_the_same_configuration(bundle: Path) -> None:
    said = {
        "agent": {
            "server_address": "spire-server",
            "trust_bundle_path": str(bundle),
            "trust_domain": "example.org",
            "join_token": "s3cret",
            "data_dir": "/d",
        },
        "health_checks": {"listener_enabled": True, "bind_address": "0.0.0.0", "bind_port": "9982"},  # noqa: S104
        "plugins": {
            "KeyManager": [{"memory": {"plugin_data": None}}],
            "NodeAttestor": [{"join_token": {"plugin_data": {}}}],
            "WorkloadAttestor": [{"k8s": {"plugin_data": {"skip_kubelet_verification": True}}}, {"docker": {}}],
        },
    }
    text = "kind: ConfigMap\ndata:\n  agent.conf: |\n" + "".join(
        f"    {line}\n" for line in json.dumps(said, indent=2).splitlines()
    )
    config = parse_config("m", text)
    assert (config.data_dir, config.proof) == (None, JoinToken("s3cret"))
    assert config.endpoint.attestors == ("k8s", "docker")
    assert config.endpoint.health == ("0.0.0.0", 9982)  # noqa: S104
    assert str(config.endpoint.socket_path) == "/tmp/spire-agent/public/api.sock"  # noqa: S108
    assert config.notices[-1] == (
        "m, line 21: plugins.KeyManager[0].memory.plugin_data: a join token is good for one attestation:"
        " each restart of this agent needs a new one"
    )


def test_keys_without_effect_get_a_notice(bundle: Path) -> None:
    agent = 'log_format = "json"\n  sds { default_svid_name = "x" }\n  experimental { sync_interval = "5s" }'
    plugins = 'SVIDStore "aws_secretsmanager" {}\n  WorkloadAttestor "systemd" {}'
    notices = parse_config("f", conf(bundle, agent, plugins, "telemetry { Prometheus { port = 1 } }")).notices
    assert [one.partition(": ")[2].partition(": ")[0] for one in notices] == [
        "agent.log_format",
        "agent.experimental.sync_interval",
        "agent.sds.default_svid_name",
        "plugins.KeyManager.disk.plugin_data.directory",
        "plugins.WorkloadAttestor.systemd",
        "telemetry",
        "plugins.SVIDStore",
    ]


def test_a_token_in_a_file_is_read_from_it(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("s3cret\n")
    text = conf(bundle, f'join_token_file = "{file}"')
    assert parse_config("f", text).proof == JoinToken("s3cret")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match=r"agent\.join_token_file: .*: wanted a file with a join token: .*chmod 600"):
        parse_config("f", text)


REFUSED = {
    "a server that is not authenticated": (
        "insecure_bootstrap = true",
        "",
        "f, line 9: agent.insecure_bootstrap: wanted false: the first server to answer would be trusted;"
        " give trust_bundle_path",
    ),
    "a bundle from the web": (
        'trust_bundle_url = "https://x"',
        "",
        "f, line 9: agent.trust_bundle_url: wanted trust_bundle_path instead: the bundle in that file"
        " authenticates the server",
    ),
    "Envoy that does not check": (
        "sds { disable_spiffe_cert_validation = true }",
        "",
        "f, line 9: agent.sds.disable_spiffe_cert_validation: wanted false: Envoy is to check SPIFFE IDs by the trust"
        " bundle",
    ),
    "a proof that is not there yet": (
        "",
        'NodeAttestor "k8s_psat" { plugin_data { cluster = "x" } }',
        "f, line 15: plugins.NodeAttestor.k8s_psat: unknown plugin; wanted one of join_token, x509pop",
    ),
    "a selector type that nobody knows": (
        "",
        'WorkloadAttestor "zork" {}',
        "f, line 15: plugins.WorkloadAttestor.zork: unknown plugin; wanted one of unix, docker, k8s",
    ),
    "a key of ours that is a plugin": (
        "workload_attestors = []",
        "",
        "f, line 9: agent.workload_attestors: unknown key; it is a block of its own",
    ),
    "two places for keys": (
        "",
        'KeyManager "memory" {}',
        "f, line 13: plugins.KeyManager: wanted one of disk, memory, got disk, memory",
    ),
    "a key that nobody knows": ("zork = 1", "", "f, line 9: agent.zork: unknown key; wanted one of trust_domain"),
}


@pytest.mark.parametrize(("agent", "plugins", "message"), REFUSED.values(), ids=REFUSED)
def test_an_impossible_document_is_refused_and_its_twin_is_read(
    bundle: Path, agent: str, plugins: str, message: str
) -> None:
    assert parse_config("f", conf(bundle)).trust_domain.name == "example.org"
    with pytest.raises(ConfigError) as refused:
        parse_config("f", conf(bundle, agent, plugins))
    [problem] = refused.value.problems
    assert problem.startswith(message)


@pytest.mark.parametrize("off", ["insecure_bootstrap = false", 'trust_bundle_url = ""'])
def test_a_disabled_feature_is_no_problem(bundle: Path, off: str) -> None:
    assert parse_config("f", conf(bundle, off)).trust_domain.name == "example.org"
