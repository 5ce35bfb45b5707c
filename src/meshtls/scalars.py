"""The single values that several kinds of configuration files have. Pure: each takes a text, or raises RequestError."""

from __future__ import annotations

from meshtls.errors import RequestError

__all__ = ["log_level", "word"]

_LEVELS = {"DEBUG": "DEBUG", "INFO": "INFO", "WARN": "WARNING", "WARNING": "WARNING", "ERROR": "ERROR"}


def word(text: str) -> str:
    """Any text but the empty one."""
    if not text:
        raise RequestError("wanted a word, got an empty text")
    return text


def log_level(text: str) -> str:
    """By either of its names, and in any case; what ``logging`` calls it."""
    if text.upper() not in _LEVELS:
        raise RequestError(f"wanted DEBUG, INFO, WARN or ERROR, got {text!r}")
    return _LEVELS[text.upper()]
