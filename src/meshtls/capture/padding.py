"""Whether the lengths of a side's encrypted records of TLS 1.3 are those of their content. Pure.

Records may be padded (RFC 8446, section 5.4), most often to multiples of one size. A side that does not pad sends some
records whose lengths are known beforehand: a Finished, an alert, EncryptedExtensions without extensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import gcd

from meshtls.capture.aead import SuiteAead

__all__ = ["has_short_message", "is_padded"]

#: Bytes of EncryptedExtensions without extensions, and of an alert.
_NO_EXTENSIONS, _ALERT = 6, 2
_FULL = 16384
#: The least size to whose multiples several records are padded, and of a single record.
_STEP, _SINGLE_STEP = 16, 64


def has_short_message(lengths: Iterable[int], aead: SuiteAead) -> bool:
    """Whether one of these payloads has the length of a short message of TLS without padding."""
    overhead = aead.overhead
    known = {overhead + aead.finished_bytes, overhead + _ALERT, overhead + _NO_EXTENSIONS}
    return not known.isdisjoint(lengths)


def is_padded(lengths: Sequence[int], aead: SuiteAead) -> bool:
    """Whether these payloads look padded: none is a short message, and all are multiples of one size. A full record has
    no room for padding.
    """
    if has_short_message(lengths, aead):
        return False
    longest = _FULL + aead.tag_bytes
    inner = [length - aead.tag_bytes for length in lengths if length <= longest]
    if len(inner) > 1:
        return gcd(*inner) >= _STEP
    return bool(inner) and inner[0] % _SINGLE_STEP == 0
