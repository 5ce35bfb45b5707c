"""How ``validate`` ends for people: notices about the file, and what it makes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["summary"]


def summary(file: Path, makes: str, does: Sequence[str], notices: Sequence[str]) -> str:
    """The notices; then what the file makes, and a line for each thing that this is and does."""
    told = [f"{file}: {len(notices)} notice{'s' * (len(notices) != 1)}", *(f"  {one}" for one in notices)]
    return "\n".join([*(told if notices else ()), f"{file}: {makes}", *(f"  {one}" for one in does)])
