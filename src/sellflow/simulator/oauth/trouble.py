"""Faults on demand of the authorisation endpoints, and how often each of them was called."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sellflow.simulator.oauth.schemas import CallCounts, Endpoint, FaultInput, FaultKind


class DroppedAnswer(Response):
    """A connection that breaks before the answer's body: the server closes it, for the answer stays incomplete."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Promise a byte that never comes."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})


@dataclass(slots=True)
class _Fault:
    wanted: FaultInput
    left: int


class Trouble:
    """The faults that wait for their calls, and the counters, both per shop."""

    def __init__(self) -> None:
        self._faults: defaultdict[str, list[_Fault]] = defaultdict(list)
        self._counts: defaultdict[str, defaultdict[str, CallCounts]] = defaultdict(lambda: defaultdict(CallCounts))

    def plan(self, domain: str, wanted: FaultInput) -> None:
        """Let the next `wanted.times` calls meet a fault; faults wait in the order of their planning."""
        self._faults[domain].append(_Fault(wanted, wanted.times))

    def forgive(self, domain: str) -> None:
        """Let no more calls fail."""
        self._faults.pop(domain, None)

    def counts(self, domain: str) -> dict[str, CallCounts]:
        """Return how often a shop's endpoints were called, by grant or endpoint."""
        return dict(self._counts[domain])

    def reset(self, domain: str) -> None:
        """Count from nought."""
        self._counts.pop(domain, None)

    async def around(
        self, act: Callable[[], Response], *, domain: str, endpoint: Endpoint, grant: str | None = None
    ) -> Response:
        """Return what `act` answers, unless a fault stands in the way of the effect or of the answer."""
        counts = self._counts[domain][grant or endpoint.value]
        counts.received += 1
        fault = self._take(domain, endpoint, grant)
        if fault is None:
            return _counted(act(), counts)
        if fault.kind is FaultKind.LATENCY:
            await asyncio.sleep(fault.seconds)
            return _counted(act(), counts)
        counts.failed += 1
        if fault.kind in (FaultKind.ERROR_AFTER, FaultKind.DROP_AFTER):
            act()
        if fault.kind in (FaultKind.DROP_BEFORE, FaultKind.DROP_AFTER):
            return DroppedAnswer()
        return Response(f"error code: {fault.status}", fault.status, media_type="text/plain")

    def _take(self, domain: str, endpoint: Endpoint, grant: str | None) -> FaultInput | None:
        waiting = self._faults[domain]
        for fault in waiting:
            if fault.wanted.endpoint is endpoint and fault.wanted.grant in (None, grant):
                fault.left -= 1
                if fault.left == 0:
                    waiting.remove(fault)
                return fault.wanted
        return None


def _counted(answer: Response, counts: CallCounts) -> Response:
    if answer.status_code < 400:
        counts.granted += 1
    else:
        counts.refused += 1
    return answer
