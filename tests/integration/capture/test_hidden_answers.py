"""What is told of OpenSSL's own programs: padded records, suites without certificates, a refused renegotiation."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import pytest

from meshtls.observe.events import Outcome
from meshtls.wire.side import Side
from tests.support.tls_capture import closed_by
from tests.support.tls_wire import Program, programs
from tests.support.waiting import SECONDS

MUTUAL = ("-Verify", "2", "-verify_return_error", "-tls1_3")
PADDED = ("-record_padding", "512")


told = partial(closed_by, Side.SERVER)


async def _ended(program: Program) -> None:
    async with asyncio.timeout(SECONDS):
        await program.process.communicate()


@pytest.mark.parametrize("certificate", [False, True])
@pytest.mark.parametrize("padding", [(), PADDED])
async def test_nothing_is_concluded_from_the_lengths_of_padded_records(
    tmp_path: Path, padding: tuple[str, ...], certificate: bool
) -> None:
    keys = tmp_path / "keys"
    async with programs(tmp_path, keys, *MUTUAL, *padding) as server:
        async with server.client(*padding, certificate=certificate) as client:
            if certificate:
                await client.told(b"Post-Handshake New Session Ticket arrived", of=2)
                await server.server.type(b"Q\n")
            else:
                await client.told(b"alert certificate required")
            await _ended(client)
        flights = list(server.flights)
    outcome = Outcome.OK if certificate else Outcome.NO_CLIENT_CERTIFICATE
    assert told(flights, keys).outcome is outcome
    found = told(flights)
    assert found.handshake is not None
    assert (found.outcome, found.handshake.mutual) == (None, "unknown")
    if padding:
        assert found.handshake.mutual_likely == "unknown"
        assert found.problem == ""
        assert found.unknown_because == (
            "no record of the server 10.0.0.2:443 has the length of a short message of TLS, as where records are "
            "padded: its application data can't be told from session tickets and alerts; the keys (--keylog FILE) show "
            "it"
        )
    else:
        assert found.handshake.mutual_likely == ("yes" if certificate else "no")
        assert ("likely it refused the client" in found.problem) is not certificate


PSK = ("-psk", "0123456789abcdef")


@pytest.mark.parametrize(
    ("suite", "options", "state", "legal"),
    [
        ("PSK-AES128-GCM-SHA256", PSK, "not followed: PSK or anonymous suite", None),
        ("PSK-AES128-GCM-SHA256", (*PSK, "-psk_hint", "hint"), "not followed: PSK or anonymous suite", None),
        ("ADH-AES256-GCM-SHA384", (), "not followed: PSK or anonymous suite", None),
        ("AECDH-AES256-SHA", (), "not followed: PSK or anonymous suite", None),
        ("ECDHE-ECDSA-AES128-GCM-SHA256", (), "OPAQUE_ENDED", True),
    ],
)
async def test_suites_without_certificates_are_not_told_as_illegal(
    tmp_path: Path, suite: str, options: tuple[str, ...], state: str, legal: bool | None
) -> None:
    shared = ("-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
    async with programs(tmp_path, tmp_path / "keys", *shared, *options) as server:
        async with server.client(*shared, *(PSK if PSK[0] in options else ())) as client:
            await client.told(b"Cipher is ")
            await client.quit()
        flights = list(server.flights)
    found = told(flights)
    assert found.handshake is not None
    assert (found.handshake.state, found.handshake.legal, found.problem) == (state, legal, "")


async def test_a_refused_renegotiation_is_told_as_that(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    async with programs(tmp_path, keys, "-tls1_2") as server:
        async with server.client("-tls1_2") as client:
            await client.told(b"Verify return code")
            await client.type(b"R\n")
            await _ended(client)
        flights = list(server.flights)
    found = told(flights, keys)
    assert found.outcome is Outcome.HANDSHAKE_FAILED
    assert found.problem == (
        "the client 10.0.0.1:40001 sent the alert handshake_failure: the server 10.0.0.2:443 (spiffe://a.test/web) "
        "refused the renegotiation of this established connection"
    )
    assert found.advice == "configure that side not to renegotiate, or use TLS 1.3, which has no renegotiation"
    without = told(flights)
    assert without.handshake is not None
    assert (without.outcome, without.advice, without.handshake.mutual) == (None, found.advice, "no")
    assert without.problem == (
        "the client 10.0.0.1:40001 asked to renegotiate this established connection, and the server 10.0.0.2:443 "
        "(spiffe://a.test/web) sent an encrypted alert: likely it refused that; the keys (--keylog FILE) show it"
    )


@pytest.mark.parametrize("asked", [True, False])
async def test_a_certificate_of_a_renegotiation_may_have_been_sent(tmp_path: Path, asked: bool) -> None:
    """OpenSSL's server begins a renegotiation in which it asks for one, where it is told to."""
    async with programs(tmp_path, tmp_path / "keys", "-tls1_2", "-no_resumption_on_reneg") as server:
        async with server.client("-tls1_2") as client:
            await client.told(b"Verify return code")
            if asked:
                await server.server.type(b"R\n")
                await server.server.told(b"verify return:1", of=2)  # of both certificates of the client's chain
            await client.quit()
        flights = list(server.flights)
    found = told(flights)
    assert found.handshake is not None
    again = (
        "an encrypted handshake followed the first one, in which the server may have asked for a certificate, and the "
        "client may have sent one"
    )
    assert (found.handshake.mutual, found.handshake.mutual_reason) == (
        ("unknown", again) if asked else ("no", "the server asked for no certificate")
    )


async def test_an_external_key_of_tls_1_3_is_not_told_as_a_resumed_session(tmp_path: Path) -> None:
    shared = ("-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256", *PSK)  # such a key has the hash SHA-256
    async with programs(tmp_path, tmp_path / "keys", *shared) as server:
        async with server.client(*shared) as client:
            await client.told(b"Verify return code")
            await client.quit()
        flights = list(server.flights)
    found = told(flights)
    assert found.handshake is not None
    assert (found.handshake.resumed, found.handshake.mutual) == ("unknown", "unknown")
    assert found.handshake.mutual_reason == (
        "a pre-shared key was used, which seems not to be of an earlier session: it takes the place of certificates"
    )


@pytest.mark.parametrize(
    ("suite", "troubles"),
    [
        (
            "ECDHE-ECDSA-NULL-SHA",
            (
                "server, byte 0: the suite TLS_ECDHE_ECDSA_WITH_NULL_SHA does not encrypt: its data is in clear for "
                "everybody on the way; it is not read here",
            ),
        ),
        ("ECDHE-ECDSA-AES128-SHA", ()),
    ],
)
async def test_a_suite_that_does_not_encrypt_is_told(tmp_path: Path, suite: str, troubles: tuple[str, ...]) -> None:
    shared = ("-tls1_2", "-cipher", f"{suite}:@SECLEVEL=0")
    async with programs(tmp_path, tmp_path / "keys", *shared) as server:
        async with server.client(*shared) as client:
            await client.told(b"Verify return code")
            await client.quit()
        flights = list(server.flights)
    assert told(flights).troubles == troubles
