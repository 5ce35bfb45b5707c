"""The demo's report."""

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from meshtls.cli.demo.report import Demo, End, Hop, Refusal, as_json, duration, show

HOP = Hop(
    caller=End("a", "spiffe://example.org/a", "01", 3599.9),
    callee=End("b", "spiffe://example.org/b", "02", 20.0),
    tls_version="TLSv1.3",
    cipher_suite="TLS_AES_256_GCM_SHA384",
    answer='{"app": "a"}',
    problem=None,
)
REFUSAL = Refusal(
    "an outsider", "spiffe://example.org/x", "spiffe://example.org/b", "POLICY_DENIED", "no", "alert", None
)


def shown(demo: Demo) -> str:
    output = io.StringIO()
    show(demo, Console(file=output, highlight=False, soft_wrap=True))
    return output.getvalue()


def test_a_report_is_plain_text_where_the_output_is_no_terminal() -> None:
    assert shown(Demo((HOP,), (REFUSAL,))) == (
        "a calls b\n"
        "  caller    spiffe://example.org/a, SVID 01, 59m 59s left\n"
        "  callee    spiffe://example.org/b, SVID 02, 20s left\n"
        "  over      TLSv1.3, TLS_AES_256_GCM_SHA384\n"
        '  answer    {"app": "a"}\n'
        "\n"
        "Refused: an outsider\n"
        "  presented spiffe://example.org/x\n"
        "  to        spiffe://example.org/b\n"
        "  verdict   POLICY_DENIED: no\n"
        "  it saw    alert\n"
        "\n"
        "1 call served over mutual TLS, 1 caller refused.\n"
    )


def test_a_problem_replaces_the_summary() -> None:
    demo = Demo((replace(HOP, problem="a calls b: nobody answered"),), (REFUSAL,))

    assert demo.problems == ("a calls b: nobody answered",)
    assert shown(demo).endswith("\nFailed: a calls b: nobody answered\n")
    assert json.loads(as_json(demo))["ok"] is False


def test_the_json_has_every_field() -> None:
    report = json.loads(as_json(Demo((HOP,), (REFUSAL,))))

    assert report["ok"] is True
    assert report["hops"][0]["caller"]["spiffe_id"] == "spiffe://example.org/a"
    assert report["refusals"][0]["outcome"] == "POLICY_DENIED"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "unknown"), (-3.0, "0s"), (0.5, "0s"), (59.9, "59s"), (60.0, "1m 0s"), (3601.0, "1h 0m 1s")],
)
def test_a_duration_is_short(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
