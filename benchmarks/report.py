"""What a benchmark says: progress on standard error, then tables or one JSON object on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.benchmark import Result

BAR_WIDTH = 24


@dataclass(frozen=True)
class Bar:
    """One line of a bar chart: a value per second, and a remark beside it."""

    label: str
    per_second: float
    remark: str = ""


def progress(message: str) -> None:
    """Say on standard error what happens now."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[dim]·[/dim] {escape(message)}")


def complain(message: str) -> None:
    """Say on standard error what went wrong."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(f"[red]error:[/red] {escape(message)}")


def print_json(result: Result) -> None:
    """Print the fields as one line, the last on standard output."""
    sys.stdout.write(json.dumps(result.fields, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_tables(result: Result) -> None:
    """Print the tables for a person."""
    console = Console()
    for table in result.tables:
        console.print(table)


def bar_table(title: str, groups: Sequence[Sequence[Bar]]) -> Table:
    """Draw bars to one scale; a rule divides the groups."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    table.add_column("per second", justify="right", no_wrap=True)
    table.add_column("", width=BAR_WIDTH)
    table.add_column("")
    longest = max((bar.per_second for group in groups for bar in group), default=0.0)
    for group in groups:
        for bar in group:
            table.add_row(bar.label, f"{bar.per_second:,.0f}", draw_bar(bar.per_second, longest), bar.remark)
        table.add_section()
    return table


def draw_bar(value: float, longest: float) -> str:
    """Draw `value` to the scale on which `longest` fills the column."""
    return "█" * round(BAR_WIDTH * value / longest) if longest > 0 else ""


def fact_table(title: str, facts: Sequence[tuple[str, str]]) -> Table:
    """Set out names and values in two columns."""
    table = Table(title=title, title_justify="left", show_header=False)
    for name, value in facts:
        table.add_row(name, value)
    return table
