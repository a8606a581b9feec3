"""What goes wrong with calls of the Admin API, on demand: the next few of them, or a share drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal[
    "latency",
    "throttled",
    "too_many_requests",
    "error_before",
    "error_during",
    "error_after",
    "drop_before",
    "drop_after",
]


class ApiFault(BaseModel):
    """A fault for calls of `operation`: the name of an operation or of a field at its root; any, if not named.

    `latency` delays the answer by `seconds` while the mutation's idempotency key counts as in progress. Of the
    others, those called `…_before` and `…_after` happen before and after the effect; `error_during` loses the
    effect but remembers its key as failed. `status` and `retry_after` shape the answers with an HTTP error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    operation: str | None = None
    next: int | None = Field(default=None, ge=1)
    probability: float | None = Field(default=None, gt=0, le=1)
    seconds: float = Field(default=0.0, ge=0, le=600)
    status: int = Field(default=503, ge=500, le=599)
    retry_after: float = Field(default=1.0, ge=0)
    seed: int | None = None

    @model_validator(mode="after")
    def _meets_something(self) -> ApiFault:
        if (self.next is None) == (self.probability is None):
            raise ValueError("say either `next` (how many calls) or `probability`")
        return self

    def concerns(self, names: Iterable[str]) -> bool:
        """Whether a call that goes by `names` is meant."""
        return self.operation is None or self.operation in names


class FaultPlan:
    """The faults under way, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._plans: list[_Plan] = []

    def add(self, fault: ApiFault) -> None:
        """Ask for a fault."""
        self._plans.append(_Plan(fault))

    def clear(self) -> None:
        """Let everything go well again."""
        self._plans.clear()

    def listed(self) -> list[ApiFault]:
        """Return the faults that are still to come, with how many calls each has left."""
        return [plan.fault.model_copy(update={"next": plan.left}) for plan in self._plans]

    def draw(self, names: Iterable[str]) -> list[ApiFault]:
        """Return what befalls a call that goes by `names`: at most one fault besides latency."""
        known = tuple(names)
        met: list[ApiFault] = []
        for plan in list(self._plans):
            if any(fault.kind != "latency" for fault in met) and plan.fault.kind != "latency":
                continue
            if plan.fault.concerns(known) and plan.strikes():
                met.append(plan.fault)
        self._plans = [plan for plan in self._plans if plan.left != 0]
        return met


class _Plan:
    def __init__(self, fault: ApiFault) -> None:
        self.fault = fault
        self.left = fault.next
        self._rng = random.Random(fault.seed)

    def strikes(self) -> bool:
        if self.left is not None:
            self.left -= 1
            return True
        return self._rng.random() < (self.fault.probability or 0.0)
