"""An agent's YAML: valid files, and every error with file, line and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshtls.agent.config import load_config, parse_config
from meshtls.agent.node.proof import JoinToken, NodeCertificate
from meshtls.agent.node.upstream import ServerAddress
from meshtls.agent.service import Endpoint
from meshtls.errors import ConfigError
from meshtls.spiffeid import SpiffeId, TrustDomain
from tests.support.authority import make_authority

AUTHORITY = make_authority("example.org")
GOOD = """trust_domain: example.org
server_address: ca.example.org
socket_path: /run/meshtls/agent.sock
trust_bundle_path: {directory}/bundle.pem
join_token: s3cret
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "bundle.pem").write_bytes(AUTHORITY.bundle.to_pem())
    (tmp_path / "bundle.json").write_text(AUTHORITY.bundle.to_jwks())
    (tmp_path / "empty.json").write_text('{"keys": []}')
    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    chain = AUTHORITY.issue(SpiffeId(AUTHORITY.trust_domain, "/node"), key.public_key())
    (tmp_path / "node.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    for name, one in (("node.key", key), ("other.key", other), ("open.key", key)):
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_bytes(one.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (tmp_path / "open.key").chmod(0o644)
    return tmp_path


def test_a_minimal_agent_file(directory: Path) -> None:
    file = directory / "agent.yaml"
    file.write_text(GOOD.format(directory=directory))
    config = load_config(file)
    assert (config.trust_domain, config.bundle) == (TrustDomain("example.org"), AUTHORITY.bundle)
    assert config.server == ServerAddress("ca.example.org", 8081, 8082)
    assert config.endpoint == Endpoint(Path("/run/meshtls/agent.sock"), ("unix", "docker", "k8s"), None)
    assert (config.proof, config.data_dir, config.log_level) == (
        JoinToken("s3cret"),
        Path("meshtls-agent-data"),
        "INFO",
    )
    assert "s3cret" not in repr(config)


@pytest.mark.parametrize(
    ("level", "taken", "notices"),
    [
        ("Info", "INFO", ()),
        ("trace", "DEBUG", ("f, line 6: log_level: there is no level below DEBUG; using DEBUG",)),
    ],
)
def test_a_mapped_log_level_is_a_notice(directory: Path, level: str, taken: str, notices: tuple[str, ...]) -> None:
    config = parse_config("f", GOOD.format(directory=directory) + f"log_level: {level}\n")
    assert (config.log_level, config.notices) == (taken, notices)


@pytest.mark.parametrize(
    ("said", "limit", "notices"),
    [
        ("", 2**29, ()),
        ("workload_size_limit: 1000000\n", 1_000_000, ()),
        ("workload_size_limit: -1\n", -1, ()),
        (
            "workload_size_limit: 0\n",
            0,
            ("f, line 6: workload_size_limit: there is no limit: programs of any size are read to their end",),
        ),
    ],
)
def test_the_program_size_limit_is_in_bytes_and_its_absence_is_reported(
    directory: Path, said: str, limit: int, notices: tuple[str, ...]
) -> None:
    config = parse_config("f", GOOD.format(directory=directory) + said)
    assert (config.endpoint.size_limit, config.notices) == (limit, notices)


def test_a_file_with_every_setting(directory: Path) -> None:
    text = GOOD.replace("join_token: s3cret\n", "").replace("bundle.pem", "bundle.json") + (
        "server_port: 9001\nattest_port: 9100\ndata_dir: /var/lib/meshtls\nlog_level: debug\n"
        "workload_attestors: [unix]\nhealth:\n  address: 127.0.0.2\n  port: 8090\n"
        "x509pop:\n  certificate_path: {directory}/node.pem\n  private_key_path: {directory}/node.key\n"
    )
    config = parse_config("agent.yaml", text.format(directory=directory))
    assert config.bundle == AUTHORITY.bundle
    assert config.server == ServerAddress("ca.example.org", 9001, 9100)
    assert config.endpoint == Endpoint(Path("/run/meshtls/agent.sock"), ("unix",), ("127.0.0.2", 8090))
    assert (config.data_dir, config.log_level) == (Path("/var/lib/meshtls"), "DEBUG")
    assert isinstance(config.proof, NodeCertificate)
    assert len(config.proof.chain) == 2


def test_health_is_one_address_and_its_old_form_is_read_with_a_notice(directory: Path) -> None:
    good = GOOD.format(directory=directory)
    new, old, bare = (
        parse_config("f", f"{good}health: {text}\n")
        for text in ("'[::1]:8090'", "{address: '::1', port: 8090}", "{port: 8090}")
    )
    assert [one.endpoint.health for one in (new, old, bare)] == [("::1", 8090), ("::1", 8090), ("127.0.0.1", 8090)]
    assert [one.notices for one in (new, old)] == [
        (),
        ("f, line 6: health: this is one address now, such as [::1]:8090; the old form still works",),
    ]


def test_an_agent_without_a_data_directory_logs_the_consequence(directory: Path) -> None:
    text = GOOD.format(directory=directory) + "key_manager: {memory: }\n"
    config = parse_config("f", text)
    assert (config.data_dir, config.proof) == (None, JoinToken("s3cret"))
    assert config.notices == (
        "f, line 6: key_manager.memory: a join token is good for one attestation:"
        " each restart of this agent needs a new one",
    )
    with pytest.raises(ConfigError, match="join_token: wanted join_token, x509pop, or a data_dir"):
        parse_config("f", text.replace("join_token: s3cret", "data_dir: /d"))


def test_more_certificates_above_the_leaf_may_be_in_a_file_of_their_own(directory: Path) -> None:
    pop = f"x509pop:\n  certificate_path: {directory}/node.pem\n  private_key_path: {directory}/node.key\n"
    text = GOOD.format(directory=directory).replace("join_token: s3cret\n", pop)
    proof = parse_config("f", f"{text}  intermediates_path: {directory}/bundle.pem\n").proof
    assert isinstance(proof, NodeCertificate)
    assert proof.chain[-1] == AUTHORITY.bundle.x509_authorities[0]


def test_all_problems_of_an_agents_file_are_reported_at_once(directory: Path) -> None:
    text = (
        f"trust_domain: 'a b'\nserver_port: 0\ntrust_bundle_path: {directory}/none.pem\nsocket_path: ''\n"
        "x509pop: {certificate_path: []}\njoin_token: x\nlimits: {connections: -1}\nworkload_size_limit: big\n"
    )
    with pytest.raises(ConfigError) as refused:
        parse_config("f", text)
    assert [one.split(": ")[:2] for one in refused.value.problems] == [
        ["f, line 1", "trust_domain"],
        ["f, line 1", "server_address"],
        ["f, line 2", "server_port"],
        ["f, line 3", "trust_bundle_path"],
        ["f, line 4", "socket_path"],
        ["f, line 5", "x509pop.certificate_path"],
        ["f, line 5", "x509pop.private_key_path"],
        ["f, line 5", "x509pop"],
        ["f, line 7", "limits.connections"],
        ["f, line 8", "workload_size_limit"],
    ]


def test_an_agent_that_was_attested_before_needs_no_proof(directory: Path) -> None:
    text = GOOD.replace("join_token: s3cret", "data_dir: /var/lib/meshtls")
    assert parse_config("agent.yaml", text.format(directory=directory)).proof is None


POP = "x509pop:\n  certificate_path: {directory}/node.pem\n  private_key_path: {directory}/"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda text: text + "colour: red\n", "line 6: colour: unknown key; wanted one of trust_domain, data_dir, "),
        (lambda text: text.replace("server_address", "server"), "line 1: server_address: this key is required, and"),
        (lambda text: text.replace("ca.example.org", "''"), "line 2: server_address: wanted a word, got an empty text"),
        (
            lambda text: text + "server_port: 0\n",
            "line 6: server_port: wanted a port, 1 to 65535, got '0'",
        ),
        (
            lambda text: text.replace("bundle.pem", "none.pem"),
            "line 4: trust_bundle_path: {directory}/none.pem: wanted PEM certificates or a SPIFFE bundle: [Errno 2]",
        ),
        (
            lambda text: text.replace("bundle.pem", "empty.json"),
            "line 4: trust_bundle_path: {directory}/empty.json: wanted at least one X.509 authority, got none",
        ),
        (
            lambda text: text.replace("bundle.pem", "node.key"),
            "line 4: trust_bundle_path: {directory}/node.key: wanted PEM certificates or a SPIFFE bundle: ",
        ),
        (
            lambda text: text.replace("join_token: s3cret\n", ""),
            "line 1: join_token: wanted join_token, x509pop, or a data_dir with the SVID of an earlier attestation",
        ),
        (
            lambda text: text + POP + "node.key\n",
            "line 6: x509pop: wanted one way to attest, got join_token and x509pop",
        ),
        (
            lambda text: text.replace("join_token: s3cret\n", POP + "other.key\n"),
            "line 7: x509pop.private_key_path: this key does not belong to the certificate",
        ),
        (
            lambda text: text.replace("join_token: s3cret\n", POP + "node.pem\n"),
            "line 7: x509pop.private_key_path: {directory}/node.pem: wanted a private key in PEM, without a password: ",
        ),
        (
            lambda text: text.replace("join_token: s3cret\n", POP + "open.key\n"),
            "line 7: x509pop.private_key_path: {directory}/open.key: wanted a private key in PEM, without a password:"
            " {directory}/open.key: mode 0644 gives other users access to a private key",
        ),
        (
            lambda text: text + "workload_attestors: [unix, windows]\n",
            "line 6: workload_attestors[1]: wanted one of unix, docker, k8s, got 'windows'",
        ),
        (
            lambda text: text + "workload_size_limit: 1MB\n",
            "line 6: workload_size_limit: wanted a whole number from 0 to 9007199254740992, got '1MB'",
        ),
        (lambda text: text + "log_level: loud\n", "line 6: log_level: wanted DEBUG, INFO, WARN or ERROR, got 'loud'"),
        (lambda text: text + "health: {{}}\n", "line 6: health.port: this key is required, and it is missing"),
    ],
)
def test_an_impossible_value_is_named_with_its_line(
    directory: Path, change: Callable[[str], str], complaint: str
) -> None:
    parse_config("agent.yaml", GOOD.format(directory=directory))
    with pytest.raises(ConfigError) as raised:
        parse_config("agent.yaml", change(GOOD).format(directory=directory))
    assert str(raised.value).startswith(f"agent.yaml, {complaint.format(directory=directory)}")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: wanted a configuration file to read: "):
        load_config(tmp_path / "none.yaml")
