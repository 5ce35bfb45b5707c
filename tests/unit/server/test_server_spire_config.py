"""SPIRE's server.conf: its forms are equivalent; keys without effect get a notice, protecting ones are refused."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from meshtls.address import Address
from meshtls.ca.profile import CaSubject
from meshtls.errors import ConfigError
from meshtls.server.config import parse_config
from meshtls.server.settings import BundleEndpoint, DiskUpstream, KeyPlace, NestedUpstream, X509PopConfig
from meshtls.server.store.address import sqlite_url
from meshtls.serverapi.federation import Profile, Relation
from meshtls.spiffeid import SpiffeId, TrustDomain

# As written by the Helm chart: a list with one element for an HCL block, each plugin below its kind.
HELM = {
    "health_checks": {"bind_address": "0.0.0.0", "bind_port": "8080", "listener_enabled": True},  # noqa: S104
    "plugins": {
        "DataStore": {
            "sql": {
                "plugin_data": {
                    "connection_string": "/run/spire/data/datastore.sqlite3",
                    "database_type": "sqlite3",
                    "disable_migration": False,
                    "max_idle_conns": 2,
                    "max_open_conns": 100,
                }
            }
        },
        "KeyManager": {"disk": {"plugin_data": {"keys_path": "/run/spire/data/keys.json"}}},
        "NodeAttestor": {"k8s_psat": {"plugin_data": {"clusters": [{"example": {"audience": ["spire-server"]}}]}}},
        "Notifier": {"k8sbundle": {"plugin_data": {"config_map": "spire-bundle", "namespace": "spire"}}},
    },
    "server": {
        "audit_log_enabled": False,
        "bind_address": "0.0.0.0",  # noqa: S104
        "bind_port": "8081",
        "ca_key_type": "rsa-2048",
        "ca_subject": [{"common_name": "", "country": ["AR"], "organization": ["Example"]}],
        "ca_ttl": "24h",
        "data_dir": "/run/spire/data",
        "default_jwt_svid_ttl": "1h",
        "default_x509_svid_ttl": "4h",
        "experimental": {"cache_reload_interval": "5s", "events_based_cache": False, "require_pq_kem": False},
        "jwt_issuer": "https://oidc-discovery.example.org",
        "log_level": "info",
        "trust_domain": "example.org",
    },
    "telemetry": [{"Prometheus": [{"host": "0.0.0.0", "port": 9988}]}],  # noqa: S104
}
HCL = """
server {
  trust_domain = "example.org"
  bind_address = "0.0.0.0"
  bind_port = 8081
  ca_key_type = "rsa-2048"
  ca_subject { country = ["AR"] organization = ["Example"] common_name = "" }
  data_dir = "/run/spire/data"
  default_jwt_svid_ttl = "1h"
  default_x509_svid_ttl = "4h"
}
plugins {
  DataStore "sql" {
    plugin_data { database_type = "sqlite3" connection_string = "/run/spire/data/datastore.sqlite3" }
  }
  KeyManager "disk" { plugin_data { keys_path = "/run/spire/data/keys.json" } }
}
"""


def in_config_map(text: str) -> str:
    return "kind: ConfigMap\ndata:\n  server.conf: |\n" + "".join(f"    {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        HCL,
        json.dumps(HELM),
        json.dumps(HELM, indent="\t"),
        in_config_map(HCL),
        in_config_map(json.dumps(HELM, indent=2)),
        json.dumps({"kind": "ConfigMap", "data": {"server.conf": json.dumps(HELM)}}),
    ],
    ids=["hcl", "json", "json with tabs", "hcl in a ConfigMap", "json in a ConfigMap", "all json"],
)
def test_each_form_says_the_same(text: str) -> None:
    config = parse_config("server.conf", text)
    assert (config.bind_address, config.bind_port, config.log_level) == ("0.0.0.0", 8081, "INFO")  # noqa: S104
    assert config.ca_subject == CaSubject(("AR",), ("Example",), "")
    assert (config.ca_ttl, config.default_x509_svid_ttl) == (timedelta(hours=24), timedelta(hours=4))
    assert config.datastore == sqlite_url("/run/spire/data/datastore.sqlite3")
    assert (config.key_place, config.keys_dir) == (KeyPlace.DISK, Path("/run/spire/data/keys.json.d"))
    assert (config.join_token, config.x509pop) == (False, None)


def test_the_charts_file_gets_a_notice_for_each_key_without_effect() -> None:
    notices = parse_config("server.conf", json.dumps(HELM, indent=2)).notices
    assert [one.partition(": ")[2].partition(": ")[0] for one in notices] == [
        "server.audit_log_enabled",
        "server.jwt_issuer",
        "server.experimental.cache_reload_interval",
        "server.experimental.events_based_cache",
        "plugins.DataStore.sql.plugin_data.max_idle_conns",
        "plugins.DataStore.sql.plugin_data.max_open_conns",
        "plugins.NodeAttestor.k8s_psat",
        "health_checks",
        "telemetry",
        "plugins.Notifier",
        "plugins.KeyManager.disk.plugin_data.keys_path",
    ]
    assert (
        "server.conf, line 75: server.jwt_issuer: loads; no effect here because JWT-SVIDs have no issuer" in notices[1]
    )


def with_keys(server: str = "", plugins: str = "", top: str = "") -> str:
    return f'server {{\n  trust_domain = "example.org"\n  {server}\n}}\nplugins {{\n  {plugins}\n}}\n{top}\n'


NO_EFFECT = {
    "Notifier": with_keys(plugins='Notifier "k8sbundle" { plugin_data {} }'),
    "BundlePublisher": with_keys(plugins='BundlePublisher "aws_s3" { plugin_data {} }'),
    "CredentialComposer": with_keys(plugins='CredentialComposer "uniqueid" {}'),
    "WorkloadAttestor": with_keys(plugins='WorkloadAttestor "unix" {}'),
    "telemetry": with_keys(top="telemetry { Prometheus { port = 9988 } }"),
    "health_checks": with_keys(top="health_checks { listener_enabled = true }"),
    "server.log_format": with_keys('log_format = "json"'),
    "server.log_file": with_keys('log_file = "/l"'),
    "server.jwt_issuer": with_keys('jwt_issuer = "x"'),
    "server.admin_ids": with_keys('admin_ids = ["spiffe://example.org/admin"]'),
    "server.ratelimit": with_keys("ratelimit { attestation = false }"),
}


@pytest.mark.parametrize(("path", "text"), NO_EFFECT.items(), ids=NO_EFFECT)
def test_a_block_that_has_no_effect_loads_with_a_notice_that_says_why(path: str, text: str) -> None:
    [notice] = parse_config("f", text).notices
    assert f"{path}: loads; no effect here because " in notice
    assert notice.startswith("f, line ")


def test_the_upstream_authority_on_disk_is_that_of_our_file() -> None:
    data = 'cert_file_path = "c" key_file_path = "k" bundle_file_path = "b" ttl = "1h"'
    config = parse_config("f", with_keys(plugins=f'UpstreamAuthority "disk" {{ plugin_data {{ {data} }} }}'))
    assert config.upstream == DiskUpstream(Path("c"), Path("k"), Path("b"))
    [notice] = config.notices
    assert "plugins.UpstreamAuthority.disk.plugin_data.ttl: loads; no effect here because ca_ttl applies" in notice


def test_the_upstream_authority_spire_is_that_of_our_file() -> None:
    data = 'server_address = "up" server_port = "8081" workload_api_socket = "/run/agent.sock"'
    config = parse_config("f", with_keys(plugins=f'UpstreamAuthority "spire" {{ plugin_data {{ {data} }} }}'))
    assert config.upstream == NestedUpstream("up", 8081, "unix:///run/agent.sock", is_spire=True)


FEDERATION = """
federation {
  bundle_endpoint { address = "127.0.0.1" port = 8444 refresh_hint = "10m" profile "https_spiffe" {} }
  federates_with "b.test" {
    bundle_endpoint_url = "https://b.test:8443/"
    bundle_endpoint_profile "https_spiffe" { endpoint_spiffe_id = "spiffe://c.test/endpoint" }
  }
  federates_with "w.test" {
    bundle_endpoint_url = "https://w.test/"
    bundle_endpoint_profile "https_web" {}
  }
}
"""
FEDERATION_JSON = {
    "server": {
        "trust_domain": "example.org",
        "federation": [
            {
                "bundle_endpoint": [
                    {
                        "address": "127.0.0.1",
                        "port": 8444,
                        "refresh_hint": "10m",
                        "profile": [{"https_spiffe": [{}]}],
                    }
                ],
                "federates_with": [
                    {
                        "b.test": [
                            {
                                "bundle_endpoint_url": "https://b.test:8443/",
                                "bundle_endpoint_profile": [
                                    {"https_spiffe": [{"endpoint_spiffe_id": "spiffe://c.test/endpoint"}]}
                                ],
                            }
                        ]
                    },
                    {
                        "w.test": [
                            {"bundle_endpoint_url": "https://w.test/", "bundle_endpoint_profile": [{"https_web": [{}]}]}
                        ]
                    },
                ],
            }
        ],
    }
}


@pytest.mark.parametrize("text", [with_keys(FEDERATION), json.dumps(FEDERATION_JSON)], ids=["hcl", "json"])
def test_federation_is_read_in_each_form(text: str) -> None:
    config = parse_config("server.conf", text)
    assert config.notices == ()
    assert config.bundle_endpoint == BundleEndpoint(Address("127.0.0.1", 8444), 600)
    assert [(one.relation, one.bundle) for one in config.federates_with] == [
        (
            Relation(
                trust_domain=TrustDomain("b.test"),
                url="https://b.test:8443/",
                profile=Profile.HTTPS_SPIFFE,
                endpoint_id=SpiffeId.parse("spiffe://c.test/endpoint"),
            ),
            None,
        ),
        (Relation(trust_domain=TrustDomain("w.test"), url="https://w.test/", profile=Profile.HTTPS_WEB), None),
    ]


def test_federation_with_certificate_files_and_the_defaults_of_spire() -> None:
    profile = 'serving_cert_file { cert_file_path = "c" key_file_path = "k" file_sync_interval = "1h" }'
    config = parse_config(
        "server.conf", with_keys(f'federation {{ bundle_endpoint {{ profile "https_web" {{ {profile} }} }} }}')
    )
    anywhere = Address("0.0.0.0", 443)  # noqa: S104
    assert config.bundle_endpoint == BundleEndpoint(anywhere, 300, Path("c"), Path("k"))
    [notice] = config.notices
    assert "file_sync_interval: loads; no effect here because the files are looked at every second" in notice


REFUSED = {
    "UpstreamAuthority": (
        with_keys(plugins='UpstreamAuthority "vault" { plugin_data {} }'),
        "f, line 6: plugins.UpstreamAuthority.vault: unknown plugin; wanted one of disk, spire",
        with_keys(plugins='UpstreamAuthority "disk" { plugin_data { cert_file_path = "c" key_file_path = "k" } }'),
    ),
    "a certificate by ACME": (
        with_keys('federation { bundle_endpoint { profile "https_web" { acme { email = "e" } } } }'),
        "f, line 3: server.federation.bundle_endpoint.profile.https_web.acme: certificates can't be requested by ACME"
        " here; give serving_cert_file",
        with_keys('federation { bundle_endpoint { profile "https_spiffe" {} } }'),
    ),
    "federation with oneself": (
        with_keys(
            'federation { federates_with "example.org" { bundle_endpoint_url = "https://x/"'
            ' bundle_endpoint_profile "https_web" {} } }'
        ),
        "f, line 3: server.federation: wanted other trust domains in federates_with, got example.org, this server's"
        " own",
        with_keys(
            'federation { federates_with "b.test" { bundle_endpoint_url = "https://x/"'
            ' bundle_endpoint_profile "https_web" {} } }'
        ),
    ),
    "federation without a profile": (
        with_keys('federation { federates_with "b.test" { bundle_endpoint_url = "https://x/" } }'),
        "f, line 3: server.federation.federates_with.b.test: wanted one of https_spiffe, https_web, got none",
        with_keys(
            'federation { federates_with "b.test" { bundle_endpoint_url = "https://x/"'
            ' bundle_endpoint_profile "https_spiffe" { endpoint_spiffe_id = "spiffe://b.test/s" } } }'
        ),
    ),
    "disable_jwt_svids": (
        with_keys("disable_jwt_svids = true"),
        "f, line 3: server.disable_jwt_svids: wanted false: JWT-SVIDs can't be switched off here",
        with_keys("disable_jwt_svids = false"),
    ),
    "a policy engine": (
        with_keys('experimental { auth_opa_policy_engine { local { rego_path = "r" } } }'),
        "f, line 3: server.experimental.auth_opa_policy_engine: this policy would restrict callers, and there is no"
        " policy engine here; remove this key",
        with_keys("experimental { }"),
    ),
    "a post-quantum key exchange": (
        with_keys("experimental { require_pq_kem = true }"),
        "f, line 3: server.experimental.require_pq_kem: wanted false: a post-quantum key exchange can't be required"
        " here",
        with_keys("experimental { require_pq_kem = false }"),
    ),
    "nodes by their SPIFFE IDs": (
        with_keys(plugins='NodeAttestor "x509pop" { plugin_data { mode = "spiffe" ca_bundle_path = "c" } }'),
        "f, line 6: plugins.NodeAttestor.x509pop.plugin_data.mode: wanted external_pki: SPIFFE IDs of a node's"
        " certificate are not taken over here, got 'spiffe'",
        with_keys(plugins='NodeAttestor "x509pop" { plugin_data { mode = "external_pki" ca_bundle_path = "c" } }'),
    ),
    "a database's own CA": (
        with_keys(
            plugins='DataStore "sql" { plugin_data { database_type = "postgres" connection_string = "dbname=d"'
            ' root_ca_path = "c" } }'
        ),
        "f, line 6: plugins.DataStore.sql.plugin_data.root_ca_path: TLS files for the database can't be configured"
        " here; remove this key",
        with_keys(
            plugins='DataStore "sql" { plugin_data { database_type = "postgres" connection_string = "dbname=d"'
            ' root_ca_path = "" } }'
        ),
    ),
    "keys in a cloud": (
        with_keys(plugins='KeyManager "aws_kms" { plugin_data { region = "r" } }'),
        "f, line 6: plugins.KeyManager.aws_kms: unknown plugin; wanted one of disk, memory, pkcs11",
        with_keys(plugins='KeyManager "memory" { plugin_data { } }'),
    ),
    "a node attestor that nobody knows": (
        with_keys(plugins='NodeAttestor "zork" {}'),
        "f, line 6: plugins.NodeAttestor.zork: unknown plugin; wanted one of join_token, x509pop, aws_iid,"
        " azure_imds, azure_msi, gcp_iit, http_challenge, k8s_psat, k8s_sat, sshpop, tpm_devid",
        with_keys(plugins='NodeAttestor "aws_iid" {}'),
    ),
    "a plugin of one's own": (
        with_keys(plugins='KeyManager "disk" { plugin_cmd = "/x" plugin_data {} }'),
        "f, line 6: plugins.KeyManager.disk.plugin_cmd: unknown key; wanted one of plugin_data, enabled",
        with_keys(plugins='KeyManager "disk" { enabled = true plugin_data {} }'),
    ),
    "a key of ours that is a plugin": (
        with_keys("datastore { sqlite3 {} }"),
        "f, line 3: server.datastore: unknown key; it is a block of its own",
        with_keys(),
    ),
    "two blocks where one is wanted": (
        with_keys('ca_subject = [{ country = ["AR"] }, { country = ["US"] }]'),
        "f, line 3: server.ca_subject: wanted a block, got a list",
        with_keys('ca_subject = [{ country = ["AR"] }]'),
    ),
    "no block for the server": (
        "plugins {\n}\n",
        "f, line 1: server: this block is required, and it is missing",
        with_keys(),
    ),
}


@pytest.mark.parametrize(("text", "message", "good"), REFUSED.values(), ids=REFUSED)
def test_a_key_that_protects_or_is_unknown_is_refused(text: str, message: str, good: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config("f", text)
    assert refused.value.problems[0] == message
    assert parse_config("f", good).trust_domain.name == "example.org"


def test_all_problems_of_a_spire_file_are_reported_in_one_run() -> None:
    text = with_keys(
        'bind_port = "x"\n  zork = 1\n  ca_subject { country = ["Utopia", 5] }',
        'KeyManager "hsm" {}\n  Zork "a" {}',
        "frob {}",
    )
    with pytest.raises(ConfigError) as refused:
        parse_config("f", text)
    assert [one.split(": ")[0:2] for one in refused.value.problems] == [
        ["f, line 3", "server.bind_port"],
        ["f, line 4", "server.zork"],
        ["f, line 5", "server.ca_subject.country[0]"],
        ["f, line 5", "server.ca_subject.country[1]"],
        ["f, line 8", "plugins.KeyManager.hsm"],
        ["f, line 9", "plugins.Zork"],
        ["f, line 11", "frob"],
    ]


def test_a_disabled_spire_plugin_is_ignored_with_a_notice() -> None:
    config = parse_config(
        "f", with_keys(plugins='NodeAttestor "join_token" { enabled = false plugin_data {} }\n  KeyManager "memory" {}')
    )
    assert (config.join_token, config.key_place) == (False, KeyPlace.MEMORY)
    assert config.notices == (
        "f, line 6: plugins.NodeAttestor.join_token.enabled: this plugin is disabled, and was not checked",
    )


def test_x509pop_takes_one_bundle_or_several() -> None:
    one, two = (
        parse_config("f", with_keys(plugins=f'NodeAttestor "x509pop" {{ plugin_data {{ {data} }} }}')).x509pop
        for data in ('ca_bundle_path = "a"', 'ca_bundle_paths = ["a", "b",]')
    )
    assert (one, two) == (X509PopConfig((Path("a"),)), X509PopConfig((Path("a"), Path("b"))))
