"""A source that never changes."""

from __future__ import annotations

from dataclasses import dataclass

from meshtls.svid.context import X509Context

__all__ = ["ConstantSource"]


@dataclass(frozen=True, slots=True)
class ConstantSource:
    """Meets X509ContextSource with one context, valid or not: what to present is decided elsewhere."""

    context: X509Context

    def snapshot(self) -> X509Context:
        return self.context
