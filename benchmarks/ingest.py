"""ingest: how many signed webhooks a second one web process acknowledges after storing them durably.

The work: signed orders/paid deliveries of 3 kB over 32 keep-alive connections in a closed loop, each with its
own webhook id, 1 % of them sent twice. A 200 promises that the delivery is stored; after every turn each
promise is checked against what is stored.

`--scale N` multiplies the connections, and the deliveries that are prepared before the clock starts (a faster
machine than ours may need more: a turn that runs out of them says so).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from secrets import token_hex
from statistics import median

from rich.table import Table

from benchmarks.benchmark import Benchmark, Options, Result
from benchmarks.durability import shortfalls
from benchmarks.figures import Pair, median_by_name, median_ratio
from benchmarks.floors.hmac_servers import HmacAsgi, HmacNode
from benchmarks.floors.pgmq_batch import CONNECTIONS as PGMQ_CONNECTIONS
from benchmarks.floors.pgmq_batch import NAME as PGMQ_BATCH
from benchmarks.floors.pgmq_batch import measure_pgmq_batch
from benchmarks.peers.express import ExpressBullmq, ExpressPgboss
from benchmarks.report import Bar, bar_table, fact_table, progress
from benchmarks.sellflow_side import PATH, SellflowWeb
from benchmarks.turns import Turn, Turns, temporary_folder


def run(options: Options) -> Result:
    """Measure Sellflow, its peers and the floors, each in turn and alone."""
    secret = token_hex(32)
    with temporary_folder() as folder:
        turns = Turns(options, path=PATH, secret=secret, folder=folder)
        rounds = turns.rounds([SellflowWeb(secret), ExpressBullmq(secret), ExpressPgboss(secret)])
        floors = turns.floors([HmacAsgi(secret), HmacNode(secret)])
        progress(f"pgmq.send_batch over {' / '.join(map(str, PGMQ_CONNECTIONS))} connections")
        batch = measure_pgmq_batch(folder / PGMQ_BATCH, options.seconds / len(PGMQ_CONNECTIONS))
    return summarise(
        rounds,
        floors | {PGMQ_BATCH: batch.best},
        durability=turns.durability | {PGMQ_BATCH: batch.durability},
        versions=turns.versions | {PGMQ_BATCH: batch.versions},
    )


def summarise(
    rounds: Sequence[Mapping[str, Turn]],
    floors: Mapping[str, float],
    *,
    durability: Mapping[str, Mapping[str, str]],
    versions: Mapping[str, Mapping[str, str]],
) -> Result:
    """Turn the rounds into the contract's fields and a table for people."""
    pairs = [_pair(each) for each in rounds]
    ours = [each["sellflow"] for each in rounds]
    fields: dict[str, object] = {
        "sellflow_rps": round(median(pair.sellflow for pair in pairs), 1),
        "p99_ms": round(median(turn.load.p99_ms for turn in ours), 3),
        "peers": median_by_name([pair.peers for pair in pairs]),
        "ratio_best_peer": round(median_ratio(pairs), 3),
        "floors": dict(floors),
        "lost": sum(turn.audit.lost for turn in ours),
        "doubled": sum(turn.audit.doubled for turn in ours),
        "pairs": [_raw_pair(pair, each) for pair, each in zip(pairs, rounds, strict=True)],
        "durability": {side: dict(settings) for side, settings in durability.items()},
        "versions": {side: dict(parts) for side, parts in versions.items()},
    }
    return Result(fields, (_bars(rounds, floors), _facts(fields, durability)))


def _pair(turns: Mapping[str, Turn]) -> Pair:
    rates = {name: turn.load.rps for name, turn in turns.items()}
    return Pair(rates.pop("sellflow"), rates)


def _raw_pair(pair: Pair, turns: Mapping[str, Turn]) -> dict[str, object]:
    return {
        "sellflow_rps": pair.sellflow,
        "peers": dict(pair.peers),
        "ratio": round(pair.ratio, 3),
        "sides": {name: asdict(turn.load) | asdict(turn.audit) for name, turn in turns.items()},
    }


def _bars(rounds: Sequence[Mapping[str, Turn]], floors: Mapping[str, float]) -> Table:
    sides = [
        Bar(
            name,
            median(each[name].load.rps for each in rounds),
            f"p99 {median(each[name].load.p99_ms for each in rounds):.1f} ms, "
            f"lost {sum(each[name].audit.lost for each in rounds)}, "
            f"doubled {sum(each[name].audit.doubled for each in rounds)}",
        )
        for name in rounds[0]
    ]
    return bar_table(
        "Deliveries stored and acknowledged; below, what parts of the work cost alone",
        [
            sides,
            [Bar(name, rate, "stores nothing" if "hmac" in name else "") for name, rate in floors.items()],
        ],
    )


def _facts(fields: Mapping[str, object], durability: Mapping[str, Mapping[str, str]]) -> Table:
    weak = shortfalls(durability)
    return fact_table(
        "Result",
        [
            ("Sellflow ÷ best peer (median of the pairs)", str(fields["ratio_best_peer"])),
            ("lost, doubled", f"{fields['lost']}, {fields['doubled']}"),
            ("durability read back", "; ".join(weak) if weak else "full on every side"),
        ],
    )


BENCHMARK = Benchmark(
    name="ingest",
    summary="signed webhooks stored and acknowledged a second, beside Express with BullMQ and pg-boss",
    seconds=10.0,
    run=run,
)
