"""Fuzz targets: HCL, every kind of YAML file, the JSON of entries, addresses and other single values."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import strategies as st

from meshtls.address import Address
from meshtls.agent.config import parse_config as parse_agent
from meshtls.bundle import TrustBundle
from meshtls.cli.ca_config import parse_ca_config
from meshtls.cli.entry_data import read_entries, read_ids
from meshtls.config.document import yaml_document
from meshtls.config.hcl import looks_like_hcl, read_hcl
from meshtls.errors import ConfigError, RequestError
from meshtls.registration import Selector
from meshtls.scalars import duration, log_level, port, whole_number, word, workload_id
from meshtls.server.config import parse_config as parse_server
from meshtls.server.store.address import postgres_url, sqlite_url
from meshtls.sidecar.config import parse_config as parse_sidecar
from meshtls.spiffeid import TrustDomain
from meshtls.workload.address import parse_address
from tests.fuzz.running import documented, fuzzed, spliced
from tests.fuzz.values import json_values, odd_text, spoilt
from tests.support.certs import ca, leaf
from tests.unit.server.test_config import SPIRE
from tests.unit.server.test_server_spire_config import HELM

ROOT = ca()
SERVER = {
    "trust_domain": "example.org",
    "bind_address": "0.0.0.0",  # noqa: S104
    "bind_port": 8081,
    "data_dir": "/var/lib/meshtls",
    "ca_ttl": "24h",
    "default_x509_svid_ttl": "1h",
    "ca_subject": {"country": ["US"], "organization": ["x"], "common_name": "y"},
    "log_level": "DEBUG",
    "datastore": {"postgres": {"connection_string": "postgresql://u:p@h/db"}},
    "key_manager": {"disk": {"keys_path": "keys.json"}},
    "node_attestors": {"join_token": {}, "x509pop": {"ca_bundle_path": "x.pem"}},
}
SIDECAR = {
    "name": "a",
    "spiffe_id": "spiffe://example.org/web",
    "identity": {"workload_api": "unix:///run/agent.sock"},
    "inbound": [{"listen": "0.0.0.0:15006", "app": "127.0.0.1:80", "allow": ["spiffe://example.org/db"]}],
    "outbound": [{"listen": "127.0.0.1:15001", "to": "b:15006", "peer": "spiffe://example.org/db"}],
    "limits": {"connections": 100, "handshake_timeout": "5s"},
    "health": "127.0.0.1:15021",
    "workers": 2,
}
CA = {
    "trust_domain": "example.org",
    "socket_path": "/run/agent.sock",
    "default_x509_svid_ttl": "1h",
    "identities": [{"uid": 1000, "spiffe_id": "spiffe://example.org/web"}],
}
ENTRIES = {
    "entries": [
        {
            "id": "x",
            "spiffe_id": {"trust_domain": "example.org", "path": "/web"},
            "parent_id": "spiffe://example.org/node",
            "selectors": [{"type": "unix", "value": "uid:0"}, "unix:gid:0"],
            "x509_svid_ttl": "60",
            "federates_with": ["b.test"],
            "dns_names": ["web"],
            "expires_at": "2030-01-31T12:00:00Z",
            "admin": False,
        }
    ]
}


def texts_of(good: Any) -> st.SearchStrategy[str]:
    """YAML of a file with some of it exchanged, and texts that are cut from it."""
    sample = yaml.safe_dump(good).encode()
    return spoilt(good).map(yaml.safe_dump) | spliced([sample]).map(lambda data: data.decode("latin-1"))


def configurations(parse: Callable[[str], object], good: Any) -> None:
    def target(text: str) -> None:
        documented(lambda: parse(text), ConfigError, size=len(text), per_byte=400)

    fuzzed(target, texts_of(good))


def test_server_configurations() -> None:
    parse_server("s.yaml", yaml.safe_dump(SERVER))
    parse_server("s.json", json.dumps(HELM))
    configurations(lambda text: parse_server("s.yaml", text), SERVER)
    configurations(lambda text: parse_server("s.json", text), HELM)


def test_sidecar_configurations() -> None:
    parse_sidecar(yaml.safe_dump(SIDECAR))
    configurations(parse_sidecar, SIDECAR)


def test_ca_configurations() -> None:
    parse_ca_config(yaml.safe_dump(CA))
    configurations(parse_ca_config, CA)


def test_agent_configurations_and_the_files_that_they_name(tmp_path: Path) -> None:
    bundle, chain, key = (tmp_path / name for name in ("bundle", "chain.pem", "key.pem"))
    node = leaf(ROOT, "spiffe://example.org/x")
    samples = {
        bundle: TrustBundle(TrustDomain("example.org"), (ROOT.certificate,)).to_pem(),
        chain: node.certificate.public_bytes(Encoding.PEM),
        key: node.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }
    good = {
        "trust_domain": "example.org",
        "server_address": "server",
        "trust_bundle_path": str(bundle),
        "socket_path": "/run/agent.sock",
        "data_dir": str(tmp_path),
        "x509pop": {"certificate_path": str(chain), "private_key_path": str(key)},
        "workload_attestors": ["unix"],
        "health": {"port": 15020},
    }

    def target(text: str, *contents: bytes) -> None:
        for file, content in zip(samples, contents, strict=True):
            file.touch(0o600)
            file.write_bytes(content)
        documented(
            lambda: parse_agent("a.yaml", text), ConfigError, size=len(text) + sum(map(len, contents)), per_byte=400
        )

    target(yaml.safe_dump(good), *samples.values())
    assert parse_agent("a.yaml", yaml.safe_dump(good)).proof is not None

    def read(text: str, first: bytes, second: bytes, third: bytes) -> None:
        target(text, first, second, third)

    several = [*samples.values(), TrustBundle(TrustDomain("example.org"), (ROOT.certificate,)).to_jwks().encode()]
    fuzzed(read, texts_of(good), *(st.just(one) | spliced([one, *several]) for one in samples.values()))


def test_hcl() -> None:
    def target(text: str) -> None:
        documented(lambda: looks_like_hcl(text), size=len(text))
        documented(lambda: read_hcl("s.conf", text), ConfigError, size=len(text))
        documented(lambda: parse_server("s.conf", text), ConfigError, size=len(text), per_byte=400)

    read_hcl("s.conf", SPIRE)
    pieces = st.sampled_from(
        ['"', "\\", "${", "{", "}", "[", "]", "=", ",", "#", "//", "/*", "*/", "\n", "a", "1", "-", "."]
    )
    fuzzed(target, spliced([SPIRE.encode()]).map(lambda data: data.decode("latin-1")) | st.lists(pieces).map("".join))


def test_yaml_sections() -> None:
    def target(text: str) -> None:
        document = documented(lambda: yaml_document("x.yaml", text), ConfigError, size=len(text), per_byte=400)
        if document is not None:
            documented(document.problems.check, ConfigError, size=len(text))

    samples = [b"a: &x [*x, {<<: *x}]\n? [b]\n: !!int 0x\n--- %\n", b"a: |+2\n  x\nb: 'c\n\nd'\ne: !!binary =\n"]
    fuzzed(target, spliced(samples).map(lambda data: data.decode("latin-1")) | json_values.map(json.dumps))


def test_json_of_entries() -> None:
    def target(text: bytes) -> None:
        documented(lambda: read_entries(text), RequestError, size=len(text))
        documented(lambda: read_ids(text), RequestError, size=len(text))

    sample = json.dumps(ENTRIES).encode()
    assert read_entries(sample)[0].fields["x509_svid_ttl"] == 60
    fuzzed(target, spoilt(ENTRIES).map(lambda value: json.dumps(value).encode()) | spliced([sample]))


def test_addresses_and_single_values() -> None:
    parsers: list[Callable[[str], object]] = [
        Address.parse,
        Selector.parse,
        duration,
        log_level,
        port,
        whole_number(0, 9),
        word,
        workload_id,
    ]

    def target(text: str) -> None:
        for parse in parsers:
            documented(partial(parse, text), RequestError, size=len(text))
        address = documented(lambda: Address.parse(text), RequestError, size=len(text))
        assert address is None or Address.parse(str(address)) == address
        selector = documented(lambda: Selector.parse(text), RequestError, size=len(text))
        assert selector is None or Selector.parse(str(selector)) == selector
        endpoint = documented(lambda: parse_address(text), ConfigError, size=len(text))
        assert endpoint is None or parse_address(str(endpoint)) == endpoint
        for url in (postgres_url, sqlite_url):
            documented(partial(url, text), RequestError, ConfigError, size=len(text))

    samples = [
        b"[::1%lo]:80", b"127.0.0.1:65535", b"1h30m1.5s", b"unix:///run/a%20b.sock", b"tcp://[::1]:80", b"unix:uid:0",
        b"host=/run user='a b' password=\\'x port=5432 dbname=d", b"postgresql://u:p%40@h:1/db?sslmode=require",
    ]  # fmt: skip
    fuzzed(target, odd_text | spliced(samples).map(lambda data: data.decode("latin-1")))
