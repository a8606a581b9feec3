"""drain: how many queued orders/paid a second one worker process turns into orders, ledger entries, lots and balances.

The work: 20,000 orders of 2,000 customers, queued before the clock starts. Every side leaves the same rows in the
same tables, and they are checked against the payloads. Then Sellflow alone: its rate while 500,000 messages wait,
and how many batches are claimed before the single event of a shop that arrives behind another's 100,000.

`--seconds` other than 60 makes the work smaller or larger in proportion (15 is 5,000 orders, and a backlog of
125,000); `--scale N` multiplies it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from statistics import median

from rich.table import Table

from benchmarks.backlog import BacklogFigures, measure_backlog
from benchmarks.benchmark import Benchmark, Options, Result
from benchmarks.drain_turns import DrainTurn, DrainTurns
from benchmarks.durability import shortfalls
from benchmarks.figures import Pair, median_by_name, median_ratio
from benchmarks.paid_orders import PaidOrders
from benchmarks.peers.queue_workers import BullmqWorker, PgbossWorker, ProcrastinateWorker
from benchmarks.report import Bar, bar_table, fact_table
from benchmarks.sellflow_worker import SellflowWorker
from benchmarks.turns import temporary_folder

SECONDS = 60.0
ORDERS = 20_000
WAITING = 500_000
#: Seconds after which a side is given up.
LIMIT = 1800.0


def run(options: Options) -> Result:
    """Drain every side in turn, then Sellflow alone under a backlog."""
    size = options.scale * options.seconds / SECONDS
    with temporary_folder() as folder:
        orders = PaidOrders(seed=1, moment=datetime.now(UTC))
        turns = DrainTurns(orders, count=round(ORDERS * size), limit=LIMIT, folder=folder)
        rounds = turns.rounds([SellflowWorker(), BullmqWorker(), PgbossWorker(), ProcrastinateWorker()])
        backlog = measure_backlog(
            folder / "backlog", count=round(ORDERS * size), waiting=round(WAITING * size), limit=LIMIT
        )
    return summarise(rounds, backlog, differing=turns.differing(), durability=turns.durability, versions=turns.versions)


def summarise(
    rounds: Sequence[Mapping[str, DrainTurn]],
    backlog: BacklogFigures,
    *,
    differing: Sequence[str],
    durability: Mapping[str, Mapping[str, str]],
    versions: Mapping[str, Mapping[str, str]],
) -> Result:
    """Turn the rounds into the contract's fields and tables for people."""
    pairs = [_pair(each) for each in rounds]
    ours = [each["sellflow"] for each in rounds]
    fields: dict[str, object] = {
        "sellflow_per_s": round(median(pair.sellflow for pair in pairs), 1),
        "peers": median_by_name([pair.peers for pair in pairs]),
        "ratio_best_peer": round(median_ratio(pairs), 3),
        "backlog_ratio": round(backlog.ratio, 3),
        "fairness_batches": max(backlog.fairness),
        # The books of the last round hold the orders of all.
        "lost": ours[-1].audit.lost,
        "doubled": ours[-1].audit.doubled,
        "different_rows": list(differing),
        "pairs": [_raw_pair(pair, each) for pair, each in zip(pairs, rounds, strict=True)],
        "backlog": asdict(backlog),
        "durability": {side: dict(settings) for side, settings in durability.items()},
        "versions": {side: dict(parts) for side, parts in versions.items()},
    }
    return Result(fields, (_bars(rounds), _facts(fields, rounds, durability)))


def _pair(turns: Mapping[str, DrainTurn]) -> Pair:
    rates = {name: turn.drained.per_s for name, turn in turns.items()}
    return Pair(rates.pop("sellflow"), rates)


def _raw_pair(pair: Pair, turns: Mapping[str, DrainTurn]) -> dict[str, object]:
    return {
        "sellflow_per_s": pair.sellflow,
        "peers": dict(pair.peers),
        "ratio": round(pair.ratio, 3),
        "sides": {name: asdict(turn.drained) | asdict(turn.audit) for name, turn in turns.items()},
    }


def _bars(rounds: Sequence[Mapping[str, DrainTurn]]) -> Table:
    bars = [
        Bar(
            name,
            median(each[name].drained.per_s for each in rounds),
            "processor time an order: "
            + ", ".join(
                f"{process} {median(each[name].drained.cpu_us[process] for each in rounds):.0f} µs"
                for process in rounds[0][name].drained.cpu_us
            ),
        )
        for name in rounds[0]
    ]
    return bar_table("Queued orders that became ledger rows, one worker process each", [bars])


def _facts(
    fields: Mapping[str, object],
    rounds: Sequence[Mapping[str, DrainTurn]],
    durability: Mapping[str, Mapping[str, str]],
) -> Table:
    weak = shortfalls(durability)
    wrong = [name for name, turn in rounds[-1].items() if not turn.audit.is_clean]
    return fact_table(
        "Result",
        [
            ("Sellflow ÷ best peer (median of the pairs)", str(fields["ratio_best_peer"])),
            ("with a deep backlog ÷ without", str(fields["backlog_ratio"])),
            ("batches claimed before another shop's single event", str(fields["fairness_batches"])),
            ("lost, doubled", f"{fields['lost']}, {fields['doubled']}"),
            ("books that do not add up", ", ".join(wrong) if wrong else "none"),
            ("durability read back", "; ".join(weak) if weak else "full on every side"),
        ],
    )


BENCHMARK = Benchmark(
    name="drain",
    summary="queued orders a worker turns into ledger rows a second, beside BullMQ, pg-boss and procrastinate",
    seconds=SECONDS,
    run=run,
)
