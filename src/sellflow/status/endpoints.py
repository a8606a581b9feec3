"""The endpoints of whoever watches a process: /healthz, /readyz and /metrics."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from sellflow.status.health import Health
from sellflow.status.queue_metrics import QueueMetrics


def health_routes(health: Health) -> list[BaseRoute]:
    """Return the endpoints that say how the process is."""

    async def healthz(_: Request) -> Response:
        return _answer("alive", "stuck", await health.why_dead())

    async def readyz(_: Request) -> Response:
        return _answer("ready", "not ready", await health.why_not_ready())

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


def operations_app(health: Health, queues: QueueMetrics) -> Starlette:
    """Return the application of the operations port."""

    async def metrics(_: Request) -> Response:
        return Response(await queues.exposition(), media_type=CONTENT_TYPE_LATEST)

    return Starlette(routes=[*health_routes(health), Route("/metrics", metrics)])


def _answer(good: str, bad: str, reason: str | None) -> Response:
    if reason is None:
        return JSONResponse({"status": good})
    return JSONResponse({"status": bad, "reason": reason}, status_code=503)
