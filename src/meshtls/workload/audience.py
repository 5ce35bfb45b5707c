"""Which audiences a JWT-SVID may be asked for (SPIFFE Workload API, section 6.2.1), on both sides of the API. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection

__all__ = ["MOST_BYTES", "audience_problem"]

#: As JSON, which is how a token carries them: with the rest, signed and in base64, it is a header that servers take.
MOST_BYTES = 1 << 15


def audience_problem(audience: Collection[str]) -> str | None:
    """What is wrong with it, None where a token may be asked for."""
    if isinstance(audience, str) or not audience or not all(audience):
        return "wanted one or more, none of them empty"
    size = len(json.dumps(list(audience)))
    return f"wanted at most {MOST_BYTES} bytes as JSON, got {size}" if size > MOST_BYTES else None
