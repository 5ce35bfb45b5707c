"""Keys in a PKCS#11 token: made by it, never readable, and usable again once a token that was gone is back."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from meshtls.ca.keys.manager import KeyAlgorithm
from meshtls.ca.keys.pkcs11 import Pin, Token
from meshtls.ca.keys.token_keys import TokenEcKey, TokenRsaKey
from meshtls.errors import ConfigError, TokenError
from meshtls.svid.x509 import PrivateKey
from tests.support.softhsm import MODULE, PIN, SoftHsm, soft_hsm

DATA = b"to be signed"


@dataclass
class Seconds:
    """A monotonic clock that moves when told."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hsm(tmp_path: Path) -> Iterator[SoftHsm]:
    with soft_hsm(tmp_path / "hsm") as found:
        yield found


def signed(key: PrivateKey) -> None:
    """Sign with this key, and verify with cryptography."""
    if isinstance(key, rsa.RSAPrivateKey):
        key.public_key().verify(key.sign(DATA, padding.PKCS1v15(), SHA256()), DATA, padding.PKCS1v15(), SHA256())
        return
    algorithm = ec.ECDSA(SHA384() if key.curve.key_size > 256 else SHA256())
    key.public_key().verify(key.sign(DATA, algorithm), DATA, algorithm)


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_each_kind_of_key_signs_what_cryptography_verifies(hsm: SoftHsm, algorithm: KeyAlgorithm) -> None:
    token = hsm.token()
    key = token.generate(algorithm, "root")
    signed(key)
    signed(hsm.token().find(key.public_key()))
    listed = hsm.objects()
    assert "Access:     sensitive, always sensitive, never extractable, local" in listed
    assert "Usage:      sign" in listed


def test_a_key_in_a_token_can_not_be_read(hsm: SoftHsm) -> None:
    key = hsm.token().generate(KeyAlgorithm.P256, "root")
    with pytest.raises(ConfigError, match="^a key in a token can't be read; it only signs$"):
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ConfigError, match="^a key in a token can't be read; it only signs$"):
        key.private_numbers()


def test_a_key_is_found_by_its_public_key_among_others(hsm: SoftHsm) -> None:
    token = hsm.token()
    keys = [token.generate(KeyAlgorithm.P256, "root") for _ in range(3)]
    for key in keys:
        found = token.find(key.public_key())
        assert found.public_key() == key.public_key()
        signed(found)
    other = ec.generate_private_key(ec.SECP256R1()).public_key()
    with pytest.raises(ConfigError) as refused:
        token.find(other)
    assert str(refused.value) == (
        f"token mesh of {MODULE}: wanted a key that it hasn't got; give the token that has it"
    )


def test_a_destroyed_key_is_gone_and_the_other_one_is_not(hsm: SoftHsm) -> None:
    token = hsm.token()
    one, other = (token.generate(KeyAlgorithm.P256, "root") for _ in range(2))
    assert isinstance(one, TokenEcKey | TokenRsaKey)
    token.destroy(one)
    signed(other)
    with pytest.raises(ConfigError, match="hasn't got"):
        signed(one)


def test_a_token_that_is_gone_is_told_of_and_used_again_once_it_is_back(hsm: SoftHsm) -> None:
    seconds = Seconds()
    token = Token(MODULE, "mesh", Pin(hsm.pin_file), seconds)
    key = token.generate(KeyAlgorithm.P256, "root")
    hsm.pull()
    with pytest.raises(TokenError) as gone:
        signed(key)
    assert str(gone.value) == (
        f"token mesh of {MODULE}: wanted a token that can be used, got GeneralError; connect it, or correct module and"
        " token; it is tried again with the next request"
    )
    hsm.plug()
    with pytest.raises(TokenError):  # not asked again within a second
        signed(key)
    seconds.now += 1
    signed(key)


def test_a_token_that_was_away_between_two_signatures_is_not_missed(hsm: SoftHsm) -> None:
    key = hsm.token().generate(KeyAlgorithm.P384, "root")
    hsm.pull()
    hsm.plug()
    signed(key)


def test_a_wrong_pin_is_sent_once_so_that_the_token_does_not_lock_itself(hsm: SoftHsm) -> None:
    hsm.pin_file.write_text("11111111")
    token = hsm.token()
    with pytest.raises(TokenError) as refused:
        token.generate(KeyAlgorithm.P256, "root")
    assert str(refused.value) == f"token mesh of {MODULE}: it refuses the PIN in {hsm.pin_file}; correct the PIN"
    with pytest.raises(TokenError, match="it has refused the PIN in .*, which is not sent again; correct the PIN$"):
        token.generate(KeyAlgorithm.P256, "root")
    hsm.pin_file.write_text(PIN)
    signed(token.generate(KeyAlgorithm.P256, "root"))


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        (
            Pin(variable="MESHTLS_TEST_NO_PIN"),
            "environment variable MESHTLS_TEST_NO_PIN: wanted the token's PIN, got nothing; set the variable",
        ),
        (
            Pin(Path("/nonexistent/pin")),
            "/nonexistent/pin: wanted a file with the token's PIN to read: No such file or directory",
        ),
    ],
)
def test_a_missing_pin_is_told_of(hsm: SoftHsm, pin: Pin, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Token(MODULE, "mesh", pin).generate(KeyAlgorithm.P256, "root")
    assert str(refused.value) == message


def test_a_pin_comes_from_the_environment_and_shows_nowhere(hsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESHTLS_TEST_PIN", PIN)
    pin = Pin(variable="MESHTLS_TEST_PIN")
    token = Token(MODULE, "mesh", pin)
    signed(token.generate(KeyAlgorithm.P256, "root"))
    assert not [text for text in (repr(pin), str(pin), repr(token), str(token)) if PIN in text]


def test_a_pin_file_that_others_can_read_is_refused(hsm: SoftHsm) -> None:
    hsm.pin_file.chmod(0o640)
    with pytest.raises(ConfigError, match=f"^{hsm.pin_file}: mode 0640 gives other users access"):
        hsm.token().generate(KeyAlgorithm.P256, "root")
    hsm.pin_file.chmod(0o600)
    signed(hsm.token().generate(KeyAlgorithm.P256, "root"))


def test_threads_share_a_token(hsm: SoftHsm) -> None:
    token = hsm.token()
    keys = [token.generate(KeyAlgorithm.P256, "root") for _ in range(4)]
    wrong: list[Exception] = []

    def use(key: PrivateKey) -> None:
        try:
            for _ in range(50):
                signed(key)
        except Exception as error:  # noqa: BLE001  # of whatever kind: the test tells it
            wrong.append(error)

    threads = [threading.Thread(target=use, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_forked_child_opens_the_token_anew(hsm: SoftHsm) -> None:
    token = hsm.token()
    key = token.generate(KeyAlgorithm.P256, "root")
    child = os.fork()
    if child == 0:
        try:
            signed(key)
            signed(token.generate(KeyAlgorithm.P256, "root"))
        except BaseException:  # noqa: BLE001  # the parent is told by the status
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    signed(key)


def test_two_tokens_of_one_module_keep_their_keys_apart_when_it_is_initialized_again(hsm: SoftHsm) -> None:
    hsm.add("other")
    one, other = hsm.token("mesh"), hsm.token("other")
    # The module knows of a new token only after it is initialized again.
    keys = [one.generate(KeyAlgorithm.P256, "root"), other.generate(KeyAlgorithm.P256, "root")]
    hsm.pull()
    hsm.plug()
    for key in keys * 2:
        signed(key)
    with pytest.raises(ConfigError, match="hasn't got"):
        other.find(keys[0].public_key())


def test_a_missing_module_or_token_is_told_of(hsm: SoftHsm) -> None:
    with pytest.raises(TokenError, match=r"^token mesh of /nonexistent.so: wanted a token that can be used, got "):
        Token(Path("/nonexistent.so"), "mesh", Pin(hsm.pin_file)).generate(KeyAlgorithm.P256, "root")
    with pytest.raises(
        TokenError, match=f"^token absent of {MODULE}: wanted a token that can be used, got NoSuchToken"
    ):
        hsm.token("absent").generate(KeyAlgorithm.P256, "root")
