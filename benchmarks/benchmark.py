"""What every benchmark is: a name, a default length, and a function from options to a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rich.console import RenderableType


@dataclass(frozen=True)
class Options:
    """How long and how large a measurement is.

    `seconds` is the length of one side of one pair. `scale` multiplies the size of the work; each benchmark
    says in its own docstring what that is.
    """

    seconds: float
    scale: int = 1


@dataclass(frozen=True)
class Result:
    """What was measured: `fields` become the JSON object, `tables` are for people."""

    fields: Mapping[str, object]
    tables: tuple[RenderableType, ...] = ()


@dataclass(frozen=True)
class Benchmark:
    """One entry of the registry."""

    name: str
    summary: str
    seconds: float
    run: Callable[[Options], Result]
