"""Paths of HTTP requests: normalized as Envoy does it, and matched with templates. Pure.

A path has to be normalized before it is judged, and the app has to get the normalized one: otherwise ``/a/../admin``
or ``/%61dmin`` passes a rule for ``/admin`` by.
"""

from __future__ import annotations

from collections.abc import Iterable

from meshtls.errors import RequestError
from meshtls.policy.istio.match import Key, KeyKind, Part, Strings
from meshtls.policy.istio.model import Normalization
from meshtls.redaction import without_query
from meshtls.scalars import shown

__all__ = ["Paths", "Template", "has_lone_percent", "is_template", "normalize", "parts_of", "strip_query"]

_ONE, _MANY = "{*}", "{**}"
#: Segments of a path by which templates are found: the others of a long path are not looked up.
_MOST_PARTS = 32
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~")
#: Characters that are kept as they are (the URL canonicalization that Envoy takes from Chromium).
_PLAIN = _UNRESERVED | frozenset("!$&'()*+,/:;=@[]")
_NOTHING_TO_DO = dict.fromkeys(map(ord, _PLAIN | {"."}))
_HEX = frozenset("0123456789abcdefABCDEF")


def strip_query(path: str) -> str:
    """The path without its query and fragment."""
    return path.partition("?")[0].partition("#")[0]


def normalize(path: str, how: Normalization) -> str:
    """The request's path, with its query untouched, in the form that is judged and that the app gets.

    ``NONE`` leaves it as it is. ``BASE`` resolves dot segments, also percent-encoded ones and those with parameters
    (``..;a``), decodes unreserved characters (RFC 3986, section 6.2.2), encodes what may not stand in a path, and turns
    backslashes into slashes. ``MERGE_SLASHES`` merges slashes too, and ``DECODE_AND_MERGE_SLASHES`` first decodes
    ``%2F`` and ``%5C``. ``*``, of OPTIONS, and the empty path of CONNECT stay.

    Raises RequestError (400) for a path with NUL, plain or encoded, or with a fragment, in any mode.
    """
    if "#" in path:
        raise RequestError(
            f"path {shown(without_query(path))}: wanted no fragment; send it without '#' and what follows"
        )
    found, mark, query = path.partition("?")
    if "\0" in found or "%00" in found:
        raise RequestError(f"path {shown(without_query(path))}: wanted no NUL (%00)")
    if how is Normalization.NONE or path in ("", "*"):
        return path
    if how is Normalization.DECODE_AND_MERGE_SLASHES and "%" in found:
        for encoded, decoded in (("%2F", "/"), ("%2f", "/"), ("%5C", "\\"), ("%5c", "\\")):
            found = found.replace(encoded, decoded)
    if "/." in found or found[:1] != "/" or found.translate(_NOTHING_TO_DO):
        found = _canonical(found)
    if how in (Normalization.MERGE_SLASHES, Normalization.DECODE_AND_MERGE_SLASHES) and "//" in found:
        inner = "/".join(filter(None, found.split("/")))
        found = f"/{inner}/" if inner and found.endswith("/") else f"/{inner}"
    return f"{found}{mark}{query}"


def _canonical(path: str) -> str:
    """The path with its dot segments resolved, and the characters of the other segments decoded and encoded."""
    kept: list[str] = []
    # Servers such as Tomcat drop parameters before they resolve dot segments. Envoy drops those of dots that are not
    # encoded, backslashes in them included.
    given = "/".join(one if _dots(one) is None else one.partition(";")[0] for one in path.split("/"))
    segments = given.replace("\\", "/").split("/")
    if not segments[0]:
        del segments[0]
    for number, segment in enumerate(segments):
        dots = _dots(segment.replace("%2e", ".").replace("%2E", "."))
        last = number == len(segments) - 1
        if dots == "..":
            if kept:
                kept.pop()
        elif dots is None:
            kept.append(_encoded(segment))
            continue
        if last:
            kept.append("")
    return "/" + "/".join(kept)


def _dots(segment: str) -> str | None:
    """The ``.`` or ``..`` of a segment, if that is the segment but for its parameters."""
    name = segment.partition(";")[0]
    return name if name in (".", "..") else None


def has_lone_percent(text: str) -> bool:
    """Whether a percent sign of the text begins no escape."""
    return any(not _is_escape(part[:2]) for part in text.split("%")[1:])


def _is_escape(digits: str) -> bool:
    return len(digits) == 2 and digits[0] in _HEX and digits[1] in _HEX


def _encoded(segment: str) -> str:
    """A segment with unreserved characters decoded and those that may not stand in a path encoded, each once."""
    first, *rest = segment.split("%")
    found = [_escaped(first)]
    for part in rest:
        digits, after = part[:2], part[2:]
        if _is_escape(digits):
            character = chr(int(digits, 16))
            found.append(character if character in _UNRESERVED or character == "." else f"%{digits}")
            found.append(_escaped(after))
        else:
            found.append("%")
            found.append(_escaped(part))
    return _guarded(found)


def _guarded(parts: list[str]) -> str:
    """Join the parts. Encode a lone ``%`` that decoding would turn into an escape, as in ``%%300``."""
    text = ""
    pending: int | None = None
    for part in parts:
        text += part
        if part == "%":
            pending = len(text) - 1
        if pending is not None and len(text) > pending + 2:
            if text[pending + 1] in _HEX and text[pending + 2] in _HEX:
                text = f"{text[:pending]}%25{text[pending + 1 :]}"
            pending = None
    return text


def _escaped(text: str) -> str:
    if not text.translate(_NOTHING_TO_DO):
        return text
    return "".join(one if one in _PLAIN or one == "." else _percent(one) for one in text)


def _percent(character: str) -> str:
    # Paths are decoded as Latin-1; what came as text has other characters, and Python's own half characters.
    code = ord(character)
    content = bytes((code,)) if code < 0x100 else character.encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in content)


def is_template(pattern: str) -> bool:
    return _ONE in pattern or _MANY in pattern


class Template:
    """A path template of Envoy. ``{*}`` is one segment that is not empty, ``{**}`` any text, slashes included; literals
    may follow ``{**}``.

    Envoy's ``{*}`` matches no segment with one of ``*[]``; ours does, since otherwise a DENY is passed by with a star.
    """

    __slots__ = ("_ending", "_segments", "beginning", "ending")

    def __init__(self, pattern: str) -> None:
        """Raises RequestError for an operator beside other text in its segment, or after ``{**}``."""
        before, many, after = pattern.partition(_MANY)
        self._segments = before.split("/")
        self._ending = after if many else None
        whole = not many or (before.endswith("/") and (not after or after.startswith("/")))
        literals = [one for one in self._segments if one != _ONE]
        if not whole or is_template(after) or any("*" in one or "{" in one or "}" in one for one in (*literals, after)):
            raise RequestError(
                f"path template {shown(pattern)}: wanted each {_ONE} and {_MANY} to be a segment of its own,"
                f" no other star or brace, and {_MANY} once and last"
            )
        #: What each match begins with, and ends with.
        self.beginning = pattern.partition("{")[0]
        self.ending = pattern.rpartition("}")[2]

    @property
    def key(self) -> Key:
        """What each match begins with, what it ends with, or one of the literal segments."""
        # What comes with the last of the segments before ``{**}`` may be more than one.
        segments = self._segments if self._ending is None else self._segments[:-1]
        found = [Key(KeyKind.EXACT, part) for part in enumerate(segments[:_MOST_PARTS]) if part[1] not in ("", _ONE)]
        if self.ending:
            found.append(Key(KeyKind.SUFFIX, self.ending, (len(self.ending), 0)))
        found.append(Key(KeyKind.PREFIX, self.beginning, (len(self.beginning), 0)))
        return found[0] if len(found) == 1 else Key(KeyKind.CHOICE, tuple(found))

    def matches(self, path: str) -> bool:
        """In time linear in the path's length."""
        if not path.startswith(self.beginning):
            return False
        wanted = self._segments
        given = path.split("/", len(wanted) - 1)
        if len(given) != len(wanted):
            return False
        if self._ending is None:
            return "/" not in given[-1] and all(map(_is_segment, wanted, given))
        return all(map(_is_segment, wanted[:-1], given)) and given[-1].endswith(self._ending)


def _is_segment(wanted: str, given: str) -> bool:
    return given != "" if wanted == _ONE else given == wanted


class Paths:
    """Patterns of paths: texts with a star at an end, or templates."""

    __slots__ = ("strings", "templates")

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises RequestError for a template that is invalid."""
        patterns = tuple(patterns)
        self.strings = Strings(one for one in patterns if not is_template(one))
        self.templates = tuple(Template(one) for one in patterns if is_template(one))

    def matches(self, path: str) -> bool:
        """``path`` is without its query."""
        return self.strings.matches(path) or any(one.matches(path) for one in self.templates)

    @property
    def keys(self) -> tuple[Key, ...] | None:
        keys = self.strings.keys
        if keys is None:
            return None
        return (*keys, *(Key(KeyKind.PREFIX, one.beginning, (len(one.beginning), 0)) for one in self.templates))

    @property
    def keys_by_part(self) -> tuple[Key, ...] | None:
        """Other keys, for ``parts_of``, of templates by any of their literals; None without a template."""
        keys = self.strings.keys
        return None if keys is None or not self.templates else (*keys, *(one.key for one in self.templates))


def parts_of(path: str) -> tuple[str | Part, ...]:
    """The path, and its first segments with their numbers."""
    return (path, *enumerate(path.split("/", _MOST_PARTS)[:_MOST_PARTS]))
