"""Traffic sends again until it is acknowledged; a supervisor starts again what was killed; the report adds up."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import chaos, drain
from benchmarks.backlog import BacklogFigures
from benchmarks.books import BooksAudit
from benchmarks.chaos_run import Outcome, Survived
from benchmarks.chaos_traffic import Traffic
from benchmarks.deliveries import webhook_id
from benchmarks.drain_turns import Drained, DrainTurn
from benchmarks.paid_orders import PaidOrders
from benchmarks.peers.install import HERE
from benchmarks.recovery import Fault, Sample
from benchmarks.servers import ServerProcess, plain_environment
from benchmarks.supervisor import Supervisor

CLEAN = BooksAudit(orders=10, lost=0, doubled=0, wrong=0, unbalanced=0)


@asynccontextmanager
async def answering(answers: list[bytes], asked: list[bytes], came: asyncio.Semaphore) -> AsyncIterator[int]:
    """Serve a list of answers and then 200 for ever; an empty answer closes the connection. `asked` are the heads."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            asked.append(head)
            came.release()
            answer = answers.pop(0) if answers else b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
            if not answer:
                break
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_what_is_refused_or_unanswered_is_sent_again_under_the_same_id() -> None:
    asked: list[bytes] = []
    came = asyncio.Semaphore(0)
    refused = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
    async with answering([b"", refused], asked, came) as port:
        orders = PaidOrders(seed=1, moment=datetime.now(UTC), customers=2)
        traffic = Traffic(orders, secret="hush", port=port, path="/", rate=1000)
        traffic.start()
        for _ in range(60):
            await came.acquire()
        await asyncio.to_thread(traffic.finish, within=60)
    ids = Counter(head.split(b"X-Shopify-Webhook-Id: ")[1].split(b"\r\n")[0].decode() for head in asked)
    assert traffic.resent == 2
    assert traffic.acknowledged == set(range(traffic.sent))
    assert set(ids) == {webhook_id(1, number) for number in range(traffic.sent)}
    # Twice sent again, and every fiftieth of those acknowledged sent once more.
    assert sum(ids.values()) == traffic.sent + 2 + len(range(0, traffic.sent, 50))


def test_what_is_killed_is_started_again(tmp_path: Path) -> None:
    started, again = [], threading.Event()

    def start() -> ServerProcess:
        started.append(1)
        if len(started) == 2:
            again.set()
        return ServerProcess(
            ["/bin/cat", "/dev/zero"], environment=plain_environment(), log=Path("/dev/null"), cwd=tmp_path
        )

    supervisor = Supervisor({"cat": start})
    supervisor.start()
    try:
        assert supervisor.kill("cat")
        assert again.wait(30)
    finally:
        supervisor.stop()
    assert (supervisor.kills, len(started)) == (1, 2)


def outcome() -> Outcome:
    samples = [Sample(second, 10 * second, 10 * second) for second in range(41)]
    return Outcome(
        sent=400,
        acknowledged=400,
        effects=400,
        resent=3,
        kills=24,
        restarts=24,
        audit=CLEAN,
        survived=[
            Survived(Fault("one", 5, 6, 6, 12), 10.0, 1.5),
            Survived(Fault("two", 15, 16, 15, 50), 10.0, None),
            Survived(Fault("three", 25, 26, 26, 70), 10.0, 31.0),
        ],
        samples=samples,
    )


def test_chaos_reports_the_fields_of_its_contract() -> None:
    result = chaos.summarise(outcome(), durability={"sellflow": {"fsync": "on"}}, versions={})
    fields = json.loads(json.dumps(result.fields))
    contract = {"sent", "acknowledged", "effects", "lost", "doubled", "kills", "recovered", "worst_recovery_s"}
    assert contract <= set(fields)
    assert (fields["recovered"], fields["worst_recovery_s"], fields["kills"]) == (1, 31.0, 24)
    assert fields["effects_per_s"] == [10.0] * 40
    assert result.tables


def test_rates_are_drawn_to_scale() -> None:
    assert chaos.draw_rates([0, 50, 100, 300], full=100) == " ▄██"
    assert chaos.draw_rates([1], full=0) == " "


def drained(rate: float, *, lost: int = 0) -> DrainTurn:
    audit = BooksAudit(orders=10, lost=lost, doubled=0, wrong=0, unbalanced=0)
    return DrainTurn(Drained(10, 10 / rate, rate, {"worker": 100.0, "postgres": 200.0}), audit)


def test_drain_reports_the_fields_of_its_contract() -> None:
    rounds = [
        {"sellflow": drained(900), "bullmq": drained(300), "pgboss": drained(100, lost=1)},
        {"sellflow": drained(800), "bullmq": drained(400), "pgboss": drained(100)},
        {"sellflow": drained(1000, lost=2), "bullmq": drained(200), "pgboss": drained(100)},
    ]
    backlog = BacklogFigures(waiting=500, empty=[100, 200, 300], deep=[190, 180, 10], fairness=[0, 2, 1])
    fields = drain.summarise(rounds, backlog, differing=["pgboss"], durability={}, versions={}).fields
    contract = {"sellflow_per_s", "peers", "ratio_best_peer", "backlog_ratio", "fairness_batches", "lost", "doubled"}
    assert contract | {"pairs"} <= set(fields)
    assert fields["sellflow_per_s"] == 900
    assert fields["peers"] == {"bullmq": 300, "pgboss": 100}
    assert fields["ratio_best_peer"] == 3
    assert (fields["backlog_ratio"], fields["fairness_batches"], fields["lost"]) == (0.9, 2, 2)
    assert fields["different_rows"] == ["pgboss"]


def test_python_packages_of_a_peer_are_pinned_by_hash_and_name_no_address() -> None:
    text = (HERE / "requirements-procrastinate.txt").read_text()
    entries = text.replace("\\\n", " ").splitlines()
    assert entries
    assert all("==" in entry and "--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
