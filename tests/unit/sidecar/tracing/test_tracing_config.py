"""The section ``tracing``: what is read, and each refusal beside what would be taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshtls.admin.plain import plain
from meshtls.errors import ConfigError
from meshtls.sidecar.changes import summary
from meshtls.sidecar.config import parse_config
from meshtls.sidecar.settings import SidecarConfig

FILE = """
name: web
spiffe_id: spiffe://example.org/web
outbound: [{listen: 127.0.0.1:7000, to: 127.0.0.1:8443, peer: spiffe://example.org/db}]
"""


def read(section: str) -> SidecarConfig:
    return parse_config(f"{FILE}tracing: {section}\n", "/etc/meshtls/sidecar.yaml")


def test_a_section_is_read_with_its_defaults_and_its_files_stand_beside_the_file() -> None:
    keys = read("{otlp: http://127.0.0.1}").tracing
    assert keys is not None
    assert (str(keys.otlp), keys.sample, keys.queue, keys.service_name) == ("http://127.0.0.1:4318", 0.01, 4096, "")
    keys = read(
        "{otlp: 'https://collector.example:443/otel/', sample: 1.0, service_name: shop, ca_file: ca.pem,"
        " headers_file: /run/token}"
    ).tracing
    assert keys is not None
    assert (str(keys.otlp), keys.sample) == ("https://collector.example:443/otel", 1.0)
    assert (keys.ca_file, keys.headers_file) == (Path("/etc/meshtls/ca.pem"), Path("/run/token"))
    assert parse_config(FILE).tracing is None


_WANTED = "wanted an address of a collector such as http://127.0.0.1:4318 or https://collector.example:4318"


@pytest.mark.parametrize(
    ("refused", "key", "message", "taken"),
    [
        ("{otlp: 'ftp://127.0.0.1'}", "otlp", f"{_WANTED}, got 'ftp://127.0.0.1'", "{otlp: 'http://127.0.0.1'}"),
        ("{otlp: 'http://'}", "otlp", f"{_WANTED}, got 'http://'", "{otlp: 'http://localhost'}"),
        (
            "{otlp: 'https://user:hunter2@collector.example'}",
            "otlp",
            f"{_WANTED}, without a password and a query; headers_file is for what is secret",
            "{otlp: 'https://collector.example'}",
        ),
        (
            "{otlp: 'https://collector.example/?key=hunter2'}",
            "otlp",
            f"{_WANTED}, without a password and a query; headers_file is for what is secret",
            "{otlp: 'https://collector.example/'}",
        ),
        (
            "{otlp: 'http://10.0.0.1:4318'}",
            "otlp",
            "wanted https://, or a collector on loopback, got http://10.0.0.1:4318: readers of the network path"
            " would see who calls whom; insecure_plaintext_to_another_host allows it",
            "{otlp: 'http://10.0.0.1:4318', insecure_plaintext_to_another_host: true}",
        ),
        (
            "{otlp: 'http://10.0.0.1:4318', insecure_plaintext_to_another_host: true, headers_file: t}",
            "headers_file",
            "wanted https:// for headers that are secret, got http://10.0.0.1:4318",
            "{otlp: 'https://10.0.0.1:4318', headers_file: t}",
        ),
        (
            "{otlp: 'http://127.0.0.1', ca_file: ca.pem}",
            "ca_file",
            "wanted no such key with http://127.0.0.1:4318, which is not verified; write https://",
            "{otlp: 'https://127.0.0.1', ca_file: ca.pem}",
        ),
        (
            "{otlp: 'http://127.0.0.1', sample: 1.01}",
            "sample",
            "wanted a number from 0 to 1 such as 0.01, got '1.01'",
            "{otlp: 'http://127.0.0.1', sample: 1}",
        ),
        (
            "{otlp: 'http://127.0.0.1', sample: -0.1}",
            "sample",
            "wanted a number from 0 to 1 such as 0.01, got '-0.1'",
            "{otlp: 'http://127.0.0.1', sample: 0}",
        ),
    ],
)
def test_unusable_tracing_keys_are_refused_by_file_line_and_key(
    refused: str, key: str, message: str, taken: str
) -> None:
    with pytest.raises(ConfigError) as error:
        read(refused)
    assert error.value.problems == (f"/etc/meshtls/sidecar.yaml, line 5: tracing.{key}: {message}",)
    assert "hunter2" not in str(error.value)
    assert read(taken).tracing is not None


def test_plaintext_to_another_host_is_told_to_the_operator() -> None:
    config = read("{otlp: 'http://10.0.0.1:4318', insecure_plaintext_to_another_host: true}")
    assert config.notices == (
        "tracing.otlp: spans go to http://10.0.0.1:4318 in plaintext: readers of the network path see who calls whom",
    )
    assert read("{otlp: 'http://127.0.0.1'}").notices == ()


def test_a_change_needs_a_restart() -> None:
    before, after = read("{otlp: 'http://127.0.0.1'}"), read("{otlp: 'http://127.0.0.1', sample: 1}")
    assert summary(before, after).restart == ("tracing",)
    assert summary(before, before).restart == ()


def test_the_configuration_is_shown_without_the_headers() -> None:
    shown = plain(read("{otlp: 'https://collector.example', headers_file: /run/token}").tracing)
    assert isinstance(shown, dict)
    assert shown["headers_file"] == "/run/token"
    assert shown["otlp"] == {"tls": True, "address": "collector.example:4318", "path": ""}
