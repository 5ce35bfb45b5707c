"""The section ``limits`` of a server's and an agent's file."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import replace

import pytest

from meshtls.config.document import yaml_document
from meshtls.config.reading import read
from meshtls.errors import ConfigError
from meshtls.rpc.descriptors import RESERVE, within_descriptors
from meshtls.rpc.limits import DEFAULT_LIMITS, ListenerLimits
from meshtls.server.config import parse_config
from meshtls.server.config_keys import DEFAULT_LIMITS as SERVER_LIMITS

ALL = """
connections: 10
connections_per_caller: 5
connections_per_second: 20
streams_per_caller: 7
attestations_per_second: 3
resets_per_second: 2
handshake_timeout: 1s
request_timeout: 2s
write_timeout: 3s
idle_timeout: 1m30s
"""


def test_each_key_sets_its_limit() -> None:
    assert read(yaml_document("test.yaml", ALL), ListenerLimits).value == ListenerLimits(
        connections=10,
        connections_per_caller=5,
        connections_per_second=20,
        streams_per_caller=7,
        attestations_per_second=3,
        resets_per_second=2,
        handshake_timeout=1,
        request_timeout=2,
        write_timeout=3,
        idle_timeout=90,
    )


def test_a_server_without_limits_has_the_defaults() -> None:
    assert parse_config("test.yaml", "trust_domain: example.org\n").limits == SERVER_LIMITS


def test_a_server_reloads_its_file() -> None:
    config = parse_config("test.yaml", "trust_domain: example.org\nlimits:\n  idle_timeout: 10s\n")
    assert config.limits == replace(SERVER_LIMITS, idle_timeout=10)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("connections: 0", "test.yaml, line 1: connections: wanted a whole number from 1 to 1000000, got '0'"),
        (
            "idle_timeout: x",
            "test.yaml, line 1: idle_timeout: wanted a time above 0 such as 100ms, 5s, 5m or 1h30m, got 'x'",
        ),
    ],
)
def test_an_invalid_limit_is_named(key: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(yaml_document("test.yaml", key), ListenerLimits)
    assert str(refused.value) == message


@pytest.fixture
def descriptors() -> Iterator[tuple[int, int]]:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield limit
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_the_soft_limit_of_descriptors_is_raised_as_far_as_it_must_be(descriptors: tuple[int, int]) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, descriptors[1]))
    assert within_descriptors(replace(DEFAULT_LIMITS, connections=300), 2).connections == 300
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 600 + RESERVE


def test_connections_are_limited_by_the_available_descriptors(
    descriptors: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    most = (descriptors[1] if descriptors[1] != resource.RLIM_INFINITY else 1 << 20) + 1
    limits = within_descriptors(replace(DEFAULT_LIMITS, connections=most), 1)
    if descriptors[1] == resource.RLIM_INFINITY:
        assert limits.connections == most
        return
    assert limits.connections == descriptors[1] - RESERVE
    assert f"{most} connections need {most + RESERVE} file descriptors" in caplog.text
