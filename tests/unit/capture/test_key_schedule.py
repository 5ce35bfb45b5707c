"""Key derivation gives what the standards' own examples have."""

from __future__ import annotations

import pytest

from meshtls.capture.aead import Cipher, aead_of_suite, suites_of_secret
from meshtls.capture.key_schedule import TrafficKeys, keys_of_secret, prf
from meshtls.wire.tls.suites import CIPHER_SUITES

#: RFC 8448, section 3: the server's handshake traffic secret, and its keys.
TRAFFIC = "b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38"
KEY, IV = "3fce516009c21727d0f2e4e86ee403bc", "5d313eb2671276ee13000b30"


def test_the_keys_of_a_secret_are_those_of_rfc_8448() -> None:
    aead = aead_of_suite(0x1301)
    assert aead is not None
    assert keys_of_secret(aead, bytes.fromhex(TRAFFIC)) == TrafficKeys(bytes.fromhex(KEY), bytes.fromhex(IV))


def test_the_function_of_tls_1_2_gives_the_known_answer() -> None:
    # The test vector for SHA-256 that implementers of the PRF share.
    secret = bytes.fromhex("9bbe436ba940f017b17652849a71db35")
    seed = bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c")
    wanted = "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a6b301791e90d35c9c9a46b4e14baf9af"
    assert prf("sha256", secret, b"test label", seed, 48).hex() == wanted


@pytest.mark.parametrize(
    ("name", "cipher", "key_bytes", "tag_bytes", "hash_name", "explicit"),
    [
        ("TLS_AES_128_GCM_SHA256", Cipher.AES_GCM, 16, 16, "sha256", 8),
        ("TLS_AES_256_GCM_SHA384", Cipher.AES_GCM, 32, 16, "sha384", 8),
        ("TLS_CHACHA20_POLY1305_SHA256", Cipher.CHACHA20_POLY1305, 32, 16, "sha256", 0),
        ("TLS_AES_128_CCM_SHA256", Cipher.AES_CCM, 16, 16, "sha256", 8),
        ("TLS_AES_128_CCM_8_SHA256", Cipher.AES_CCM_8, 16, 8, "sha256", 8),
        ("TLS_ECDHE_ECDSA_WITH_AES_256_CCM_8", Cipher.AES_CCM_8, 32, 8, "sha256", 8),
        ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Cipher.AES_GCM, 32, 16, "sha384", 8),
        ("TLS_RSA_WITH_AES_128_CBC_SHA256", None, 0, 0, "", 0),
        ("TLS_ECDHE_RSA_WITH_ARIA_128_GCM_SHA256", None, 0, 0, "", 0),
        ("TLS_AEGIS_256_SHA512", None, 0, 0, "", 0),
    ],
)
def test_a_suite_is_known_by_its_name(
    name: str, cipher: Cipher | None, key_bytes: int, tag_bytes: int, hash_name: str, explicit: int
) -> None:
    (number,) = (number for number, one in CIPHER_SUITES.items() if one == name)
    aead = aead_of_suite(number)
    if cipher is None:
        assert aead is None
    else:
        assert aead is not None
        assert aead[:5] == (cipher, key_bytes, tag_bytes, hash_name, explicit)
        hash_bytes = {"sha256": 32, "sha384": 48}[hash_name]
        assert (aead.hash_bytes, aead.overhead, aead.finished_bytes) == (hash_bytes, tag_bytes + 1, hash_bytes + 4)


def test_a_secret_says_by_its_length_which_suites_it_may_be_for() -> None:
    assert [one.cipher for one in suites_of_secret(48)] == [Cipher.AES_GCM]
    assert {one.cipher for one in suites_of_secret(32)} == set(Cipher)
    assert suites_of_secret(20) == ()


def test_an_unknown_suite_has_no_aead() -> None:
    assert aead_of_suite(0xFFFE) is None


def test_keys_are_not_shown() -> None:
    assert repr(TrafficKeys(b"k" * 16, b"i" * 12)) == "<TrafficKeys>"
