"""``host:port``, under the name that a sidecar's modules know it by."""

from meshtls.address import Address

__all__ = ["Address"]
