"""Signed notes with Ed25519 (C2SP signed-note), and cosignatures of checkpoints (C2SP tlog-cosignature). Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from meshtls.errors import LogProofError, RequestError
from meshtls.parse_errors import PARSE_ERRORS
from meshtls.scalars import shown

__all__ = [
    "KeyType",
    "Note",
    "NoteKey",
    "NoteSignature",
    "NoteSigner",
    "base64_bytes",
    "cosign",
    "sign_note",
    "signature_lines",
]

_DASH = "\u2014 "
_MAX_NOTE = 65536
_MAX_SIGNATURES = 64
_SIGNATURE_BYTES = 64


class NoteSigner(Protocol):
    """An Ed25519 private key, or a token's handle to one: it needs only to sign."""

    def sign(self, data: bytes, /) -> bytes: ...

    def public_key(self) -> Ed25519PublicKey: ...


class KeyType(IntEnum):
    """What a key signs: the byte that begins its encoding."""

    NOTE = 0x01
    COSIGNATURE = 0x04


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A key that verifies. ``str`` of it is the form in which it is published: ``name+ID+base64``."""

    name: str
    public: bytes
    type: KeyType = KeyType.NOTE

    @classmethod
    def of(cls, name: str, signer: NoteSigner, type: KeyType = KeyType.NOTE) -> NoteKey:  # noqa: A002
        """The key of this signer. Raises RequestError for an invalid name."""
        return cls(_name(name), signer.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), type)

    @classmethod
    def parse(cls, text: str) -> NoteKey:
        """Raises RequestError for any text that is not the form of an Ed25519 key."""
        name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            data = base64_bytes(encoded)
            key = cls(_name(name), data[1:], KeyType(data[0]))
            Ed25519PublicKey.from_public_bytes(key.public)
        except (*PARSE_ERRORS, IndexError) as error:
            raise RequestError(f"wanted a log's or witness's Ed25519 key, name+ID+base64, got {shown(text)}") from error
        if key.id.hex() != key_id:
            raise RequestError(f"key {name}: its ID should be {key.id.hex()}, got {shown(key_id)}; copy the key again")
        return key

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.type]) + self.public).digest()[:4]

    def is_of(self, signature: NoteSignature) -> bool:
        """Whether the line of this signature names this key. Nothing is verified."""
        return (signature.name, signature.key_id) == (self.name, self.id)

    def verifies(self, signature: NoteSignature, text: str) -> bool:
        """Whether this key made the signature. One of a cosigner covers its time, too."""
        message, rest = text.encode(), signature.data
        if self.type is KeyType.COSIGNATURE:
            if len(rest) != 8 + _SIGNATURE_BYTES:
                return False
            message, rest = _cosigned(text, int.from_bytes(rest[:8], "big")), rest[8:]
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(rest, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(bytes([self.type]) + self.public).decode()}"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: ``key_id`` is 4 bytes, ``data`` what follows it."""

    name: str
    key_id: bytes
    data: bytes

    def __str__(self) -> str:
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.data).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A text, which ends with a newline, and its signatures. ``str`` of it is the note."""

    text: str
    signatures: tuple[NoteSignature, ...]

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Raises RequestError. No signature is verified."""
        return cls(*_split(data))

    def signers(self, keys: Iterable[NoteKey]) -> list[NoteKey]:
        """The keys that have signed. Raises LogProofError where the signature of one of them is wrong."""
        signed = []
        for key in keys:
            mine = [one for one in self.signatures if key.is_of(one)]
            if mine and not all(key.verifies(one, self.text) for one in mine):
                raise LogProofError(
                    f"note of {shown(self.text.partition(chr(10))[0])}: the signature of {key} is wrong"
                )
            if mine:
                signed.append(key)
        return signed

    def with_signatures(self, more: Iterable[NoteSignature]) -> Note:
        """The same note with these signatures after its own, each once."""
        return Note(self.text, tuple(dict.fromkeys((*self.signatures, *more))))

    def __str__(self) -> str:
        return self.text + "\n" + "".join(map(str, self.signatures))


def sign_note(text: str, name: str, signer: NoteSigner) -> Note:
    """Sign a text that ends with a newline."""
    key = NoteKey.of(name, signer)
    return Note(text, (NoteSignature(name, key.id, signer.sign(text.encode())),))


def cosign(text: str, name: str, signer: NoteSigner, now: int) -> NoteSignature:
    """A witness's signature of a checkpoint at this time, in seconds since 1970."""
    key = NoteKey.of(name, signer, KeyType.COSIGNATURE)
    return NoteSignature(name, key.id, now.to_bytes(8, "big") + signer.sign(_cosigned(text, now)))


def signature_lines(text: str) -> tuple[NoteSignature, ...]:
    """The signatures in these lines. Raises RequestError."""
    lines = text.split("\n")
    if lines.pop() or not 1 <= len(lines) <= _MAX_SIGNATURES:
        raise RequestError(f"wanted 1 to {_MAX_SIGNATURES} signature lines, each with its newline")
    return tuple(map(_signature, lines))


def base64_bytes(text: str) -> bytes:
    """The bytes of standard base64 in its one canonical form. Raises ValueError."""
    data = base64.b64decode(text.encode(), validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("not canonical base64")
    return data


def _split(data: bytes) -> tuple[str, tuple[NoteSignature, ...]]:
    if len(data) > _MAX_NOTE:
        raise RequestError(f"wanted a signed note of at most {_MAX_NOTE} bytes, got {len(data)}")
    try:
        whole = data.decode()
    except UnicodeDecodeError as error:
        raise RequestError("wanted a signed note in UTF-8") from error
    if any(char < " " and char != "\n" for char in whole):
        raise RequestError("wanted a signed note without control characters")
    text, blank, lines = whole.rpartition("\n\n")
    if not blank:
        raise RequestError("wanted a signed note: a text, an empty line and signature lines")
    return f"{text}\n", signature_lines(lines)


def _signature(line: str) -> NoteSignature:
    wanted = f"wanted a signature line, an em dash, a name and base64, got {shown(line)}"
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        data = base64_bytes(encoded)
    except ValueError as error:
        raise RequestError(wanted) from error
    if not line.startswith(_DASH) or len(data) < 5:
        raise RequestError(wanted)
    return NoteSignature(_name(name), data[:4], data[4:])


def _name(text: str) -> str:
    if not text or "+" in text or any(char.isspace() or not char.isprintable() for char in text):
        raise RequestError(f"wanted a key's name without spaces and plus signs, got {shown(text)}")
    return text


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()
