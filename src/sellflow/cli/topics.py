"""`sellflow topics`: what may be emitted, who declares it, and who listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from sellflow.cli.opening import start

if TYPE_CHECKING:
    from sellflow.queue.registry import Registry

console = Console(highlight=False)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("topics")(topics)


def topics(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array, for machines.")] = False,
) -> None:
    """Show the declared topics, those of your own services (SELLFLOW_SERVICES) among them."""
    import orjson  # noqa: PLC0415

    from sellflow.roles import build_registry  # noqa: PLC0415

    rows = _rows(build_registry(start()))
    if as_json:
        print(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())  # noqa: T201 - alone on standard output
        return
    table = Table()
    table.add_column("Topic", no_wrap=True)  # a name that is broken apart cannot be looked for
    for heading in ("Meaning", "Declared by", "Queues that listen"):
        table.add_column(heading)
    for row in rows:
        listening = ", ".join(row["queues"]) or "[yellow]nobody listens[/]"
        table.add_row(row["topic"], row["meaning"], ", ".join(row["declared_by"]), listening)
    console.print(table)


def _rows(registry: Registry) -> list[dict[str, Any]]:
    """Return a row for each topic; what no subscription declares is the queue's own."""
    return [
        {
            "topic": topic,
            "meaning": meaning,
            "declared_by": [name for name, each in registry.subscriptions.items() if topic in each.topics]
            or ["sellflow"],
            "queues": list(registry.queues_of(topic)),
        }
        for topic, meaning in sorted(registry.topics.items())
    ]
