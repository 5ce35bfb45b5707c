"""The three forms of a server's configuration, and the message of each error."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.profile import CaSubject
from meshtls.errors import ConfigError, RequestError
from meshtls.server.config import load_config, parse_config
from meshtls.server.keys import opened_signing
from meshtls.server.settings import KeyPlace, X509PopConfig
from meshtls.server.store.address import postgres_url, sqlite_url
from meshtls.spiffeid import SpiffeId, TrustDomain
from tests.support.clock import ManualClock

EC_KEY = ec.generate_private_key(ec.SECP256R1())

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


def test_a_minimal_file_names_the_trust_domain() -> None:
    config = parse_config("server.yaml", "trust_domain: example.org")
    assert config.trust_domain == TrustDomain("example.org")
    assert (config.bind_address, config.bind_port, config.attest_port) == ("127.0.0.1", 8081, 8082)
    assert config.datastore == sqlite_url("meshtls-data/datastore.sqlite3")
    assert (config.key_place, config.keys_dir) == (KeyPlace.DISK, Path("meshtls-data/keys"))
    assert (config.join_token, config.x509pop, config.notices) == (True, None, ())
    assert config.default_jwt_svid_ttl == timedelta(minutes=5)


def test_our_own_yaml_form_is_read() -> None:
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
    assert (config.join_token, config.x509pop) == (False, X509PopConfig((Path("/nodes.pem"),)))


@pytest.mark.parametrize(("file", "text", "offset"), [("server.conf", SPIRE, 0), ("map.yaml", CONFIG_MAP, 5)])
def test_a_spire_file_is_read_also_from_its_config_map(file: str, text: str, offset: int) -> None:
    config = parse_config(file, text)
    assert (config.bind_address, config.bind_port, config.log_level) == ("0.0.0.0", 8081, "WARNING")  # noqa: S104
    assert config.ca_ttl == timedelta(hours=12, minutes=30)
    assert config.ca_subject == CaSubject(("US",), ("SPIFFE",), 'SPIRE Server "CA"')
    assert config.datastore == sqlite_url("/run/spire/data/datastore.sqlite3")
    assert (config.key_place, config.join_token) == (KeyPlace.MEMORY, True)
    assert config.notices == (
        f"{file}, line {offset + 24}: plugins.NodeAttestor.k8s_sat: recognised but not supported yet:"
        " no node can attest with it",
        f"{file}, line {offset + 30}: plugins.WorkloadAttestor: loads; no effect here because"
        " workloads are attested by the agent",
    )


OURS = "trust_domain: example.org\n"
HIS = 'server {\n  trust_domain = "example.org"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bind_port: 1\n", "line 1: trust_domain: this key is required, and it is missing"),
        (OURS + "trust_domian: x\n", "line 2: trust_domian: unknown key; wanted one of"),
        (OURS + "bind_port: 65536\n", "line 2: bind_port: wanted a port, 0 to 65535, got '65536'"),
        (
            OURS + "ca_ttl: 5 minutes\n",
            "line 2: ca_ttl: wanted a time above 0 such as 100ms, 5s, 5m or 1h30m, got '5 minutes'",
        ),
        (OURS + "agent_ttl: 0s\n", "line 2: agent_ttl: wanted a time above 0 such as 100ms, 5s, 5m or 1h30m, got '0s'"),
        (OURS + "log_level: LOUD\n", "line 2: log_level: wanted DEBUG, INFO, WARN or ERROR, got 'LOUD'"),
        (OURS + "ca_key_type: dsa\n", "line 2: ca_key_type: wanted ec-p256, ec-p384, rsa-2048 or rsa-4096, got 'dsa'"),
        (
            OURS + "ca_subject: {country: [Utopia]}\n",
            "line 2: ca_subject.country[0]: wanted a country's two letters such as US, got 'Utopia'",
        ),
        (OURS + "agent_ttl: 999ms\n", "line 2: agent_ttl: wanted at least a second, got '999ms'"),
        (
            OURS + "ca_ttl: 876601h\n",
            "line 2: ca_ttl: wanted a time of at most 876600h, which is 100 years, got '876601h'",
        ),
        (
            OURS + f"ca_ttl: {'9' * 400}h\n",
            "line 2: ca_ttl: wanted a time of at most 876600h, which is 100 years,"
            f" got '{'9' * 60}'... (401 characters)",
        ),
        (OURS + "ca_ttl: 1s\n", "line 2: ca_ttl: wanted at least 2s, got 1s"),
        (OURS + f"bind_port: {'1' * 5000}\n", f"line 2: bind_port: wanted a port, 0 to 65535, got '{'1' * 60}'... ("),
        (
            OURS + f"bind_port: {'[' * 3000}{']' * 3000}\n",
            "line 2: wanted a YAML document: nested deeper than 64 levels",
        ),
        (
            HIS + f"  a = {'[' * 3000}{']' * 3000}\n}}\n",
            "line 3: wanted at most 64 levels of nested blocks and lists, got more",
        ),
        (OURS + "datastore: {mysql: {}}\n", "line 2: datastore.mysql: unknown key; wanted one of sqlite3, postgres"),
        (
            OURS + "datastore: {sqlite3: {}, postgres: {connection_string: dbname=x}}\n",
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
        (
            OURS + "key_manager: {pkcs11: {module: /m.so, token_label: mesh}}\n",
            "line 2: key_manager.pkcs11: wanted one of pin_file, pin_env, got none",
        ),
        (
            OURS + "key_manager: {pkcs11: {module: /m.so, token_label: mesh, pin_file: pin, pin_env: PIN}}\n",
            "line 2: key_manager.pkcs11: wanted one of pin_file, pin_env, got pin_file and pin_env",
        ),
        (OURS + "key_manager: {hsm: {}}\n", "line 2: key_manager.hsm: unknown key; wanted one of disk, memory, pkcs11"),
        (
            OURS + "node_attestors: {tpm: {}}\n",
            "line 2: node_attestors.tpm: unknown key; wanted one of join_token, x509pop",
        ),
        (
            OURS + "node_attestors: {x509pop: {}}\n",
            "line 2: node_attestors.x509pop.ca_bundle_path: this key is required, and it is missing",
        ),
        ("plugins {\n}\n", "line 1: server: this block is required, and it is missing"),
        (HIS + "  zork = 1\n}\n", "line 3: server.zork: unknown key; wanted one of"),
        (
            HIS + "  bind_port = 1\n  bind_port = 2\n}\n",
            "line 4: server.bind_port: wanted each key once, got it again",
        ),
        (HIS, "line 3: wanted a key, got the end of the file"),
        (HIS + "  bind_port 80\n}\n", "line 3: wanted '=' and a value, or a block in braces, got '80'"),
        (
            HIS + "  bind_port =\n}\n",
            "line 4: wanted a value: a quoted string, a number, true, false, a list or an object",
        ),
        (HIS + '  ca_subject = { country = ["US" "FR"] }\n}\n', "line 3: wanted ',' or ']', got '\"FR\"'"),
        (
            HIS + '  data_dir = "${HOME}"\n}\n',
            "line 3: wanted a plain string, got '\"${HOME}\"'; variables are not expanded",
        ),
        (HIS + "  data_dir = <<EOF\nx\nEOF\n}\n", "line 3: wanted HCL, got '<<EOF'"),
        (
            HIS + "}\nzork {}\n",
            "line 4: zork: unknown key; wanted one of server, plugins, telemetry, health_checks",
        ),
        (
            HIS + '}\nplugins {\n  Zork "disk" {}\n}\n',
            "line 5: plugins.Zork: unknown key; wanted one of DataStore, KeyManager, NodeAttestor, UpstreamAuthority",
        ),
        (
            HIS + '}\nplugins {\n  KeyManager "disk" {\n    plugin_cmd = "x"\n  }\n}\n',
            "line 6: plugins.KeyManager.disk.plugin_cmd: unknown key; wanted one of plugin_data, enabled",
        ),
        (
            HIS + '}\nplugins {\n  DataStore "sql" { plugin_data { database_type = "mysql" } }\n}\n',
            "line 5: plugins.DataStore.sql.plugin_data.database_type: wanted sqlite3 or postgres, got 'mysql'",
        ),
    ],
)
def test_a_complaint_names_file_line_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config("f", text)
    assert str(refused.value).startswith(f"f, {message}")


@pytest.mark.parametrize(
    ("text", "ca_ttl", "lives", "notices"),
    [
        (OURS + "ca_ttl: 2h\n", timedelta(hours=2), (timedelta(hours=1), timedelta(hours=1)), ()),
        (
            OURS + "ca_ttl: 1h\nagent_ttl: 1h30m\ndefault_x509_svid_ttl: 30m\n",
            timedelta(hours=1),
            (timedelta(minutes=30), timedelta(minutes=30)),
            ("f, line 2: ca_ttl: 1:00:00 is less than twice agent_ttl (1:30:00), which is reduced to 0:30:00",),
        ),
        (
            HIS + '  ca_ttl = "1.5h"\n}\n',
            timedelta(minutes=90),
            (timedelta(minutes=45), timedelta(minutes=45)),
            (
                "f, line 3: server.ca_ttl: 1:30:00 is less than twice agent_ttl (1:00:00), which is reduced to 0:45:00",
                "f, line 3: server.ca_ttl: 1:30:00 is less than twice default_x509_svid_ttl (1:00:00),"
                " which is reduced to 0:45:00",
            ),
        ),
    ],
)
def test_ttls_beyond_the_intermediates_life_are_shortened_with_a_notice(
    text: str, ca_ttl: timedelta, lives: tuple[timedelta, timedelta], notices: tuple[str, ...]
) -> None:
    config = parse_config("f", text)

    assert (config.ca_ttl, (config.agent_ttl, config.default_x509_svid_ttl)) == (ca_ttl, lives)
    assert config.notices == notices


def test_an_svid_signed_under_a_short_ca_ttl_expires_before_its_issuer(tmp_path: Path) -> None:
    config, clock = parse_config("f", f"{OURS}ca_ttl: 1m\ndata_dir: {tmp_path}\n"), ManualClock()
    name = SpiffeId.parse("spiffe://example.org/web")
    with opened_signing(config, clock) as (signing, _):
        for _ in range(20):
            usual, longer = (
                signing.x509(name, EC_KEY.public_key(), life)
                for life in (config.default_x509_svid_ttl, timedelta(hours=1))
            )
            assert usual.record.not_after - clock.now() == timedelta(seconds=30)
            assert longer.record.not_after == longer.chain[1].not_valid_after_utc
            clock.advance(7)


@pytest.mark.parametrize(
    ("level", "taken", "notices"),
    [
        ("debug", "DEBUG", ()),
        ("Info", "INFO", ()),
        ("warning", "WARNING", ()),
        ("trace", "DEBUG", ("f, line 3: server.log_level: there is no level below DEBUG; using DEBUG",)),
    ],
)
def test_a_log_level_is_taken_in_any_case(level: str, taken: str, notices: tuple[str, ...]) -> None:
    config = parse_config("f", HIS + f'  log_level = "{level}"\n}}\n')
    assert (config.log_level, config.notices) == (taken, notices)


def keys_at(path: Path) -> str:
    data = f'keys_path = "{path}"'
    return HIS + f'}}\nplugins {{\n  KeyManager "disk" {{\n    plugin_data {{ {data} }}\n  }}\n}}\n'


@pytest.mark.parametrize("name", ["keys.json", "keys"])
def test_the_file_that_spire_keeps_its_keys_in_is_left_and_ours_go_beside_it(tmp_path: Path, name: str) -> None:
    path, beside = tmp_path / name, tmp_path / f"{name}.d"
    path.write_text("SPIRE's")

    config = parse_config("f", keys_at(path))

    assert config.keys_dir == beside
    assert config.notices == (
        f"f, line 6: plugins.KeyManager.disk.plugin_data.keys_path: {path} is the name of a file;"
        f" keys are kept in the directory {beside}",
    )
    config = replace(config, data_dir=tmp_path)
    for _ in range(2):
        with opened_signing(config, ManualClock()):
            assert sorted(one.name for one in beside.iterdir()) == [
                "intermediate.pem",
                "jwt.pem",
                "log.pem",
                "root.pem",
            ]
    assert path.read_text() == "SPIRE's"


def test_a_directory_for_keys_is_taken_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "keys.json").mkdir()
    for name in ("keys.json", "keys"):
        config = parse_config("f", keys_at(tmp_path / name))
        assert (config.keys_dir, config.notices) == (tmp_path / name, ())
    assert parse_config("f", keys_at(tmp_path / "other.json")).keys_dir == tmp_path / "other.json.d"


def test_a_minimal_spire_file_allows_no_attestation() -> None:
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
            "postgresql://u:secret@h:port/d",
            "wanted postgresql://user:password@host:port/database or dbname=... user=... host=..., got"
            " a text that is not a URL",
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
def test_an_unparsable_postgres_address_is_refused(text: str, message: str) -> None:
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
