"""The three forms of a server's configuration, and what each complaint says."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.profile import CaSubject
from meshtls.ca.store.address import postgres_url, sqlite_url
from meshtls.errors import ConfigError, RequestError
from meshtls.server.config import load_config, parse_config
from meshtls.server.settings import KeyPlace, X509PopConfig
from meshtls.spiffeid import TrustDomain

SPIRE = """
# a server of the field's own kind
server {
  bind_address = "0.0.0.0"
  bind_port = "8081"
  trust_domain = "example.org"
  data_dir = "/run/spire/data"
  log_level = "WARN" // as it says
  ca_ttl = "12h30m"
  ca_subject = {
    country = ["US"],
    organization = ["SPIFFE",],
    common_name = "SPIRE Server \\"CA\\"",
  }
}

plugins {
  DataStore "sql" {
    plugin_data {
      database_type = "sqlite3"
      connection_string = "/run/spire/data/datastore.sqlite3"
    }
  }
  NodeAttestor "k8s_sat" {
    plugin_data { clusters = { "production" = { service_account_allow_list = ["spire:spire-agent"] } } }
  }
  NodeAttestor "join_token" { plugin_data {} }
  /* the agent's
     own */
  WorkloadAttestor "k8s" { plugin_data { skip_kubelet_verification = true } }
  KeyManager "memory" { plugin_data = {} }
}
"""
CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: spire-server}\ndata:\n  server.conf: |\n" + "".join(
    f"    {line}\n" for line in SPIRE.splitlines()
)


def test_the_least_that_a_file_must_say_is_the_trust_domain() -> None:
    config = parse_config("server.yaml", "trust_domain: example.org")
    assert config.trust_domain == TrustDomain("example.org")
    assert (config.bind_address, config.bind_port, config.attest_port) == ("127.0.0.1", 8081, 8082)
    assert config.datastore == sqlite_url("meshtls-data/datastore.sqlite3")
    assert (config.key_place, config.keys_dir) == (KeyPlace.DISK, Path("meshtls-data/keys"))
    assert (config.join_token, config.x509pop, config.notices) == (True, None, ())
    assert config.default_jwt_svid_ttl == timedelta(minutes=5)


def test_our_own_form_says_everything() -> None:
    config = parse_config(
        "server.yaml",
        """
        trust_domain: example.org
        bind_port: 0
        socket_path: /run/meshtls/admin.sock
        default_x509_svid_ttl: 90s
        jwt_key_type: rsa-2048
        ca_subject: {organization: [Acme], common_name: Acme CA}
        datastore: {postgres: {connection_string: "dbname=mesh user=me password='a b' host=/run/pg port=6432"}}
        key_manager: {disk: {keys_path: /keys}}
        node_attestors: {x509pop: {ca_bundle_path: /nodes.pem}}
    """,
    )
    assert (config.bind_port, config.attest_port) == (0, 0)
    assert config.socket_path == Path("/run/meshtls/admin.sock")
    assert config.default_x509_svid_ttl == timedelta(seconds=90)
    assert config.jwt_key_type is KeyAlgorithm.RSA2048
    assert config.ca_subject == CaSubject((), ("Acme",), "Acme CA")
    assert config.datastore == postgres_url("postgresql://me:a%20b@:6432/mesh?host=/run/pg")
    assert config.keys_dir == Path("/keys")
    assert (config.join_token, config.x509pop) == (False, X509PopConfig(Path("/nodes.pem")))


@pytest.mark.parametrize(("file", "text", "offset"), [("server.conf", SPIRE, 0), ("map.yaml", CONFIG_MAP, 5)])
def test_spires_own_file_is_read_also_in_its_config_map(file: str, text: str, offset: int) -> None:
    config = parse_config(file, text)
    assert (config.bind_address, config.bind_port, config.log_level) == ("0.0.0.0", 8081, "WARNING")  # noqa: S104
    assert config.ca_ttl == timedelta(hours=12, minutes=30)
    assert config.ca_subject == CaSubject(("US",), ("SPIFFE",), 'SPIRE Server "CA"')
    assert config.datastore == sqlite_url("/run/spire/data/datastore.sqlite3")
    assert (config.key_place, config.join_token) == (KeyPlace.MEMORY, True)
    assert config.notices == (
        f"{file}, line {offset + 24}: plugins.NodeAttestor.k8s_sat: recognised but not supported yet:"
        " no node can attest with it",
        f"{file}, line {offset + 30}: plugins.WorkloadAttestor.k8s: workloads are attested by the agent;"
        " no effect in a server's configuration",
    )


OURS = "trust_domain: example.org\n"
HIS = 'server {\n  trust_domain = "example.org"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bind_port: 1\n", "line 1: trust_domain: this key is required, and it is missing"),
        (OURS + "trust_domian: x\n", "line 2: trust_domian: unknown key; wanted one of"),
        (OURS + "bind_port: 65536\n", "line 2: bind_port: wanted a port, 0 to 65535, got '65536'"),
        (OURS + "ca_ttl: 5 minutes\n", "line 2: ca_ttl: wanted a time such as 90s, 5m or 1h30m, got '5 minutes'"),
        (OURS + "agent_ttl: 0s\n", "line 2: agent_ttl: wanted a time such as 90s, 5m or 1h30m, got '0s'"),
        (OURS + "log_level: LOUD\n", "line 2: log_level: wanted DEBUG, INFO, WARN or ERROR, got 'LOUD'"),
        (OURS + "ca_key_type: dsa\n", "line 2: ca_key_type: wanted ec-p256, ec-p384, rsa-2048, rsa-4096, got 'dsa'"),
        (
            OURS + "ca_subject: {country: [Utopia]}\n",
            "line 2: ca_subject.country[0]: wanted a country's two letters such as US, got 'Utopia'",
        ),
        (
            OURS + "ca_ttl: 119m\n",
            "line 2: ca_ttl: wanted at least 2:00:00, twice the life of what is signed, got 1:59:00:"
            " a shorter one would cut certificates short before it is renewed",
        ),
        (OURS + "datastore: {mysql: {}}\n", "line 2: datastore.mysql: wanted sqlite3 or postgres, got 'mysql'"),
        (
            OURS + "datastore: {sqlite3: {}, postgres: {}}\n",
            "line 2: datastore: wanted one of sqlite3, postgres, got sqlite3, postgres",
        ),
        (
            OURS + 'datastore: {sqlite3: {connection_string: ":memory:"}}\n',
            "line 2: datastore.sqlite3.connection_string: wanted the path of a SQLite file, got ':memory:';"
            " what is in memory is lost at a restart",
        ),
        (
            OURS + "datastore: {sqlite3: {connection: x}}\n",
            "line 2: datastore.sqlite3.connection: unknown key; wanted one of connection_string",
        ),
        (OURS + "key_manager: {hsm: {}}\n", "line 2: key_manager.hsm: wanted disk or memory, got 'hsm'"),
        (
            OURS + "node_attestors: {tpm: {}}\n",
            "line 2: node_attestors.tpm: wanted join_token or x509pop (k8s_sat, k8s_psat: not supported yet),"
            " got 'tpm'",
        ),
        (
            OURS + "node_attestors: {x509pop: {}}\n",
            "line 2: node_attestors.x509pop.ca_bundle_path: this key is required, and it is missing",
        ),
        ("plugins {\n}\n", "line 1: server: this block is required, and it is missing"),
        (HIS + "  zork = 1\n}\n", "line 3: server.zork: unknown key; wanted one of"),
        (
            HIS + "  bind_port = 1\n  bind_port = 2\n}\n",
            "line 4: server.bind_port: wanted each key once, and a plain word",
        ),
        (HIS, "line 3: wanted a key, got the end of the file"),
        (HIS + "  bind_port 80\n}\n", "line 3: wanted '=' and a value, or a block in braces, got '80'"),
        (
            HIS + "  bind_port =\n}\n",
            "line 4: wanted a value: a text in quotes, a number, true, false, a list or an object",
        ),
        (HIS + '  ca_subject = { country = ["US" "FR"] }\n}\n', "line 3: wanted ',' or ']', got '\"FR\"'"),
        (
            HIS + '  data_dir = "${HOME}"\n}\n',
            "line 3: wanted a plain text, got '\"${HOME}\"'; variables are not put in here",
        ),
        (HIS + "  data_dir = <<EOF\nx\nEOF\n}\n", "line 3: wanted HCL, got '<<EOF'"),
        (HIS + "}\ntelemetry {}\n", "line 4: telemetry: unknown key; wanted one of server, plugins"),
        (
            HIS + '}\nplugins {\n  UpstreamAuthority "disk" {}\n}\n',
            "line 5: plugins.UpstreamAuthority: unknown key; wanted one of DataStore, KeyManager, NodeAttestor",
        ),
        (
            HIS + '}\nplugins {\n  DataStore "sql" {\n    plugin_cmd = "x"\n  }\n}\n',
            "line 6: plugins.DataStore.sql.plugin_cmd: unknown key; wanted one of plugin_data",
        ),
        (
            HIS + '}\nplugins {\n  DataStore "sql" { plugin_data { database_type = "mysql" } }\n}\n',
            "line 5: plugins.DataStore.mysql: wanted sqlite3 or postgres, got 'mysql'",
        ),
    ],
)
def test_a_complaint_names_file_line_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config("f", text)
    assert str(refused.value).startswith(f"f, {message}")


def test_the_smallest_spire_file_takes_no_node() -> None:
    config = parse_config("f", HIS + "}\n")
    assert (config.join_token, config.x509pop) == (False, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "mysql://u@h/d",
            "wanted postgresql://user:password@host:port/database or dbname=... user=... host=..., got a URL of mysql",
        ),
        (
            "dbname",
            "wanted postgresql://user:password@host:port/database or dbname=... user=... host=...,"
            " got words without '='",
        ),
        (
            "dbname=d gssencmode=x",
            "wanted postgresql://user:password@host:port/database or dbname=... user=... host=...;"
            " gssencmode can't be used here",
        ),
    ],
)
def test_a_postgres_address_that_can_not_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(RequestError) as refused:
        postgres_url(text)
    assert str(refused.value) == message


def test_a_password_shows_in_no_text_of_the_configuration() -> None:
    config = parse_config(
        "f", OURS + "datastore: {postgres: {connection_string: 'postgres://u:hunter2@h/d?sslmode=require'}}"
    )
    assert config.datastore.password == "hunter2"  # noqa: S105
    assert config.datastore.query == {"ssl": "require"}
    assert "hunter2" not in repr(config)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wanted a configuration file to read"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "some.yaml").write_text(OURS)
    assert load_config(tmp_path / "some.yaml").trust_domain == TrustDomain("example.org")
