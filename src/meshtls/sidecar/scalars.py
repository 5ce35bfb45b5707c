"""Whether a sidecar would connect to itself. Pure."""

from __future__ import annotations

from meshtls.sidecar.address import Address

__all__ = ["leads_back"]

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104  # compared with, never bound
_LOOPBACK = ("127.0.0.1", "::1")


def leads_back(target: Address, listen: Address) -> bool:
    """Whether what is dialled at ``target`` is this listener itself, as far as their texts say."""
    if not listen.port or target.port != listen.port:
        return False
    if listen.host in _EVERYWHERE:
        return _is_here(target.host)
    pair = {target.host, listen.host}
    return len(pair) == 1 or ("localhost" in pair and not pair.isdisjoint(_LOOPBACK))


def _is_here(host: str) -> bool:
    return host in ("localhost", "::1", *_EVERYWHERE) or host.startswith("127.")
