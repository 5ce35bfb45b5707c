"""Which roles may run an operation, and the log of administrators' operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from meshtls.errors import AccessError
from meshtls.logs import logger
from meshtls.server.access import Caller, Role
from meshtls.server.core import Core

__all__ = ["allowed_to", "check_role"]

P = ParamSpec("P")
T = TypeVar("T")
Operation = Callable[Concatenate[Core, Caller, P], Awaitable[T]]

log = logger("meshtls.server")


def allowed_to(*roles: Role) -> Callable[[Operation[P, T]], Operation[P, T]]:
    """Decorator: the operation raises AccessError for callers of other roles, and logs administrators' calls."""

    def decorate(operation: Operation[P, T]) -> Operation[P, T]:
        name = operation.__name__.replace("_", " ")

        @wraps(operation)
        async def checked(core: Core, caller: Caller, /, *args: P.args, **kwargs: P.kwargs) -> T:
            check_role(caller, name, *roles)
            result = await operation(core, caller, *args, **kwargs)
            if caller.role is Role.ADMIN:
                log.info("%s by %s", name, caller.name)
            return result

        return checked

    return decorate


def check_role(caller: Caller, operation: str, *roles: Role) -> None:
    """Raises AccessError if the caller has none of these roles."""
    if caller.role not in roles:
        raise AccessError(f"permission denied: {operation} is not for {caller.role.value} ({caller.name})")
