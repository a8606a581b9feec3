"""The process's Prometheus metrics, and beside them what the queues hold: read at most every few seconds."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

import structlog
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sellflow.errors import SellflowError
from sellflow.postgres.database import UNAVAILABLE
from sellflow.queue.figures import QueueFigures
from sellflow.status.probe import Probe

log = structlog.get_logger(__name__)

#: Seconds for which figures are good: however often somebody scrapes, the database is asked no more often.
MAX_AGE = 5.0

#: Every gauge: its name behind sellflow_queue_, what it says, and how it is read.
GAUGES: tuple[tuple[str, str, Callable[[QueueFigures], float]], ...] = (
    ("depth", "Messages in the queue, claimed or not.", lambda f: f.waiting + f.in_flight),
    ("in_flight", "Messages that a worker holds.", lambda f: f.in_flight),
    ("parked", "Messages that wait for another attempt.", lambda f: f.parked),
    ("followers", "Messages that wait behind an elder one of their key.", lambda f: f.followers),
    ("dead_letters", "Dead letters that wait for somebody's decision.", lambda f: f.dead),
    ("oldest_waiting_seconds", "Age of the oldest message that waits for a worker.", lambda f: f.oldest_seconds),
    ("paused", "Whether the whole queue is paused.", lambda f: f.paused),
    ("paused_shops", "Shops that are paused in the queue.", lambda f: f.paused_shops),
)


class QueueMetrics(Collector):
    """The newest figures as gauges. While the database is away there are none: old ones would lie."""

    def __init__(self, read: Callable[[], Awaitable[Sequence[QueueFigures]]]) -> None:
        self._probe = Probe(read)
        self._figures: Sequence[QueueFigures] = ()
        self._is_up = False
        self._asked_at = float("-inf")
        self._registry = CollectorRegistry()
        self._registry.register(self)

    async def exposition(self) -> bytes:
        """Return the process's metrics and the queues', in Prometheus's text format."""
        await self._refresh()
        return generate_latest(REGISTRY) + generate_latest(self._registry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the gauges; their only label is the queue's name, which is ours."""
        yield GaugeMetricFamily("sellflow_queue_figures_up", "Whether the queues could be looked at.", self._is_up)
        for name, meaning, read in GAUGES:
            family = GaugeMetricFamily(f"sellflow_queue_{name}", meaning, labels=["queue"])
            for figures in self._figures:
                family.add_metric([figures.queue], read(figures))
            yield family

    async def _refresh(self) -> None:
        if time.monotonic() - self._asked_at < MAX_AGE:
            return
        self._asked_at = time.monotonic()
        try:
            self._figures = await self._probe.answer()
            self._is_up = True
        except (SellflowError, *UNAVAILABLE) as error:
            self._figures, self._is_up = (), False
            log.warning("metrics.queues_unknown", error=str(error))
