"""The file of a server, an agent or a sidecar: read once, for all the checks that need it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from meshtls.cli.check.finding import Claim, Finding, failed, passed, warning
from meshtls.errors import ConfigError

__all__ = ["Loaded", "loaded"]


class _Config(Protocol):
    @property
    def notices(self) -> Sequence[str]: ...


C = TypeVar("C", bound=_Config)
_AS_MEANT = Claim("no key has another effect than the file says", "a key of the file needs your attention")


@dataclass(frozen=True, slots=True)
class Loaded(Generic[C]):
    """What came of reading a configuration file. ``config`` is None if the file is not valid, and then the one finding
    says why.

    With such a finding it is there if all but what the finding says could be read.
    """

    path: Path
    findings: tuple[Finding, ...]
    config: C | None


def loaded(
    verb: str,
    file: Path,
    load: Callable[[Path], C],
    *,
    reads: Claim | None = None,
    as_meant: Claim = _AS_MEANT,
    in_part: Callable[[Path], C] | None = None,
) -> Loaded[C]:
    """``load`` raises ConfigError; ``meshtls <verb> validate`` is the advice. ``as_meant`` is what a notice denies.

    ``in_part`` reads what can be used of a file that ``load`` refuses, or raises ConfigError as well.
    """
    claim = reads or Claim(f"{file} is valid", f"{file} is not valid")
    validate = f"`meshtls {verb} validate --config {file}`"
    try:
        config = load(file)
    except ConfigError as error:
        findings = (failed(claim, str(error), validate),)
        try:
            return Loaded(file, findings, in_part(file) if in_part is not None else None)
        except ConfigError:
            return Loaded(file, findings, None)
    advice = f"change the file, or leave it if that is meant: {validate} shows each notice"
    return Loaded(file, (passed(claim), *(warning(as_meant, notice, advice) for notice in config.notices)), config)
