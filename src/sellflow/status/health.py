"""Liveness, readiness and metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sellflow.errors import SellflowError
from sellflow.postgres.database import UNAVAILABLE

#: Raises when the process cannot do its work just now.
Check = Callable[[], Awaitable[object]]


async def healthz(_: Request) -> Response:
    """Say that the process answers."""
    return JSONResponse({"status": "alive"})


def readyz(check: Check) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint that says whether the process can do its work now."""

    async def answer(_: Request) -> Response:
        try:
            await check()
        except (SellflowError, *UNAVAILABLE) as error:
            return JSONResponse({"status": "not ready", "reason": str(error)}, status_code=503)
        return JSONResponse({"status": "ready"})

    return answer


async def metrics(_: Request) -> Response:
    """Answer with the process's Prometheus metrics."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def operations_app(check: Check) -> Starlette:
    """Return the application of the operations port."""
    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz(check)), Route("/metrics", metrics)])
