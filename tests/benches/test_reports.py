"""What the benchmarks make of recorded figures: tables, plots, and the verdict on ratios."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benches.growth import report as growth
from benches.peers import contenders, process, report
from benches.peers.adapters import Chunks
from benches.ratio import run as ratio
from benches.ratio.yardstick import Yardstick

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benches/results"


def recorded(name: str) -> Any:
    return json.loads((RESULTS / name).read_text())


def runs(*figures: dict[str, Any]) -> dict[str, Any]:
    machine = {"cores": 2, "cpu": "one", "kernel": "6"}
    return {"started": "then", "command": "run", "machine": machine, "runs": list(figures)}


def row(page: str, heading: str, label: str) -> list[str]:
    section = page.partition(f"## {heading}")[2].partition("\n## ")[0]
    (line,) = [each for each in section.splitlines() if each.startswith(f"| {label} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_of_peers_is_what_the_suite_writes_of_its_results(tmp_path: Path) -> None:
    copy = tmp_path / "peers.json"
    copy.write_text((RESULTS / "peers.json").read_text())
    report.write(copy, tmp_path)
    assert (tmp_path / "peers.md").read_text() == (ROOT / "docs/peers.md").read_text()
    assert (tmp_path / "peers.svg").read_text() == (ROOT / "docs/peers.svg").read_text()


def test_the_page_of_growth_is_what_the_suite_writes_of_its_results(tmp_path: Path) -> None:
    growth.write(recorded("growth.json"), tmp_path)
    written = sorted(tmp_path.iterdir())
    assert len(written) == 7
    for path in written:
        assert path.read_text() == (ROOT / "docs/reference" / path.name).read_text(), path.name


def test_ratios_tell_how_many_times_better_for_rates_and_for_times() -> None:
    data = runs(
        {"round": 1, "contender": report.SUBJECT, "rr32_s": 3000.0, "rr_p50_ms": 0.5},
        {"round": 2, "contender": report.SUBJECT, "rr32_s": 4000.0, "rr_p50_ms": 0.5},
        {"round": 1, "contender": report.BASELINE, "rr32_s": 1000.0, "rr_p50_ms": 2.0},
    )
    page = report.tables(data)
    heading = f"{report.SUBJECT}, beside {report.BASELINE}"
    rate = row(page, heading, "64 B request-response, 32 at once, per second")
    assert rate[1:3] == ["≥ 16x", "3.50x"]
    assert rate[3] == "3,500 (3,000-4,000)"
    time_row = row(page, heading, "64 B request-response, new stream, p50 ms")
    assert time_row[1:3] == ["≥ 10x", "4.00x"]


def test_a_batch_is_compared_with_single_datagrams_of_who_has_no_batch() -> None:
    data = runs(
        {"contender": report.BASELINE, "datagram_batch_cannot": "has no call for several"},
        {"round": 1, "contender": report.SUBJECT, "datagram_batch_s": 5000.0},
        {"round": 1, "contender": report.BASELINE, "datagrams_s": 10.0},
    )
    cells = row(
        report.tables(data),
        f"{report.SUBJECT}, beside {report.BASELINE}",
        "64 B datagrams delivered per second, 128 a call",
    )
    assert cells[1:] == ["≥ 200x", "500.0x", "5,000 (5,000-5,000)", "- [1]"]


def test_a_missing_figure_has_its_reason_below() -> None:
    data = runs(
        {"contender": "one", "idle_cannot": "has no connections"},
        {"round": 1, "contender": "one", "upload_MBs": 1.0},
        {"round": 1, "contender": "two", "upload_failed": "it broke"},
        {"round": 1, "contender": "two", "idle_KB": 1.0},
    )
    page = report.tables(data)
    assert row(page, "All in Python", "upload, one stream, MB/s")[1:] == ["1.000", "- [1]"]
    idle = row(page, "All in Python", "server memory per idle connection, KB")
    assert idle[1:] == ["- [2]", "1.000"]
    assert "1. two: failed: it broke\n2. has no connections" in page
    assert "- round 1, two: upload: it broke" in page


def test_the_field_is_apart_from_python() -> None:
    data = runs(
        *(
            {"round": 1, "contender": name, "upload_MBs": 2.0}
            for name in (report.SUBJECT, "aioquic", *report.FIELD)
        )
    )
    page = report.tables(data)
    assert len(row(page, "All in Python", "upload, one stream, MB/s")) == 3
    field = row(page, "The field in Rust and Go", "upload, one stream, MB/s")
    assert field[1:] == ["2.000"] * 4 + ["1.00x"] * 3


def test_whoever_is_compared_takes_part() -> None:
    names = {*contenders.NAMES, report.CEILING}
    assert {report.SUBJECT, report.BASELINE, *report.FIELD} <= names
    assert {name for subject, baseline, _ in report.OWN for name in (subject, baseline)} <= names
    assert ratio.SUBJECT in names
    assert set(report.GOALS) <= {each.key for each in report.ROWS}


@pytest.mark.parametrize(("now", "is_lost"), [(0.5, False), (0.574, False), (0.576, True)])
def test_a_loss_of_more_than_fifteen_percent_is_told(now: float, is_lost: bool) -> None:
    measured = {"upload": ratio.Ratio(now, now)}
    assert bool(ratio.losses(measured, {"upload": 0.5}, ratio.ALLOWED)) == is_lost


def test_turns_that_agree_are_certain_and_those_far_apart_are_not() -> None:
    calm = ratio.ratio([(2.0 + n / 100, 8.0) for n in range(9)])
    wild = ratio.ratio([(float(n), 8.0) for n in (0.8, 1.2, 1.6, 1.9, 2.04, 2.4, 2.8, 3.2, 3.6)])
    assert calm.middle == pytest.approx(wild.middle)
    assert calm.least > 0.98 * calm.middle
    assert wild.least < 0.95 * wild.middle


def test_one_turn_does_not_count() -> None:
    turns = [(2.0, 8.0)] * 14 + [(50.0, 8.0)]
    assert ratio.ratio(turns) == (0.25, 0.25)


def test_a_loss_is_told_when_every_pass_has_it_and_only_suspects_are_measured_again() -> None:
    passes = [{"a": 2.0, "b": 2.0, "c": 1.0}, {"a": 1.9, "b": 1.1}, {"a": 1.8}]
    asked: list[list[str]] = []

    def measure(workloads: list[str]) -> dict[str, ratio.Ratio]:
        asked.append(workloads)
        return {each: ratio.Ratio(found, found) for each, found in passes.pop(0).items()}

    norm = {"a": 1.0, "b": 1.0, "c": 1.0}
    best = ratio.check(measure, norm, ratio.ALLOWED)
    assert asked == [["a", "b", "c"], ["a", "b"], ["a"]]
    assert ratio.losses(best, norm, ratio.ALLOWED) == {"a": 1.8}


def test_every_workload_has_its_recorded_ratio() -> None:
    assert set(recorded("ratios.json")["ratios"]) == set(ratio.COUNTS)


def test_the_clock_of_another_process_is_its_cpu_time() -> None:
    early = time.process_time_ns()
    seen = process.cpu_ns(os.getpid())
    assert early <= seen <= time.process_time_ns()
    assert process.resident_kb(os.getpid()) > 1000


def test_the_yardstick_counts_its_own_cpu_time() -> None:
    with Yardstick() as yardstick:
        begin = time.process_time_ns()
        seen = yardstick.alone()
        assert 0 < seen * 1e6 <= time.process_time_ns() - begin
        assert yardstick.in_turns() > 0


def test_plots_are_xml() -> None:
    entry = {"server_us": 1.0, "client_us": 2.0, "request_us": 3.0}
    memory = {"server_KB": 0.0, "client_KB": 0.0}
    ElementTree.fromstring(
        growth.plot("a < b", [{"size": 10.0, **entry, **memory}, {"size": 90.0, **entry, **memory}])
    )
    ElementTree.fromstring(report.plot(recorded("peers.json")))


async def test_reads_over_chunks_lose_nothing() -> None:
    chunks = [b"head", b"er", b"body", b"", b""]

    class Given(Chunks):
        async def next_chunk(self) -> bytes:
            return chunks.pop(0)

    stream = Given()
    assert await stream.readexactly(5) == b"heade"
    assert await stream.read(65_536) == b"r"
    assert await stream.read(3) == b"bod"
    assert await stream.read_all() == b"y"
    with pytest.raises(EOFError):
        await stream.readexactly(1)
