"""Who may talk to whom. Pure: a decision is a function of a request, or of a verified peer and a target.

``load`` reads Istio's policies as an authorizer. It is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshtls.policy.library import Policies, load

__all__ = ["Policies", "load"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from meshtls.policy import library

    value: object = getattr(library, name)
    globals()[name] = value
    return value
