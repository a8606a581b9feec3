"""`sellflow demo`: plays orders with faults against the real thing, and checks every point independently."""

from sellflow.cli.demo.command import register

__all__ = ["register"]
