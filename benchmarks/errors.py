"""What a benchmark says when it cannot measure."""

from __future__ import annotations


class BenchmarkError(Exception):
    """A benchmark could not be run; the message says why and what to do."""
