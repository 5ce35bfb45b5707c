"""The CA's file: one good one, and what each mistake is told."""

from datetime import timedelta
from pathlib import Path

import pytest

from meshtls.cli.ca_config import CaConfig, load_ca_config, parse_ca_config
from meshtls.errors import ConfigError
from meshtls.spiffeid import SpiffeId, TrustDomain

A = 'uid: 10001, spiffe_id: "spiffe://example.org/a"'
GOOD = f"""
trust_domain: example.org
socket_path: /run/ca.sock
identities:
  - {{{A}}}
"""


def test_a_file_with_the_required_keys() -> None:
    config = parse_ca_config(GOOD)
    assert config == CaConfig(
        trust_domain=TrustDomain("example.org"),
        socket_path=Path("/run/ca.sock"),
        identities={10001: SpiffeId.parse("spiffe://example.org/a")},
        x509_svid_ttl=timedelta(hours=1),
        jwt_svid_ttl=timedelta(minutes=5),
        data_dir=None,
        trust_bundle_path=None,
        log_level="INFO",
        notices=(),
        file=config.file,
    )


def test_a_file_with_every_key() -> None:
    config = parse_ca_config(
        f"{GOOD}default_x509_svid_ttl: 5m\ndefault_jwt_svid_ttl: 1m\ndata_dir: /var/ca\n"
        "trust_bundle_path: /certs/ca.pem\nlog_level: warn\n"
    )

    assert (config.x509_svid_ttl, config.jwt_svid_ttl, config.data_dir, config.trust_bundle_path) == (
        timedelta(minutes=5),
        timedelta(minutes=1),
        Path("/var/ca"),
        Path("/certs/ca.pem"),
    )
    assert (config.log_level, config.notices) == ("WARNING", ())


def test_former_key_names_are_read_with_a_notice() -> None:
    text = GOOD.replace("socket_path", "socket") + "svid_ttl: 5m\nbundle_file: /certs/ca.pem\n"

    config = parse_ca_config(text)

    assert (config.socket_path, config.x509_svid_ttl, config.trust_bundle_path) == (
        Path("/run/ca.sock"),
        timedelta(minutes=5),
        Path("/certs/ca.pem"),
    )
    assert config.notices == (
        "ca.yaml, line 3: socket: this key was renamed to socket_path; the old name still works",
        "ca.yaml, line 6: svid_ttl: this key was renamed to default_x509_svid_ttl; the old name still works",
        "ca.yaml, line 7: bundle_file: this key was renamed to trust_bundle_path; the old name still works",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD + "colour: red\n",
            "ca.yaml, line 6: colour: unknown key; wanted one of"
            " trust_domain, socket_path, identities, default_x509_svid_ttl, default_jwt_svid_ttl, data_dir,"
            " trust_bundle_path, log_level, log_format",
        ),
        (
            GOOD.replace("socket_path: /run/ca.sock\n", ""),
            "ca.yaml, line 2: socket_path: this key is required, and it is missing",
        ),
        (
            GOOD.replace("example.org\n", "a b\n"),
            "ca.yaml, line 2: trust_domain: trust domain 'a b': wanted one or more of a-z, 0-9, '.', '_' and '-'",
        ),
        (
            GOOD + "default_x509_svid_ttl: 5\n",
            "ca.yaml, line 6: default_x509_svid_ttl: wanted a time above 0 such as 100ms, 5s, 5m or 1h30m, got '5'",
        ),
        (
            GOOD.replace("10001", "root"),
            "ca.yaml, line 5: identities[0].uid: wanted a whole number from 0 to 4294967294, got 'root'",
        ),
        (
            GOOD.replace("10001", "1" * 5000),
            "ca.yaml, line 5: identities[0].uid: wanted a whole number from 0 to 4294967294,"
            f" got '{'1' * 60}'... (5000 characters)",
        ),
        (
            GOOD + "default_x509_svid_ttl: 99999999999h\n",
            "ca.yaml, line 6: default_x509_svid_ttl: wanted a time of at most 876600h, which is 100 years,"
            " got '99999999999h'",
        ),
        (
            GOOD + f"  - {{{A}}}\n",
            "ca.yaml, line 6: identities[1].uid: wanted each uid once, got 10001 again",
        ),
        (
            GOOD.replace("spiffe://example.org/a", "spiffe://example.com/a"),
            "ca.yaml, line 5: identities[0].spiffe_id: wanted an ID with a path in trust domain example.org,"
            " got spiffe://example.com/a",
        ),
        (
            GOOD.replace("spiffe://example.org/a", "spiffe://example.org"),
            "ca.yaml, line 5: identities[0].spiffe_id: wanted an ID with a path in trust domain example.org,"
            " got spiffe://example.org",
        ),
        (
            GOOD.replace(A, f"{A}, colour: red"),
            "ca.yaml, line 5: identities[0].colour: unknown key; wanted one of uid, spiffe_id",
        ),
        (
            GOOD.partition("identities")[0] + "identities: []\n",
            "ca.yaml, line 4: identities: wanted at least one uid with its spiffe_id, got none",
        ),
        (
            GOOD + "socket: /run/other.sock\n",
            "ca.yaml, line 6: socket: wanted only one of socket_path and socket, which are names of the same key",
        ),
        (
            GOOD.partition("identities")[0],
            "ca.yaml, line 2: identities: this key is required, and it is missing",
        ),
        ("", "ca.yaml: wanted keys with values, got an empty file"),
    ],
)
def test_a_mistake_is_an_error_with_its_line_and_key(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_ca_config(text)

    assert str(caught.value) == message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca\.yaml: wanted a configuration file to read"):
        load_ca_config(tmp_path / "ca.yaml")
