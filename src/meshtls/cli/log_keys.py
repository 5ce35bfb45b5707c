"""The types of options that name a log: its URL, its keys and those of its witnesses.

Without the client of a log: ``meshtls fetch`` has such options, and starts without it.
"""

from __future__ import annotations

from meshtls.address import checked_url
from meshtls.ca.tlog.note import KeyType, NoteKey
from meshtls.cli.options import parsed_type
from meshtls.errors import RequestError

__all__ = ["LOG_KEY", "URL", "WITNESS_KEY"]


def _log_key(text: str) -> NoteKey:
    return _of_type(text, KeyType.NOTE, "log")


def _witness_key(text: str) -> NoteKey:
    return _of_type(text, KeyType.COSIGNATURE, "witness")


def _of_type(text: str, kind: KeyType, whose: str) -> NoteKey:
    key = NoteKey.parse(text)
    if key.type is not kind:
        raise RequestError(f"key {key.name}: wanted the key of a {whose}, got one of another type")
    return key


LOG_KEY = parsed_type("KEY", _log_key)
WITNESS_KEY = parsed_type("KEY", _witness_key)
URL = parsed_type("URL", checked_url)
