"""The Certificate message that a CompressedCertificate holds (RFC 8879, section 4). Pure."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from meshtls.wire.tls.assembling import MAX_MESSAGE, MESSAGE_HEADER
from meshtls.wire.tls.names import CERTIFICATE_COMPRESSIONS, HandshakeType, name_of
from meshtls.wire.tls.reading import DecodeError, vector

__all__ = ["decompressed_certificate"]

_ALGORITHM, _LENGTH, _CONTENT = MESSAGE_HEADER, MESSAGE_HEADER + 2, MESSAGE_HEADER + 5
_ZLIB, _BROTLI, _ZSTD = 1, 2, 3
#: The window that a decoder has to support, 8 MiB (RFC 8878, section 3.1.1.1.2); a hostile frame may ask for 128.
_ZSTD_WINDOW_LOG = 23


def decompressed_certificate(message: bytes) -> bytes | DecodeError:
    """The Certificate message, with a header of its own, or why there is none. ``message`` includes its header.

    At most MAX_MESSAGE bytes are made of it. Brotli and zstd need the packages of ``meshtls[capture]``, but that Python
    3.14 has zstd itself.
    """
    algorithm = int.from_bytes(message[_ALGORITHM:_LENGTH], "big")
    size = int.from_bytes(message[_LENGTH:_CONTENT], "big")
    try:
        start, end = vector(message, _CONTENT, 3)
    except ValueError:
        return DecodeError(_CONTENT, "wanted a whole CompressedCertificate, got one that is cut off")
    name = name_of(CERTIFICATE_COMPRESSIONS, algorithm)
    if algorithm not in _FORMATS:
        return DecodeError(_ALGORITHM, f"wanted the algorithm zlib, brotli or zstd, got {name}")
    if size > MAX_MESSAGE - MESSAGE_HEADER:
        return DecodeError(_LENGTH, f"wanted at most {MAX_MESSAGE - MESSAGE_HEADER} bytes uncompressed, got {size}")
    wanted = _FORMATS[algorithm]
    library = _library(wanted.modules)
    if library is None:
        return DecodeError(_ALGORITHM, f"{name} is not installed: pip install 'meshtls[capture]'")
    try:
        content = wanted.decompress(library, message[start:end], size + 1)
    except getattr(library, wanted.error):
        return DecodeError(start, f"wanted the format of {name}, got other bytes")
    if len(content) != size:
        got = f"at least {size + 1}" if len(content) > size else len(content)
        return DecodeError(start, f"wanted {size} bytes uncompressed, got {got}")
    return bytes((HandshakeType.CERTIFICATE, *size.to_bytes(3, "big"))) + content


def _zlib(library: Any, content: bytes, most: int) -> bytes:
    return library.decompressobj().decompress(content, most)  # type: ignore[no-any-return]


def _zstd(library: Any, content: bytes, most: int) -> bytes:
    options = {library.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    return library.ZstdDecompressor(options=options).decompress(content, most)  # type: ignore[no-any-return]


def _brotli(library: Any, content: bytes, most: int) -> bytes:
    """May return more than ``most`` bytes, by what the library buffers: some 32 KiB."""
    decompressor = library.Decompressor()
    pieces = [decompressor.process(content, output_buffer_limit=most)]
    while pieces[-1] and sum(map(len, pieces)) < most and not decompressor.is_finished():
        pieces.append(decompressor.process(b"", output_buffer_limit=most))
    return b"".join(pieces)


class _Format(NamedTuple):
    #: The first of these modules that is installed has it, and raises ``error``.
    modules: tuple[str, ...]
    error: str
    #: The first bytes of what is decompressed: at least as many as wanted, or all.
    decompress: Callable[[Any, bytes, int], bytes]


_FORMATS: Mapping[int, _Format] = {
    _ZLIB: _Format(("zlib",), "error", _zlib),
    _BROTLI: _Format(("brotli",), "error", _brotli),
    _ZSTD: _Format(("compression.zstd", "backports.zstd"), "ZstdError", _zstd),
}


def _library(modules: tuple[str, ...]) -> Any:
    for name in modules:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
