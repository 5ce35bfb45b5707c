"""Which roles may run an operation, and the log of administrators' operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from meshtls.bundle import TrustBundle
from meshtls.errors import AccessError
from meshtls.logs import logger
from meshtls.registration import Entry
from meshtls.server.access import Caller, Role
from meshtls.server.core import Core
from meshtls.serverapi.federation import Relation
from meshtls.serverapi.values import Subject
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["allowed_to", "check_role"]

P = ParamSpec("P")
T = TypeVar("T")
Operation = Callable[Concatenate[Core, Caller, P], Awaitable[T]]

log = logger("meshtls.server")
#: How many of the subjects of one operation the log names.
_NAMED = 5


def allowed_to(*roles: Role) -> Callable[[Operation[P, T]], Operation[P, T]]:
    """Decorator: the operation raises AccessError for callers of other roles, and logs administrators' calls."""

    def decorate(operation: Operation[P, T]) -> Operation[P, T]:
        name = operation.__name__.replace("_", " ")

        @wraps(operation)
        async def checked(core: Core, caller: Caller, /, *args: P.args, **kwargs: P.kwargs) -> T:
            check_role(caller, name, *roles)
            result = await operation(core, caller, *args, **kwargs)
            if caller.role is Role.ADMIN:
                log.info("%s by %s", " ".join([name, *_subjects(*args, *kwargs.values())]), caller.name)
            return result

        return checked

    return decorate


def _subjects(*args: object) -> list[str]:
    """What an operation with these arguments is about, in a word or none, for the log."""
    for one in args:
        if isinstance(one, Entry):
            return [str(one.spiffe_id)]
        if isinstance(one, Relation | TrustBundle):
            return [str(one.trust_domain)]
        if isinstance(one, Subject | SpiffeId | TrustDomain):
            return [str(one)]
        if isinstance(one, Collection) and not isinstance(one, str | bytes):
            names = [
                name for each in list(one)[:_NAMED] for name in ([each] if isinstance(each, str) else _subjects(each))
            ]
            more = [f"and {len(one) - _NAMED} more"] if len(one) > _NAMED else []
            return [", ".join(names), *more] if names else []
    return []


def check_role(caller: Caller, operation: str, *roles: Role) -> None:
    """Raises AccessError if the caller has none of these roles."""
    if caller.role not in roles:
        raise AccessError(f"permission denied: {operation} is not for {caller.role.value} ({caller.name})")
