"""Whether lengths of encrypted records look like those of their content, by a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshtls.capture.aead import aead_of_suite
from meshtls.capture.analysis.row import bytes_of
from meshtls.capture.padding import has_short_message, is_padded
from meshtls.wire.side import Side
from tests.support.tls_capture import Tape, analyzed
from tests.support.tls_wire import Wire, contexts

AES_128_GCM_SHA256, AES_256_GCM_SHA384, AES_128_CCM_8_SHA256 = 0x1301, 0x1302, 0x1305
FULL = 16384 + 1 + 16


@pytest.mark.parametrize(
    ("suite", "lengths", "short", "padded"),
    [
        (AES_256_GCM_SHA384, [], False, False),
        # EncryptedExtensions, an alert, Finished of either hash.
        (AES_256_GCM_SHA384, [23, 900], True, False),
        (AES_256_GCM_SHA384, [900, 19], True, False),
        (AES_256_GCM_SHA384, [900, 69], True, False),
        (AES_256_GCM_SHA384, [900, 53], False, False),
        (AES_128_GCM_SHA256, [900, 53], True, False),
        (AES_128_CCM_8_SHA256, [900, 45], True, False),
        # Multiples of one size, and a tag.
        (AES_256_GCM_SHA384, [528, 528], False, True),
        (AES_256_GCM_SHA384, [528, 1040, 1552], False, True),
        (AES_256_GCM_SHA384, [516, 1016], False, True),
        (AES_256_GCM_SHA384, [528, 1040, FULL], False, True),
        (AES_256_GCM_SHA384, [528], False, True),
        (AES_128_CCM_8_SHA256, [520, 1032], False, True),
        (AES_256_GCM_SHA384, [528, 1041], False, False),
        (AES_256_GCM_SHA384, [529], False, False),
        (AES_256_GCM_SHA384, [FULL], False, False),
    ],
)
def test_lengths_of_multiples_of_one_size_look_padded(
    suite: int, lengths: list[int], short: bool, padded: bool
) -> None:
    aead = aead_of_suite(suite)
    assert aead is not None
    assert (has_short_message(lengths, aead), is_padded(lengths, aead)) == (short, padded)


@pytest.mark.parametrize(
    ("said", "answered", "padded"),
    [
        # With its type a record of 127 bytes has the length of any that is padded to a multiple of 128.
        ([127], [255, 511], True),
        ([127], [40], True),
        ([40], [127, 383, 16384], True),
        ([99, 199], [40], True),
        # Requests that are alike.
        ([99, 99, 99], [40], False),
        ([40, 41], [255, 256], False),
        ([40], [16384, 16384], False),
    ],
)
def test_the_amount_of_application_data_that_looks_padded_is_a_bound(
    said: list[int], answered: list[int], padded: bool, tmp_path: Path
) -> None:
    wire = Wire(*contexts(tmp_path, tmp_path / "keys", mutual=True, version=3))
    assert wire.shake() == {}
    for side, lengths in ((Side.CLIENT, said), (Side.SERVER, answered)):
        for length in lengths:
            wire.send(side, bytes(length))
    wire.close()
    tape = Tape()
    tape.wire(wire)
    [found], [known] = analyzed(tape), analyzed(tape, tmp_path / "keys")
    sent = sum(said), sum(answered)
    assert (found.client.application_bytes, found.server.application_bytes) == sent
    assert (found.estimated, found.at_most, bytes_of(found)) == (True, padded, f"{'<=' if padded else '~'}{sum(sent)}")
    assert (known.estimated, known.at_most, bytes_of(known)) == (False, False, str(sum(sent)))
