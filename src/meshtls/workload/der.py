"""Concatenated DER, the form in which the Workload API sends chains and bundles. Pure."""

from __future__ import annotations

__all__ = ["split_der"]

_SEQUENCE = 0x30
_LONG_FORM = 0x80


def split_der(data: bytes) -> list[bytes]:
    """Split concatenated DER SEQUENCEs (X.690, section 8.1.3). Raises ValueError for anything else."""
    values, start = [], 0
    while start < len(data):
        end = _end(data, start)
        values.append(data[start:end])
        start = end
    return values


def _end(data: bytes, start: int) -> int:
    if data[start] != _SEQUENCE:
        raise ValueError(f"byte {start} of the DER: wanted the start of a SEQUENCE, got 0x{data[start]:02x}")
    first = data[start + 1 : start + 2]
    size = first[0] & ~_LONG_FORM if first and first[0] & _LONG_FORM else 0
    length = data[start + 2 : start + 2 + size] if size else first
    end = start + 2 + size + int.from_bytes(length)
    if len(length) != (size or 1) or end > len(data) or first[0] == _LONG_FORM:
        raise ValueError(f"byte {start} of the DER: the SEQUENCE there is cut off or has no length")
    return end
