"""The benchmark works from end to end on a tiny scale; speed is not asserted."""

import shutil
from pathlib import Path

import msgspec
import pytest

from bench.certificates import make_certs
from bench.load import Generator, LoadError
from bench.pair import Pair, pair_of
from bench.peers import all_peers
from bench.peers.base import Certs, Peer, Setup, Side
from bench.peers.baseline import AsyncioStreams
from bench.peers.meshtls import Meshtls
from bench.report import Cell, PeerInfo, Report
from bench.run import measure_all
from bench.workloads import WORKLOADS, Measurement, Scale, Workload

ROOT = Path(__file__).resolve().parents[2]
TINY = Scale(bulk_bytes=40_000, connections=3, messages=70, idle=3, beside_seconds=0.05)
IN_FULL = [workload for workload in WORKLOADS if workload.setup is Setup.FULL]
PATIENCE_S = 1.5

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here")


@pytest.mark.parametrize("in_python", [pytest.param(False, marks=needs_compiler), True])
def test_a_run_of_every_workload_gives_a_report_whose_json_reads_back(in_python: bool) -> None:
    seen: list[Cell] = []
    report = measure_all(
        [AsyncioStreams()],
        IN_FULL,
        TINY,
        rounds=1,
        progress=seen.append,
        infos=[PeerInfo("asyncio", "1"), PeerInfo("envoy", missing="not here")],
        in_python=in_python,
    )
    assert msgspec.json.decode(msgspec.json.encode(report), type=Report) == report
    assert seen == report.cells
    assert [(cell.workload, cell.error) for cell in report.cells] == [(one.name, None) for one in IN_FULL]
    assert [one.workload for one in report.summary] == [one.name for one in IN_FULL]
    assert {cell.workload: cell.units for cell in report.cells if cell.workload != "beside"} == {
        "bulk-1": 1,
        "bulk-8": 8,
        "handshake": TINY.connections,
        "pingpong": TINY.messages,
        "idle": TINY.idle,
    }


def test_a_measurement_that_breaks_is_an_error_in_the_report_and_not_a_number() -> None:
    def broken_off(pair: Pair, generator: Generator, scale: Scale) -> Measurement:
        raise LoadError("a connection broke")

    workload = Workload("bulk-1", "bulk", "CPU-s/GB", Setup.FULL, broken_off)
    report = measure_all(
        [AsyncioStreams()], [workload], TINY, rounds=1, progress=lambda _: None, infos=[], in_python=True
    )
    assert [(cell.value, (cell.error or "").splitlines()[0]) for cell in report.cells] == [(None, "a connection broke")]
    assert report.summary == []


@pytest.fixture(scope="module")
def both_cas(tmp_path_factory: pytest.TempPathFactory) -> tuple[Certs, Certs]:
    """Certificates of our CA, and of a CA that no peer trusts."""
    return make_certs(tmp_path_factory.mktemp("ours")), make_certs(tmp_path_factory.mktemp("theirs"))


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Generator:
    return Generator.build(tmp_path_factory.mktemp("load"))


def peers_with_the_same_certificates() -> list[Peer]:
    return [peer for peer in all_peers(ROOT) if not isinstance(peer, Meshtls)]


@pytest.mark.parametrize("peer", peers_with_the_same_certificates(), ids=lambda peer: peer.name)
@pytest.mark.parametrize("stranger", [None, Side.CLIENT, Side.SERVER], ids=["none", "client", "server"])
def test_a_peer_verifies_on_both_sides(
    peer: Peer, stranger: Side | None, both_cas: tuple[Certs, Certs], generator: Generator, tmp_path: Path
) -> None:
    if peer.name == "envoy" and not (ROOT / ".venv-envoy").exists():
        pytest.skip("a test run doesn't install Envoy; a benchmark run does")
    if missing := peer.missing():
        pytest.skip(missing)
    certs, foreign = both_cas
    if stranger is not None:
        certs = Certs(certs.roots, {**certs.sides, stranger: foreign.sides[stranger]})
    if stranger is None:
        with pair_of(peer, Setup.FULL, certs, generator, tmp_path) as pair:
            assert len(pair.pids) == 2
    else:
        with (
            pytest.raises(LoadError, match=f"^{peer.name}: wanted an echo through the pair, got none"),
            pair_of(peer, Setup.FULL, certs, generator, tmp_path, patience=PATIENCE_S),
        ):
            pytest.fail("a stranger came through")
