"""Where the keys of one rule come from. A source has keys at any time, or the reason why not, and never raises for it.

Keys that can't be read or fetched again stay in use, and ``complaint`` says so: a server that is down must not lock out
everyone. Until keys are there for the first time, the rule accepts nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from meshtls.bundle import BundleSet
from meshtls.clock import Clock, first_of
from meshtls.errors import ConfigError, LocalIdentityError, RequestError
from meshtls.http_client import HttpClientError
from meshtls.policy.jwt.authenticate import Keys, NoKeys
from meshtls.policy.jwt.key_set import MAX_KEY_SET_BYTES, KeySet, read_key_set
from meshtls.redaction import bare_url
from meshtls.reloading import FileWatch
from meshtls.request_auth.bundles import JwtBundles
from meshtls.request_auth.fetch import Fetcher

__all__ = [
    "LONGEST_AGE",
    "REFETCH_SECONDS",
    "SHORTEST_AGE",
    "USUAL_AGE",
    "BundleKeys",
    "FetchedKeys",
    "FileKeys",
    "FixedKeys",
    "KeySource",
]

#: Seconds for which a fetched key set is kept, whatever the server says; and without its word.
SHORTEST_AGE, LONGEST_AGE, USUAL_AGE = 60, 3600, 1200
#: Seconds between two fetches because of unknown keys, which anyone can name.
REFETCH_SECONDS = 10.0
_RETRY_SECONDS = (5.0, 10.0, 20.0, 40.0, 60.0)
_POLL_SECONDS = 1.0
#: A fetch ends by its own timeout, and says so; the wait for it is only longer by this.
_MARGIN_SECONDS = 1.0


class KeySource(Protocol):
    """The keys of a rule, kept fresh."""

    @property
    def keys(self) -> Keys: ...

    @property
    def complaint(self) -> str | None:
        """What is wrong with the keys in use, for the operator."""

    async def follow(self, changed: Callable[[], None]) -> None:
        """Keep the keys fresh until cancelled. ``changed`` is called when they, or the complaint, may have changed."""

    async def newer(self) -> None:
        """Return once the keys are as new as can be had now: at once, or after a fetch."""


class FixedKeys:
    """A key set that stands in the rule."""

    complaint: str | None = None

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    async def follow(self, changed: Callable[[], None]) -> None:
        """There is nothing to follow."""

    async def newer(self) -> None:
        """There are no newer ones."""


class BundleKeys:
    """The bundles of the Workload API, which pushes each change. ``bundles`` raises LocalIdentityError without any."""

    def __init__(self, bundles: Callable[[], BundleSet]) -> None:
        self._bundles = bundles
        self._asked = False

    @property
    def keys(self) -> Keys:
        try:
            return self._bundles()
        except LocalIdentityError as error:
            return NoKeys(f"there are no JWT bundles: {error}")

    @property
    def complaint(self) -> str | None:
        keys = self.keys if self._asked else None
        return f"{keys.reason}; no JWT-SVID is accepted" if isinstance(keys, NoKeys) else None

    async def follow(self, changed: Callable[[], None]) -> None:
        """The source of the bundles follows them, from now on at the latest."""
        await self.newer()
        self._asked = True
        changed()

    async def newer(self) -> None:
        """They are always the newest, once they are there."""
        if isinstance(self._bundles, JwtBundles):
            await self._bundles.answered()


class FileKeys:
    """A key set in a file, read again when it changes. Raises ConfigError if it can't be read at first."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file, self._clock = file, clock
        self._watch = FileWatch((file,), clock)
        self.complaint: str | None = None
        self.keys: Keys = self._read()

    async def follow(self, changed: Callable[[], None]) -> None:
        while True:
            await self._clock.sleep(_POLL_SECONDS)
            if not self._watch.changed():
                continue
            try:
                self.keys, self.complaint = self._read(), None
            except ConfigError as error:
                self.complaint = f"{error}; the key set in use stays"
            changed()

    async def newer(self) -> None:
        """A change is noticed without being asked for."""

    def _read(self) -> KeySet:
        self._watch.check_regular()
        try:
            with self._file.open("rb") as file:
                return read_key_set(file.read(MAX_KEY_SET_BYTES + 1))
        except OSError as error:
            raise ConfigError(f"{self._file}: wanted a JWK set: {error.strerror or error}") from error
        except RequestError as error:
            raise ConfigError(f"{self._file}: {error}") from error


class FetchedKeys:
    """A key set from a ``jwksUri``. ``timeout`` is that of one fetch, in seconds. Raises RequestError for an address
    that may not be fetched from.
    """

    def __init__(self, uri: str, timeout: float, fetcher: Fetcher, clock: Clock) -> None:
        fetcher.check(uri)
        self.uri, self._timeout, self._fetcher, self._clock = uri, timeout, fetcher, clock
        self.keys: Keys = NoKeys(f"the key set at {bare_url(uri)} was not fetched yet")
        self.complaint: str | None = None
        self._failures = 0
        #: A first fetch is waited for also before ``follow`` runs.
        self._followed = self._fetching = True
        self._fetched = asyncio.Event()
        self._wanted = asyncio.Event()
        self._refetch_at = 0.0

    async def follow(self, changed: Callable[[], None]) -> None:
        try:
            while True:
                self._fetching = True
                self._wanted.clear()
                age = await self._fetch()
                self._fetching, self._refetch_at = False, self._clock.monotonic() + REFETCH_SECONDS
                changed()
                self._fetched.set()
                self._fetched = asyncio.Event()
                await first_of(self._clock.sleep(age), self._wanted.wait())
        finally:
            self._followed = False
            self._fetched.set()

    async def newer(self) -> None:
        if not self._followed:
            return
        if not self._fetching:
            if self._clock.monotonic() < self._refetch_at:
                return
            self._wanted.set()
        try:
            async with asyncio.timeout(self._timeout + _MARGIN_SECONDS):
                await self._fetched.wait()
        except TimeoutError:
            return

    def keep(self, older: FetchedKeys) -> None:
        """Use what ``older`` has fetched until this one has fetched."""
        if isinstance(older.keys, KeySet):
            self.keys = older.keys

    async def _fetch(self) -> float:
        """Fetch once; the seconds until the next time."""
        try:
            fetched = await self._fetcher.fetch(self.uri, self._timeout)
        except (RequestError, HttpClientError) as error:
            wait = _RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS) - 1)]
            self._failures += 1
            failure = f"the key set at {bare_url(self.uri)} can't be fetched: {error}"
            if isinstance(self.keys, NoKeys):
                self.keys = NoKeys(failure)
                self.complaint = f"{failure}; no token of its issuer is accepted"
            else:
                self.complaint = f"{failure}; the last one stays in use"
            return wait
        # A set with the same keys is not replaced, so that verified tokens need not be verified again.
        if not isinstance(self.keys, KeySet) or _members(self.keys) != _members(fetched.keys):
            self.keys = fetched.keys
        self.complaint, self._failures = None, 0
        return float(USUAL_AGE if fetched.max_age is None else min(max(fetched.max_age, SHORTEST_AGE), LONGEST_AGE))


def _members(keys: KeySet) -> list[object]:
    return [(one.key_id, one.algorithms, one.key.as_dict(private=False)) for one in keys.keys]
