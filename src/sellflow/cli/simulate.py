"""`sellflow simulate …`: let the simulated store sell."""

import typer


def register(app: typer.Typer) -> None: ...
