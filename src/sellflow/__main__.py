"""`python -m sellflow` is the `sellflow` command."""

from sellflow.cli import main

main()
