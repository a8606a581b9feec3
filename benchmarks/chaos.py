"""chaos: what becomes of a stream of webhooks while workers and Postgres are struck by five faults in turn.

One `sellflow web` and two `sellflow worker` processes run on a Postgres of the benchmark's own and are started again
when they end. Signed deliveries come at more than 200 a second and are sent again, under the same webhook id, until
they are answered with 2xx. Throughput is effects (ledger transfers) committed a second. A fault is recovered from
when a window of 3 s has 90 % of the throughput before it and the backlog no longer grows, within 30 s and unaided.

`--seconds` is the length of the phase in which workers are killed (24 times); the other phases are in proportion.
`--scale N` multiplies the deliveries a second.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from secrets import token_hex

from rich.table import Table

from benchmarks.benchmark import Benchmark, Options, Result
from benchmarks.chaos_run import LONGEST_RECOVERY, Outcome, Run
from benchmarks.chaos_traffic import Traffic
from benchmarks.durability import read_postgres, shortfalls
from benchmarks.errors import BenchmarkError
from benchmarks.machine import machine_versions
from benchmarks.paid_orders import PaidOrders
from benchmarks.peers.postgres_server import PostgresServer
from benchmarks.queue_sides import SERVER_SETTINGS
from benchmarks.recovery import effects_per_second
from benchmarks.report import fact_table, progress
from benchmarks.sellflow_side import PATH, READY, Installation
from benchmarks.servers import HOST, STARTING, answers
from benchmarks.supervisor import Supervisor
from benchmarks.turns import temporary_folder

SECONDS = 60.0
RATE = 220.0
WORKERS = ("worker-1", "worker-2")
#: So few that all of them can be taken within a moment.
FEW_CONNECTIONS = {"max_connections": "40"}
HEIGHTS = " ▁▂▃▄▅▆▇█"


def run(options: Options) -> Result:
    """Strike a running installation with each fault in turn, then count."""
    secret = token_hex(32)
    orders = PaidOrders(seed=1, moment=datetime.now(UTC))
    with temporary_folder() as folder:
        postgres = PostgresServer(folder / "postgres", SERVER_SETTINGS | FEW_CONNECTIONS)
        postgres.create()
        postgres.start()
        installation = Installation(folder, database_url=postgres.url_of())
        installation.add_shop(secret)
        roles = {"web": "web"} | dict.fromkeys(WORKERS, "worker")
        supervisor = Supervisor({name: partial(installation.serve, role, name=name) for name, role in roles.items()})
        traffic = Traffic(orders, secret=secret, port=installation.web_port, path=PATH, rate=RATE * options.scale)
        try:
            supervisor.start()
            _wait_until_ready(installation.web_port)
            outcome = Run(postgres=postgres, supervisor=supervisor, workers=WORKERS, traffic=traffic).strike(
                orders, seconds=options.seconds
            )
            durability = {"sellflow": read_postgres(postgres.address)}
            parts = {"sellflow": version("sellflow"), "postgres": postgres.version()}
        finally:
            supervisor.stop()
            postgres.discard()
        return summarise(
            outcome, durability=durability, versions={"machine": machine_versions(folder), "sellflow": parts}
        )


def _wait_until_ready(port: int) -> None:
    deadline = time.perf_counter() + STARTING
    while not answers(port, READY):
        if time.perf_counter() > deadline:
            raise BenchmarkError(f"no web process answered on {HOST}:{port} in {STARTING:.0f} s")
        time.sleep(0.1)
    progress("web is ready")


def summarise(
    outcome: Outcome, *, durability: Mapping[str, Mapping[str, str]], versions: Mapping[str, Mapping[str, str]]
) -> Result:
    """Turn what was counted into the contract's fields, a table of faults and a line of throughput."""
    faults = [
        asdict(each.fault)
        | {
            "before_per_s": round(each.before, 1),
            "recovery_s": each.recovery_s,
            "lowest_after_per_s": each.lowest_after and round(each.lowest_after, 1),
        }
        for each in outcome.survived
    ]
    recoveries = [each.recovery_s if each.recovery_s is not None else LONGEST_RECOVERY for each in outcome.survived]
    fields: dict[str, object] = {
        "sent": outcome.sent,
        "acknowledged": outcome.acknowledged,
        "effects": outcome.effects,
        "lost": outcome.audit.lost,
        "doubled": outcome.audit.doubled,
        "kills": outcome.kills,
        "recovered": sum(each.is_recovered for each in outcome.survived),
        "worst_recovery_s": max(recoveries),
        "resent": outcome.resent,
        "restarts": outcome.restarts,
        "wrong_customers": outcome.audit.wrong + outcome.audit.unbalanced,
        "faults": faults,
        "effects_per_s": [round(rate, 1) for rate in by_second(outcome)],
        "durability": {side: dict(settings) for side, settings in durability.items()},
        "versions": {side: dict(parts) for side, parts in versions.items()},
    }
    return Result(fields, (_timeline(outcome), _facts(fields, durability)))


def by_second(outcome: Outcome) -> list[float]:
    """Return the effects of every second."""
    if not outcome.samples:
        return []
    last = int(outcome.samples[-1].at)
    return [effects_per_second(outcome.samples, second, second + 1) for second in range(last)]


def _timeline(outcome: Outcome) -> Table:
    """Draw the throughput around each fault: one column a second from just before it until it was recovered from."""
    rates = by_second(outcome)
    table = Table(title="Effects a second, one column a second", title_justify="left")
    for heading in ("Fault", "Before", "Recovered", "Lowest after", "Lasted", ""):
        table.add_column(heading, no_wrap=heading != "", justify="left" if heading in ("Fault", "") else "right")
    for each in outcome.survived:
        fault = each.fault
        drawn = draw_rates(rates[max(0, int(fault.began) - 3) : int(fault.watched_until) + 1], full=2 * each.before)
        recovered = f"{each.recovery_s:.1f} s" if each.recovery_s is not None else "no"
        lowest = f"{each.lowest_after:,.0f}/s" if each.lowest_after is not None else ""
        lasted = f"{fault.ended - fault.began:.1f} s"
        table.add_row(fault.name, f"{each.before:,.0f}/s", recovered, lowest, lasted, drawn)
    return table


def draw_rates(rates: list[float], *, full: float) -> str:
    """Draw rates as columns of text, `full` and more at full height."""
    steps = len(HEIGHTS) - 1
    return "".join(HEIGHTS[min(steps, round(steps * max(rate, 0) / full))] if full > 0 else " " for rate in rates)


def _facts(fields: Mapping[str, object], durability: Mapping[str, Mapping[str, str]]) -> Table:
    weak = shortfalls(durability)
    return fact_table(
        "Result",
        [
            ("sent, acknowledged, effects", f"{fields['sent']}, {fields['acknowledged']}, {fields['effects']}"),
            ("lost, doubled", f"{fields['lost']}, {fields['doubled']}"),
            ("customers with wrong points", str(fields["wrong_customers"])),
            ("workers killed", str(fields["kills"])),
            ("recovered from, of 5 faults", str(fields["recovered"])),
            ("slowest recovery", f"{fields['worst_recovery_s']} s"),
            ("durability read back", "; ".join(weak) if weak else "full"),
        ],
    )


BENCHMARK = Benchmark(
    name="chaos",
    summary="webhooks and their effects while workers are killed and Postgres crashes: lost, doubled, recovery",
    seconds=SECONDS,
    run=run,
)
