"""Where a verb finds the Workload API."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from meshtls.workload.address import Address, address_from, parse_address

__all__ = ["workload_address"]


def workload_address(text: str | None) -> Address:
    """Of a path or an address; of the environment where there is none. Raises ConfigError."""
    if text is None or "://" in text or text.lower().startswith("unix:"):
        return address_from(text, os.environ)
    return parse_address(f"unix://{quote(str(Path(text).absolute()))}")
