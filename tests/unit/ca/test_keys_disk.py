"""CA keys on disk: private, complete, locked by one process, and never changed after an error."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from meshtls.ca.authority import Authority
from meshtls.ca.keys.disk import DiskKeys
from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.errors import ConfigError
from meshtls.spiffeid import SpiffeId, TrustDomain
from tests.support.clock import ManualClock

DOMAIN = TrustDomain("example.org")
WEB = SpiffeId(DOMAIN, "/web")
KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
DAY = 86400.0


def start(directory: Path, clock: ManualClock | None = None, domain: TrustDomain = DOMAIN) -> Authority:
    return Authority.create(domain, clock or ManualClock(), keys=DiskKeys(directory))


def found(directory: Path, domain: TrustDomain = DOMAIN) -> Path:
    start(directory, domain=domain).close()
    return directory


def content(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mode, path.read_bytes()) for path in directory.iterdir()}


def test_a_second_start_has_the_same_root_and_intermediate(tmp_path: Path) -> None:
    first = start(tmp_path / "ca")
    first.close()
    second = start(tmp_path / "ca")
    assert second.bundle == first.bundle
    assert second.intermediate == first.intermediate
    assert second.issue(WEB, KEY)[1] == first.intermediate.certificate


def test_files_are_private_and_no_temporary_one_is_left(tmp_path: Path) -> None:
    directory = found(tmp_path / "new" / "ca")
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == {"root.pem": 0o600, "intermediate.pem": 0o600}


def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        directory = found(tmp_path / "ca")
    finally:
        os.umask(before)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()} == {0o600}


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.P384, KeyAlgorithm.RSA2048])
def test_other_kinds_of_ca_key_persist_too(tmp_path: Path, algorithm: KeyAlgorithm) -> None:
    first = Authority.create(DOMAIN, ManualClock(), keys=DiskKeys(tmp_path / "ca", algorithm))
    first.close()
    assert start(tmp_path / "ca").bundle == first.bundle


def test_a_renewed_intermediate_persists(tmp_path: Path) -> None:
    clock = ManualClock()
    first = start(tmp_path / "ca", clock)
    clock.advance(16 * DAY)
    first.issue(WEB, KEY)
    first.close()
    assert start(tmp_path / "ca", clock).intermediate == first.intermediate


def test_a_ca_suspended_for_longer_than_its_intermediates_life_renews_it_and_goes_on(tmp_path: Path) -> None:
    clock = ManualClock()
    first = start(tmp_path / "ca", clock)
    first.close()
    clock.advance(100 * DAY)
    second = start(tmp_path / "ca", clock)
    leaf, intermediate = second.issue(WEB, KEY)
    assert second.bundle == first.bundle
    assert intermediate.not_valid_before_utc < clock.now() < leaf.not_valid_after_utc


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
@pytest.mark.parametrize("name", ["root.pem", "intermediate.pem"])
def test_a_key_file_that_others_can_reach_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    directory = found(tmp_path / "ca")
    (directory / name).chmod(mode)
    assert refusal(directory) == (
        f"{directory / name}: mode {mode:04o} gives other users access to a CA key; run chmod 600 {directory / name}"
    )
    (directory / name).chmod(0o600)
    start(directory).close()


@pytest.mark.parametrize("mode", [0o755, 0o710, 0o702])
def test_a_directory_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    directory = found(tmp_path / "ca")
    directory.chmod(mode)
    assert refusal(directory) == (
        f"{directory}: mode {mode:04o} gives other users access to a CA key; run chmod 700 {directory}"
    )
    directory.chmod(0o700)
    start(directory).close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_file_of_another_user_is_refused(tmp_path: Path) -> None:
    directory = found(tmp_path / "ca")
    os.chown(directory / "root.pem", 12345, -1)
    assert refusal(directory) == (
        f"{directory}/root.pem: wanted owner uid 0, the user of this process, got uid 12345;"
        f" run as that user or chown 0 {directory}/root.pem"
    )


def test_a_symbolic_link_in_place_of_a_key_is_refused(tmp_path: Path) -> None:
    directory = found(tmp_path / "ca")
    (directory / "root.pem").rename(tmp_path / "elsewhere.pem")
    (directory / "root.pem").symlink_to(tmp_path / "elsewhere.pem")
    assert refusal(directory) == (
        f"{directory}/root.pem: wanted a file with a CA key to read: Too many levels of symbolic links"
    )


def truncate(directory: Path, other: Path) -> None:
    (directory / "root.pem").write_bytes((directory / "root.pem").read_bytes()[:100])


def drop_key(directory: Path, other: Path) -> None:
    text = (directory / "root.pem").read_bytes()
    (directory / "root.pem").write_bytes(text[: text.index(b"-----BEGIN PRIVATE")])


def two_certificates(directory: Path, other: Path) -> None:
    theirs = (other / "root.pem").read_bytes().partition(b"-----BEGIN PRIVATE")[0]
    (directory / "root.pem").write_bytes(theirs + (directory / "root.pem").read_bytes())


def two_keys(directory: Path, other: Path) -> None:
    _, cut, theirs = (other / "root.pem").read_bytes().partition(b"-----BEGIN PRIVATE")
    (directory / "root.pem").write_bytes((directory / "root.pem").read_bytes() + cut + theirs)


def spoil_certificate(directory: Path, other: Path) -> None:
    text = (directory / "root.pem").read_bytes()
    (directory / "root.pem").write_bytes(text.replace(b"MII", b"AAA", 1))


def foreign_key(directory: Path, other: Path) -> None:
    mine, theirs = (folder / "root.pem" for folder in (directory, other))
    cut = b"-----BEGIN PRIVATE"
    mine.write_bytes(mine.read_bytes().partition(cut)[0] + cut + theirs.read_bytes().partition(cut)[2])


def foreign_intermediate(directory: Path, other: Path) -> None:
    (directory / "intermediate.pem").write_bytes((other / "intermediate.pem").read_bytes())


def no_root(directory: Path, other: Path) -> None:
    (directory / "root.pem").unlink()


def no_intermediate(directory: Path, other: Path) -> None:
    (directory / "intermediate.pem").unlink()


BACKUP = "; restore the file from a backup"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (truncate, "root.pem: wanted one CERTIFICATE and one PRIVATE KEY in PEM, got no PEM at all" + BACKUP),
        (
            drop_key,
            "root.pem: its private key is elsewhere; configure key_manager.pkcs11 if it is in a token, offline_root if"
            " it is the key of an offline root",
        ),
        (
            two_certificates,
            "root.pem: wanted one CERTIFICATE and one PRIVATE KEY in PEM, got CERTIFICATE, CERTIFICATE, PRIVATE KEY"
            + BACKUP,
        ),
        (
            two_keys,
            "root.pem: wanted one CERTIFICATE and one PRIVATE KEY in PEM, got CERTIFICATE, PRIVATE KEY, PRIVATE KEY"
            + BACKUP,
        ),
        (foreign_key, "root.pem: the private key does not belong to the certificate" + BACKUP),
        (
            foreign_intermediate,
            "intermediate.pem: the certificate was not signed by the stored root;"
            " restore both files from the same backup",
        ),
        (
            no_root,
            "root.pem: missing, though the CA's other file is there;"
            " restore it from a backup, or empty the directory to start a new CA",
        ),
        (
            no_intermediate,
            "intermediate.pem: missing, though the CA's other file is there;"
            " restore it from a backup, or empty the directory to start a new CA",
        ),
    ],
)
def test_a_damaged_key_directory_is_a_clear_error(
    tmp_path: Path, spoil: Callable[[Path, Path], None], message: str
) -> None:
    directory, other = found(tmp_path / "ca"), found(tmp_path / "other")
    spoil(directory, other)
    assert refusal(directory) == f"{directory}/{message}"


def test_a_certificate_that_cannot_be_parsed_is_a_clear_error(tmp_path: Path) -> None:
    directory = found(tmp_path / "ca")
    spoil_certificate(directory, directory)
    message = refusal(directory)
    assert message.startswith(f"{directory}/root.pem: ")
    assert message.endswith(BACKUP)


@pytest.mark.filterwarnings("ignore:Parsed a serial number which wasn't positive")
@pytest.mark.parametrize("name", ["root.pem", "intermediate.pem"])
def test_a_certificate_with_any_byte_changed_is_a_clear_error(tmp_path: Path, name: str) -> None:
    """Except the count of unused bits before its signature, which parsers ignore."""
    directory = found(tmp_path / "ca")
    text = (directory / name).read_bytes()
    head, cut, key = text.partition(b"-----BEGIN PRIVATE")
    der = x509.load_pem_x509_certificate(head).public_bytes(Encoding.DER)
    accepted = 0
    for place in range(len(der)):
        spoiled = der[:place] + bytes([der[place] ^ 0x05]) + der[place + 1 :]
        pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(spoiled) + b"-----END CERTIFICATE-----\n"
        (directory / name).write_bytes(pem + cut + key)
        try:
            start(directory).close()
        except ConfigError as error:
            assert str(error).startswith(f"{directory}/")  # noqa: PT017  # one of several hundred
        else:
            accepted += 1
    assert accepted <= 1


def test_a_ca_of_another_trust_domain_is_refused(tmp_path: Path) -> None:
    directory = found(tmp_path / "ca", TrustDomain("other.org"))
    assert refusal(directory) == (
        f"{directory}/root.pem: wanted a CA of trust domain example.org, got spiffe://other.org;"
        " give the data directory of this trust domain, or an empty one"
    )
    start(directory, domain=TrustDomain("other.org")).close()


def refusal(directory: Path) -> str:
    """The error message of a start, which must change nothing and leave the directory unlocked."""
    before = content(directory)
    with pytest.raises(ConfigError) as raised:
        start(directory)
    assert content(directory) == before
    return str(raised.value)


def test_two_authorities_cannot_have_one_directory(tmp_path: Path) -> None:
    first = start(tmp_path / "ca")
    with pytest.raises(ConfigError) as raised:
        start(tmp_path / "ca")
    assert str(raised.value) == (
        f"data directory {tmp_path}/ca: another process uses it; stop that process or use another directory"
    )
    first.close()
    start(tmp_path / "ca").close()


def test_a_refused_start_leaves_the_directory_free(tmp_path: Path) -> None:
    directory = found(tmp_path / "ca")
    with pytest.raises(ConfigError):
        start(directory, domain=TrustDomain("other.org"))
    start(directory).close()


def test_a_file_in_place_of_the_directory_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("not a directory")
    with pytest.raises(ConfigError) as raised:
        start(tmp_path / "ca")
    assert str(raised.value) == f"data directory {tmp_path}/ca: wanted a directory to use: File exists"


FULL_DISK = """
import resource, sys
from pathlib import Path
from meshtls.errors import ConfigError
from tests.support.clock import ManualClock
from tests.unit.ca.test_keys_disk import DAY, KEY, WEB, start
clock = ManualClock()
authority = start(Path(sys.argv[1]), clock) if sys.argv[2] == "renew" else None
resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))
try:
    if authority:
        clock.advance(16 * DAY)
        authority.issue(WEB, KEY)
        authority.close()
    else:
        start(Path(sys.argv[1]), clock)
except ConfigError as error:
    print(error)
"""


def on_a_full_disk(directory: Path, what: str) -> str:
    """The output of a process that may write at most 64 bytes to a file."""
    command = [sys.executable, "-c", FULL_DISK, str(directory), what]
    root = Path(__file__).parents[3]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True, timeout=30).stdout


def test_a_full_disk_at_the_first_start_is_a_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    directory = tmp_path / "ca"
    assert on_a_full_disk(directory, "found") == (
        f"{directory}/root.pem, {directory}/intermediate.pem: could not be written: File too large;"
        " the directory has to be writable and its disk to have room\n"
    )
    assert content(directory) == {}
    start(directory).close()


def test_a_full_disk_at_a_renewal_loses_nothing(tmp_path: Path) -> None:
    directory = found(tmp_path / "ca")
    before = content(directory)
    assert on_a_full_disk(directory, "renew") == ""
    assert content(directory) == before
    start(directory).close()


def test_the_repr_shows_no_key(tmp_path: Path) -> None:
    keys = DiskKeys(tmp_path / "ca")
    assert repr(keys) == f"<DiskKeys {tmp_path}/ca [locked]>"
    keys.close()
    keys.close()
    assert repr(keys) == f"<DiskKeys {tmp_path}/ca [closed]>"
