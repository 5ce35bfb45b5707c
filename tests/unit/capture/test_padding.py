"""Whether lengths of encrypted records look like those of their content, by a table."""

from __future__ import annotations

import pytest

from meshtls.capture.aead import aead_of_suite
from meshtls.capture.padding import has_short_message, is_padded

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
