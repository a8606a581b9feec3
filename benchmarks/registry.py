"""Every benchmark by name. A new one is a file beside this and a line here."""

from __future__ import annotations

from benchmarks import chaos, drain, footprint, ingest
from benchmarks.benchmark import Benchmark

BENCHMARKS: dict[str, Benchmark] = {
    each.name: each for each in (ingest.BENCHMARK, drain.BENCHMARK, chaos.BENCHMARK, footprint.BENCHMARK)
}
