"""What a provider decided on a request, and what it changes. Pure."""

from __future__ import annotations

import msgspec

from meshtls.ext_authz.header_rules import is_value
from meshtls.wire.http import HttpRequest, Refuse
from meshtls.wire.http_rules import may_be_set

__all__ = ["ExtAuthzAnswer", "HeaderChanges", "ProviderError", "UnaskableError"]

Headers = tuple[tuple[str, str], ...]


class ProviderError(Exception):
    """The provider could not be asked, or its answer is none; the text is the reason."""


class UnaskableError(Exception):
    """No provider of this kind can be asked about this request: denied, also where a provider that is down allows."""


class HeaderChanges(msgspec.Struct, frozen=True, kw_only=True):
    """Applied in this order. ``replaced`` are only for headers that the request has, ``added`` for those that it
    has not. Names are in lower case.
    """

    set: Headers = ()
    replaced: Headers = ()
    added: Headers = ()
    appended: Headers = ()
    removed: tuple[str, ...] = ()

    def check(self) -> None:
        """Raises ProviderError for what can't stand in a request."""
        for name, value in (*self.set, *self.replaced, *self.added, *self.appended):
            if not is_value(value):
                raise ProviderError(f"it set a header {name[:60]!r} whose value has control characters")

    def apply(self, headers: Headers) -> Headers:
        """The request's headers with the changes. What frames the message, and what tells of the caller, stays."""
        present = {name for name, _ in headers}
        setting = [one for one in self.set if may_be_set(one[0])]
        setting += [one for one in self.replaced if may_be_set(one[0]) and one[0] in present]
        replaced = {name for name, _ in setting}
        changed = [one for one in headers if one[0] not in replaced] + setting
        present |= replaced
        changed += [one for one in self.added if may_be_set(one[0]) and one[0] not in present]
        changed += [one for one in self.appended if may_be_set(one[0])]
        removed = {name for name in self.removed if may_be_set(name)}
        return tuple(one for one in changed if one[0] not in removed)


class ExtAuthzAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A provider's answer about one request. ``reason`` is for the log. ``status``, ``body`` and ``headers`` are the
    answer to a client that is denied; to one that is allowed, ``headers`` go with the app's response. ``failed``: the
    provider did not decide this.
    """

    allowed: bool
    reason: str
    status: int = 200
    body: str = ""
    headers: Headers = ()
    upstream: HeaderChanges = HeaderChanges()
    failed: bool = False

    def applied_to(self, request: HttpRequest) -> HttpRequest:
        """The request as the app gets it."""
        return msgspec.structs.replace(request, headers=self.upstream.apply(request.headers))

    def refusal(self) -> Refuse:
        """The answer to the client. Raises ValueError if the request is allowed."""
        if self.allowed:
            raise ValueError("an allowed request has no refusal")
        return Refuse(self.status, self.body, self.sent)

    @property
    def sent(self) -> Headers:
        """The ``headers`` that may stand in an answer to the client."""
        return tuple(
            [(name, value.strip(" \t")) for name, value in self.headers if may_be_set(name) and is_value(value)]
        )
