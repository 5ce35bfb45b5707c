"""``/logging``: which levels are logged, and changing them without a restart."""

from __future__ import annotations

from meshtls.admin.pages import Page, Query, Record
from meshtls.errors import RequestError
from meshtls.logs import levels, logger, set_level
from meshtls.scalars import log_level, shown

__all__ = ["logging_page"]

log = logger("meshtls.admin")

#: Beside a level: the logger takes that of the logger above it.
_INHERIT = "inherit"


def _show(query: Query) -> Record:
    found = levels()
    return {"level": found.pop(""), "loggers": found}


def _change(query: Query) -> Record:
    level, name = query.words.get("level", ""), query.words.get("logger", "")
    if not level:
        raise RequestError("/logging: wanted level=DEBUG, INFO, WARN or ERROR, and logger=NAME for one logger alone")
    if level == _INHERIT and not name:
        raise RequestError("level: inherit needs logger=NAME: the level of all loggers is not inherited")
    new = None if level == _INHERIT else log_level(level)
    try:
        set_level(name, new)
    except LookupError:
        known = ", ".join(name for name in levels() if name)
        raise RequestError(f"logger: wanted one of {known}, got {shown(name)}") from None
    log.warning("log level of %s is %s now, by %s", name or "all loggers", new or _INHERIT, query.caller.name)
    return _show(query)


def logging_page() -> Page:
    """GET shows the levels, and POST changes one until the process ends, or its file says another level."""
    return Page(
        "/logging",
        "The levels of the loggers. POST with level, and with logger for one of them, changes one.",
        _show,
        _change,
        words=("level", "logger"),
    )
