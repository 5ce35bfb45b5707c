"""The file of a server, an agent or a sidecar: read once, for all the checks that need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from meshtls.cli.check.finding import Finding, failed, passed, warning
from meshtls.errors import ConfigError

__all__ = ["Loaded", "loaded"]


class _Config(Protocol):
    @property
    def notices(self) -> Sequence[str]: ...


C = TypeVar("C", bound=_Config)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[C]):
    """``config`` is None if the file is not valid, and then the one finding says why."""

    findings: tuple[Finding, ...]
    config: C | None


def loaded(
    verb: str,
    file: Path,
    load: Callable[[Path], C],
    *,
    reads: str = "is valid",
    as_meant: str = "no key has another effect than the file says",
) -> Loaded[C]:
    """``load`` raises ConfigError; ``meshtls <verb> validate`` is the advice. ``as_meant`` is what a notice denies."""
    check = f"{file} {reads}"
    try:
        config = load(file)
    except ConfigError as error:
        return Loaded((failed(check, str(error), f"`meshtls {verb} validate --config {file}`"),), None)
    return Loaded((passed(check), *(warning(as_meant, notice) for notice in config.notices)), config)
