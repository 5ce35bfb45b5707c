"""What of an HTTP message may be shown: no value that is or may be a secret, and nothing that is too long. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from meshtls.printable import printable

__all__ = ["LONGEST_VALUE", "MOST_HEADERS", "may_be_secret", "shown_headers", "shown_path", "shown_text"]

#: Headers of one message, and characters of a value and of a path, that are kept.
MOST_HEADERS, LONGEST_VALUE, LONGEST_PATH = 64, 256, 2048
#: A header whose name has one of these in it is taken for a secret: Authorization, Proxy-Authorization, Cookie,
#: Set-Cookie, X-Api-Key, X-Auth-Token, X-Amz-Security-Token, Authentication-Info, X-Csrf-Token and their like.
_SECRET_WORDS = (
    *("auth", "cookie", "token", "secret", "passw", "session", "api-key", "apikey", "api_key", "credential"),
    *("signature", "jwt", "assertion", "csrf", "xsrf", "private"),
)
#: Values that are URLs, whose query may have a secret.
_URLS = frozenset(("location", "content-location", "referer", ":path"))
_PSEUDO = ":"


def may_be_secret(name: str) -> bool:
    """Whether the value of a header of this name, in lower case, is not to be shown."""
    return not name.startswith(_PSEUDO) and any(word in name for word in _SECRET_WORDS)


def shown_path(path: str) -> str:
    """A request's target without its query, which may have a secret: only how long it is."""
    path, mark, query = path.partition("?")
    text = printable(path[:LONGEST_PATH])
    return f"{text}?({len(query)} bytes)" if mark else text


def shown_text(text: str) -> str:
    """The beginning of a text from outside."""
    return printable(text[:LONGEST_VALUE])


def shown_headers(headers: Iterable[tuple[str, str]], never: Collection[str] = ()) -> tuple[tuple[str, str], ...]:
    """The first MOST_HEADERS. ``never``: names that the sender wants in no table, as it does for secrets (RFC 7541,
    section 7.1.3).
    """
    shown: list[tuple[str, str]] = []
    for name, value in headers:
        if len(shown) == MOST_HEADERS:
            break
        if may_be_secret(name) or name in never:
            text = f"({len(value)} bytes, not shown)"
        else:
            text = shown_path(value)[:LONGEST_VALUE] if name in _URLS else shown_text(value)
        shown.append((shown_text(name), text))
    return tuple(shown)
