"""``meshtls policy test``: judges a table of requests, and compares the verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import click

from meshtls.cli.output import Output, Record, tell
from meshtls.cli.policy.cases import Case, CasesFile, Expectation, cases_in, facts_of, mesh_for, workload_for
from meshtls.cli.policy.tokens import token_review
from meshtls.cli.policy.words import Principals, Told, explained_lines, explained_record, not_applied, principals_of
from meshtls.config.document import read_text
from meshtls.errors import ConfigError, RequestError
from meshtls.policy.files import read_documents
from meshtls.policy.istio.compile import compile_policies
from meshtls.policy.istio.evaluate import WorkloadPolicies
from meshtls.policy.istio.model import Documents
from meshtls.policy.jwt.review import TokenReview
from meshtls.policy.review import Review, review
from meshtls.printable import printable
from meshtls.spiffeid import SpiffeId

__all__ = ["Result", "run_cases", "test"]


@dataclass(frozen=True, slots=True)
class Result:
    """``wrong`` says what differs from what was wanted; it is empty if nothing does."""

    file: str
    case: Case
    told: Told
    wrong: str

    def record(self) -> Record:
        explained = explained_record(self.told)
        return {"file": self.file, "name": self.case.name, "passed": not self.wrong, "wrong": self.wrong, **explained}

    def lines(self) -> Iterator[str]:
        yield f"FAIL  {self.case.name}: {self.wrong}"
        for line in explained_lines(self.told):
            yield f"      {line}"


@click.command()
@click.argument("files", metavar="CASES...", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--output",
    "form",
    type=click.Choice(["text", "json", "junit"]),
    default="text",
    show_default=True,
    help="Text for people, JSON for programs, or JUnit's XML for a CI.",
)
def test(files: tuple[Path, ...], form: str) -> int:
    """Judge each request of the tables in CASES, YAML files, and compare the verdicts.

    A warning tells of a policy with a selector that is not applied since `workloads` does not have the workload.
    Exit code: 0 if all are as wanted, 1 if one is not, 2 for errors.
    """
    results = [result for file in files for result in run_cases(file)]
    failed = [one for one in results if one.wrong]
    if form == "junit":
        tell(*junit(results).split("\n"))
    elif form == "json":
        summary = {"cases": len(results), "failed": len(failed), "results": [one.record() for one in results]}
        Output(as_json=True).record(summary)
    else:
        tell(
            *(line for one in failed for line in one.lines()),
            f"{len(results) - len(failed)} passed, {len(failed)} failed",
        )
    return 1 if failed else 0


def run_cases(file: Path) -> Iterator[Result]:
    """The results of a file's cases, in their order. Raises ConfigError."""
    table = cases_in(str(file), read_text(file))
    documents = read_documents(file.parent / one for one in table.policies)
    destinations: dict[SpiffeId, _Destination] = {}
    for case in table.cases:
        if case.destination not in destinations:
            destinations[case.destination] = _destination(table, documents, case.destination)
            if all(one.id != case.destination for one in table.workloads):
                _warn(file, case.destination, destinations[case.destination].not_applied)
        policies, principals, tokens, missed = destinations[case.destination]
        facts = facts_of(case)
        try:
            request, notes = facts.asked()
        except RequestError as error:
            raise ConfigError(f"{file}: case {case.name!r}: {error}") from error
        found = review(policies, request, reads_http=facts.reads_http, tokens=tokens)
        yield Result(str(file), case, Told(found, principals, missed, notes=notes), _difference(case, found))


def _warn(file: Path, spiffe_id: SpiffeId, missed: Sequence[str]) -> None:
    if missed:
        more = f"; and {len(missed) - 1} more policies" if len(missed) > 1 else ""
        text = f"{file}: {spiffe_id} is not in workloads, so that not applied: {missed[0]}{more}"
        tell(f"meshtls: warning: {text}", err=True)


class _Destination(NamedTuple):
    policies: WorkloadPolicies
    principals: Principals
    tokens: TokenReview
    not_applied: tuple[str, ...]


def _destination(table: CasesFile, documents: Documents, spiffe_id: SpiffeId) -> _Destination:
    mesh, workload = mesh_for(table, spiffe_id), workload_for(table, spiffe_id)
    compiled = compile_policies(documents, mesh, workload)
    return _Destination(
        compiled,
        principals_of(documents, mesh, workload),
        token_review(compiled.jwt_rules, spiffe_id),
        not_applied(documents, mesh, workload),
    )


def _difference(case: Case, found: Review) -> str:
    decision = found.decision
    if decision.allowed is not (case.expect is Expectation.ALLOW):
        return f"wanted {case.expect.value}, got {'allow' if decision.allowed else 'deny'}"
    policy = decision.policy or ""
    if case.policy and case.policy != policy and not policy.endswith(f"-policy[{case.policy}]"):
        return f"wanted policy {case.policy} to decide, got {policy or 'none'}"
    if case.rule and case.rule != decision.rule:
        return f"wanted rule {case.rule} to decide, got {decision.rule or 'none'}"
    return ""


def junit(results: Sequence[Result]) -> str:
    """The results as JUnit's XML, a test suite for each file."""
    root = ElementTree.Element("testsuites")
    for file in dict.fromkeys(one.file for one in results):
        of_file = [one for one in results if one.file == file]
        failed = sum(bool(one.wrong) for one in of_file)
        suite = ElementTree.SubElement(
            root, "testsuite", name=printable(file), tests=str(len(of_file)), failures=str(failed)
        )
        for one in of_file:
            case = ElementTree.SubElement(suite, "testcase", classname=printable(file), name=printable(one.case.name))
            if one.wrong:
                failure = ElementTree.SubElement(case, "failure", message=printable(one.wrong))
                failure.text = "\n".join(map(printable, explained_lines(one.told)))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}'
