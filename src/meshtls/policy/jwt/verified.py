"""What a verified token says, and the tokens that were verified lately. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from meshtls.policy.request import RequestAuth

__all__ = ["Verified", "VerifiedTokens"]


class Verified(NamedTuple):
    """``payload`` is the token's second part, in base64url; ``until`` is None where it does not expire."""

    auth: RequestAuth
    claims: Mapping[str, object]
    payload: str
    until: datetime | None


class VerifiedTokens:
    """Tokens of one rule, verified by one key set: so that a caller who sends its token with each request costs one
    signature. Only what an issuer signed gets in; the least recently used give way at ``most`` bytes of tokens.
    """

    def __init__(self, most: int = 1 << 20) -> None:
        self._most = most
        self._bytes = 0
        self._known: OrderedDict[bytes, tuple[int, Verified]] = OrderedDict()
        self._keys: object = None

    def get(self, text: str, keys: object, now: datetime) -> Verified | None:
        """What was verified of this token by these keys, while it has not expired."""
        if keys is not self._keys:
            self._known.clear()
            self._keys, self._bytes = keys, 0
            return None
        digest = _digest(text)
        found = self._known.get(digest)
        if found is None:
            return None
        if found[1].until is not None and now >= found[1].until:
            self._remove(digest)
            return None
        self._known.move_to_end(digest)
        return found[1]

    def add(self, text: str, verified: Verified) -> None:
        """Remember it as verified by the keys of the last ``get``."""
        digest = _digest(text)
        if digest in self._known:
            self._remove(digest)
        self._known[digest] = len(text), verified
        self._bytes += len(text)
        while self._bytes > self._most:
            self._remove(next(iter(self._known)))

    def _remove(self, digest: bytes) -> None:
        self._bytes -= self._known.pop(digest)[0]

    def __len__(self) -> int:
        return len(self._known)

    def __repr__(self) -> str:
        return f"<VerifiedTokens [{len(self._known)}, {self._bytes} bytes]>"


def _digest(text: str) -> bytes:
    return sha256(text.encode(errors="surrogatepass")).digest()
