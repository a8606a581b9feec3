"""The command line, and the shape of what it prints."""

from __future__ import annotations

import json

import pytest

from benchmarks import footprint, ingest
from benchmarks.__main__ import main
from benchmarks.benchmark import Benchmark, Options, Result
from benchmarks.errors import BenchmarkError
from benchmarks.load import LoadResult
from benchmarks.registry import BENCHMARKS
from benchmarks.report import Bar, bar_table, draw_bar, fact_table, progress
from benchmarks.sides import Audit
from benchmarks.turns import Turn

DURABILITY = {"sellflow": {"fsync": "on"}, "express+bullmq": {"appendfsync": "always"}}


def turn(rps: float, *, lost: int = 0, doubled: int = 0) -> Turn:
    load = LoadResult(
        sent=10,
        accepted=10,
        requests=10,
        statuses={"200": 10},
        connection_errors=0,
        seconds=1.0,
        rps=rps,
        p50_ms=1.0,
        p99_ms=2.5,
        exhausted=False,
        client_cpu_percent=10.0,
    )
    return Turn(load, Audit(acknowledged=10, lost=lost, unqueued=0, doubled=doubled))


def measured() -> Result:
    rounds = [
        {"sellflow": turn(6000, lost=1), "express+bullmq": turn(2000), "express+pgboss": turn(1000, lost=9)},
        {"sellflow": turn(5000, doubled=2), "express+bullmq": turn(1000), "express+pgboss": turn(1250)},
        {"sellflow": turn(8000), "express+bullmq": turn(1600), "express+pgboss": turn(900)},
    ]
    return ingest.summarise(rounds, {"hmac_asgi": 40_000.0}, durability=DURABILITY, versions={"sellflow": {}})


def fake(result: Result | BenchmarkError, asked: list[Options] | None = None) -> dict[str, Benchmark]:
    def run(options: Options) -> Result:
        if asked is not None:
            asked.append(options)
        progress("measuring [not markup]")
        if isinstance(result, BenchmarkError):
            raise result
        return result

    return {"fake": Benchmark("fake", "nothing", 3.0, run)}


def test_the_last_line_is_one_json_object_and_progress_goes_elsewhere(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["fake", "--json"], fake(measured())) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out.splitlines()[-1])["sellflow_rps"] == 6000
    assert printed.out.count("\n") == 1
    assert "measuring [not markup]" in printed.err


def test_ingest_reports_the_fields_of_its_contract() -> None:
    fields = measured().fields
    assert set(fields) == {
        "sellflow_rps",
        "p99_ms",
        "peers",
        "ratio_best_peer",
        "floors",
        "lost",
        "doubled",
        "pairs",
        "durability",
        "versions",
    }
    assert fields["peers"] == {"express+bullmq": 1600, "express+pgboss": 1000}
    assert fields["ratio_best_peer"] == 4
    assert (fields["lost"], fields["doubled"], fields["p99_ms"]) == (1, 2, 2.5)
    assert fields["durability"] == DURABILITY


def test_every_raw_pair_is_reported() -> None:
    pairs = json.loads(json.dumps(measured().fields["pairs"]))
    assert [pair["ratio"] for pair in pairs] == [3, 4, 5]
    assert pairs[0]["sides"]["express+pgboss"]["lost"] == 9


def test_footprint_reports_the_fields_of_its_contract() -> None:
    idle = footprint.Idle(rss_mb=101.5, cpu_percent=0.8, processes={"1 sellflow": 60.0, "2 postgres": 41.5})
    fields = footprint.summarise(idle, ready=0.61234, first_ready=1.5, machine={}).fields
    assert {"rss_mb", "cpu_percent", "ready_s", "first_ready_s"} <= set(fields)
    assert fields["ready_s"] == 0.612


def test_without_json_a_person_sees_bars(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fake"], fake(measured())) == 0
    printed = capsys.readouterr().out
    assert "█" in printed
    assert "express+bullmq" in printed


def test_seconds_and_scale_reach_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Options] = []
    main(["fake"], fake(measured(), asked))
    main(["fake", "--seconds", "0.5", "--scale", "4"], fake(measured(), asked))
    assert asked == [Options(3.0, 1), Options(0.5, 4)]
    capsys.readouterr()


def test_what_cannot_be_measured_is_said_and_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fake", "--json"], fake(BenchmarkError("Redis did not start"))) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Redis did not start" in printed.err


@pytest.mark.parametrize(
    "arguments",
    [[], ["nothing"], ["fake", "--seconds", "0"], ["fake", "--scale", "0"], ["fake", "--scale", "many"]],
)
def test_what_is_asked_wrongly_exits_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments, fake(measured()))
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_every_benchmark_is_registered_under_its_own_name() -> None:
    assert {name: each.name for name, each in BENCHMARKS.items()} == {name: name for name in BENCHMARKS}
    assert {"ingest", "footprint"} <= set(BENCHMARKS)


def test_bars_are_drawn_to_one_scale() -> None:
    assert len(draw_bar(50, 100)) * 2 == len(draw_bar(100, 100))
    assert draw_bar(0, 0) == ""
    assert bar_table("t", [[Bar("a", 1)], [Bar("b", 2)]]).row_count == 2
    assert fact_table("t", [("name", "value")]).row_count == 1
