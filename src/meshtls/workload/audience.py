"""Which audiences a JWT-SVID may be requested for (SPIFFE Workload API, section 6.2.1), for client and server. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection

__all__ = ["MOST_BYTES", "audience_problem"]

#: As JSON, the form in which a token carries them. A token of that size, signed and in base64, fits in an HTTP header.
MOST_BYTES = 1 << 15


def audience_problem(audience: Collection[str]) -> str | None:
    """Why the audience is invalid; None if a token may be requested for it."""
    if isinstance(audience, str) or not audience or not all(audience):
        return "wanted one or more, none of them empty"
    size = len(json.dumps(list(audience)))
    return f"wanted at most {MOST_BYTES} bytes as JSON, got {size}" if size > MOST_BYTES else None
