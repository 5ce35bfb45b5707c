"""Converts the data store's address in a configuration to SQLAlchemy's URL. Pure.

SPIRE's two types: ``sqlite3`` with a path, ``postgres`` with a URL or libpq's ``key=value`` words.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from meshtls.errors import RequestError

__all__ = ["postgres_url", "sqlite_url"]

_SPIRE_NAMES = {"dbname": "database", "user": "username", "password": "password", "host": "host", "port": "port"}
_WANTED = "wanted postgresql://user:password@host:port/database or dbname=... user=... host=..."


def sqlite_url(path: str | Path) -> URL:
    """The URL of a SQLite file. Raises RequestError if the text is not a path of a file."""
    text = str(path)
    if not text or text.startswith("file:") or ":memory:" in text:
        raise RequestError(f"wanted the path of a SQLite file, got {text!r}; what is in memory is lost at a restart")
    return URL.create("sqlite+aiosqlite", database=text)


def postgres_url(text: str) -> URL:
    """The URL for asyncpg. Raises RequestError, whose message never shows a password."""
    url = _from_url(text) if "://" in text else _from_words(text)
    query = dict(url.query)
    if "sslmode" in query:
        query["ssl"] = query.pop("sslmode")
    return url.set(drivername="postgresql+asyncpg", query=query)


def _from_url(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        # Without the reason, which quotes the text and so perhaps a password.
        raise RequestError(f"{_WANTED}, got a text that is not a URL") from error
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise RequestError(f"{_WANTED}, got a URL of {url.drivername}")
    return url


def _from_words(text: str) -> URL:
    try:
        words = dict(word.split("=", 1) for word in shlex.split(text))
        port = int(words.pop("port", "0")) or None
    except ValueError as error:
        raise RequestError(f"{_WANTED}, got words without '='") from error
    query = {name: words.pop(name) for name in ("sslmode",) if name in words}
    unknown = sorted(set(words) - set(_SPIRE_NAMES))
    if unknown:
        raise RequestError(f"{_WANTED}; {', '.join(unknown)} can't be used here")
    if words.get("host", "").startswith("/"):
        query["host"] = words.pop("host")
    parts = {_SPIRE_NAMES[name]: value for name, value in words.items()}
    return URL.create("postgresql", port=port, query=query, **parts)
