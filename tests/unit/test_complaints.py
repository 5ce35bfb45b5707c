"""A problem of a state is logged when it appears and when it is gone, however often the state is reported."""

from __future__ import annotations

import logging

import pytest

from meshtls.complaints import Complaints

LOG = logging.getLogger("meshtls.test.complaints")


def test_a_complaint_is_a_warning_once_for_as_long_as_it_holds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG.name)
    complaints = Complaints(LOG)
    for present, wanted in (
        ((), []),
        (("a", "b", "a"), [("WARNING", "a"), ("WARNING", "b")]),
        (("b", "a"), []),
        (("a", "c"), [("WARNING", "c"), ("INFO", "no longer: b")]),
        ((), [("INFO", "no longer: a"), ("INFO", "no longer: c")]),
        (("a",), [("WARNING", "a")]),
    ):
        caplog.clear()
        complaints.update(iter(present))
        assert [(one.levelname, one.getMessage()) for one in caplog.records] == wanted
    assert repr(complaints) == "<Complaints [1]>"
