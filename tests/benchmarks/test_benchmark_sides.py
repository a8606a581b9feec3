"""A 2xx answer is a promise, and the audit finds every one that was broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.benchmark import Options
from benchmarks.deliveries import webhook_id
from benchmarks.errors import BenchmarkError
from benchmarks.load import LoadResult
from benchmarks.load_process import LoadOrder
from benchmarks.machine import file_system
from benchmarks.sides import Audit, Stored, audit
from benchmarks.turns import PAIRS, Turns, oddities


def test_what_was_acknowledged_but_not_recorded_is_lost() -> None:
    assert audit({"a", "b"}, Stored({"a": 1}, {"a": 1})) == Audit(2, lost=1, unqueued=1, doubled=0)


def test_what_was_recorded_but_not_queued_is_not_lost_but_told() -> None:
    assert audit({"a", "b"}, Stored({"a": 1, "b": 1}, {"a": 1})) == Audit(2, lost=0, unqueued=1, doubled=0)


def test_a_second_record_or_message_is_counted_once_a_webhook() -> None:
    stored = Stored({"a": 2, "b": 1, "c": 1, "d": 3}, {"a": 2, "b": 2, "c": 1})
    assert audit({"a", "b", "c"}, stored) == Audit(3, lost=0, unqueued=0, doubled=3)


def test_what_was_stored_but_never_answered_is_no_loss() -> None:
    assert audit(set(), Stored({"a": 1}, {"a": 1})) == Audit(0, lost=0, unqueued=0, doubled=0)


class FakeSide:
    """A side without servers that keeps a diary shared with the others; it forgets one webhook id."""

    ceiling = 10

    def __init__(self, name: str, diary: list[str]) -> None:
        self.name = name
        self._diary = diary

    def prepare(self, folder: Path) -> None:
        assert folder.is_dir()
        self._diary.append(f"prepare {self.name}")

    def start(self) -> int:
        self._diary.append(f"start {self.name}")
        return 1

    def stop(self) -> None:
        self._diary.append(f"stop {self.name}")

    def stored(self, run: int) -> Stored:
        kept: Mapping[str, int] = {webhook_id(run, 1): 1}
        return Stored(kept, kept)

    def durability(self) -> dict[str, str]:
        return {"fsync": "on"}

    def versions(self) -> dict[str, str]:
        return {"fake": "1"}


def result(requests: int = 2) -> LoadResult:
    return LoadResult(2, 2, requests, {"200": requests}, 0, 1.0, 2.0, 1.0, 2.0, exhausted=False, client_cpu_percent=1)


def turns(folder: Path, orders: list[LoadOrder], requests: int = 2, forgery_status: int = 401) -> Turns:
    def client(order: LoadOrder) -> tuple[LoadResult, set[int]]:
        orders.append(order)
        return result(requests), {0, 1}

    def ask(_port: int, request: bytes) -> int:
        assert request.startswith(b"POST / HTTP/1.1\r\n")
        return forgery_status

    return Turns(Options(5.0, scale=2), path="/", secret="s", folder=folder, client=client, ask=ask)


def test_sides_run_in_turn_and_never_two_at_a_time(tmp_path: Path) -> None:
    diary: list[str] = []
    orders: list[LoadOrder] = []
    measured = turns(tmp_path, orders)
    rounds = measured.rounds([FakeSide("a", diary), FakeSide("b", diary)])
    assert diary == ["prepare a", "prepare b", *["start a", "stop a", "start b", "stop b"] * PAIRS]
    assert [list(each) for each in rounds] == [["a", "b"]] * PAIRS
    assert all(turn.audit == Audit(2, lost=1, unqueued=1, doubled=0) for each in rounds for turn in each.values())
    assert measured.durability == {"a": {"fsync": "on"}, "b": {"fsync": "on"}}


def test_every_turn_sends_a_run_of_its_own_to_scale(tmp_path: Path) -> None:
    orders: list[LoadOrder] = []
    turns(tmp_path, orders).rounds([FakeSide("a", [])])
    assert len({order.run for order in orders}) == PAIRS
    assert {order.connections for order in orders} == {64}
    assert {order.count for order in orders} == {10 * 2 * 6}


def test_a_side_that_answers_nothing_stops_the_benchmark_and_is_stopped(tmp_path: Path) -> None:
    diary: list[str] = []
    with pytest.raises(BenchmarkError, match="a answered nothing"):
        turns(tmp_path, [], requests=0).rounds([FakeSide("a", diary)])
    assert diary[-1] == "stop a"


def test_a_side_that_accepts_a_forged_delivery_is_not_measured(tmp_path: Path) -> None:
    diary: list[str] = []
    with pytest.raises(BenchmarkError, match="forged delivery with 200 instead of 401"):
        turns(tmp_path, [], forgery_status=200).rounds([FakeSide("a", diary)])
    assert diary[-1] == "stop a"


def test_what_was_odd_about_a_turn_is_said() -> None:
    assert oddities(result()) == ""
    odd = replace(result(), statuses={"200": 2, "503": 1}, connection_errors=4, exhausted=True)
    assert oddities(odd) == (
        "; 1 answers with 503; 4 requests without an answer; ran out of prepared deliveries, see --scale"
    )


def test_the_longest_mount_point_holds_a_folder() -> None:
    mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /v tmpfs rw 0 0\n/dev/vdb /v/data xfs rw 0 0\n"
    assert [file_system(Path(path), mounts) for path in ("/v/data/x", "/v/x", "/va")] == [
        "xfs",
        "tmpfs",
        "ext4",
    ]


def test_floors_are_rates_by_name(tmp_path: Path) -> None:
    assert turns(tmp_path, []).floors([FakeSide("a", []), FakeSide("b", [])]) == {"a": 2.0, "b": 2.0}
