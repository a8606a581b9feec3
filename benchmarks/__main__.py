"""The command line: `python -m benchmarks NAME [--json] [--seconds S] [--scale N]`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from benchmarks.benchmark import Benchmark, Options
from benchmarks.errors import BenchmarkError
from benchmarks.registry import BENCHMARKS
from benchmarks.report import complain, print_json, print_tables


def main(arguments: Sequence[str] | None = None, benchmarks: Mapping[str, Benchmark] = BENCHMARKS) -> int:
    """Run one benchmark; return 0 if measured, 1 if it could not be, 2 if asked wrongly, 130 if stopped."""
    asked = _parser(benchmarks).parse_args(arguments)
    benchmark = benchmarks[asked.name]
    try:
        result = benchmark.run(Options(seconds=asked.seconds or benchmark.seconds, scale=asked.scale))
    except BenchmarkError as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        complain("stopped before it was measured")
        return 128 + signal.SIGINT
    if asked.json:
        print_json(result)
    else:
        print_tables(result)
    return 0


def _parser(benchmarks: Mapping[str, Benchmark]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Sellflow beside its peers.",
        epilog="\n".join(f"{each.name:12} {each.summary}" for each in benchmarks.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", choices=sorted(benchmarks), help=", ".join(sorted(benchmarks)))
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    parser.add_argument("--seconds", type=_positive_seconds, help="length of one side of one pair")
    parser.add_argument("--scale", type=_positive_count, default=1, help="multiply the size of the work")
    return parser


def _positive_seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 600:
        raise argparse.ArgumentTypeError("must be more than 0 and at most 600")
    return seconds


def _positive_count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= 100:
        raise argparse.ArgumentTypeError("must be from 1 to 100")
    return count


def _end(*_: object) -> NoReturn:
    """End in order: what was started is stopped on the way out."""
    raise SystemExit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
