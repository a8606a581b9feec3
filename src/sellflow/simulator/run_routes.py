"""Routes of runs: start one, follow it, read what it sent and what it left behind."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sellflow.simulator.journal import sent
from sellflow.simulator.routing import answer, lines_answer, parsed, simulator_of
from sellflow.simulator.runs import Run
from sellflow.simulator.schemas import RunPlan, RunStarted


async def start_run(request: Request) -> Response:
    """POST /shops/{domain}/runs: start a run; 202 with its id."""
    plan = await parsed(request, RunPlan)
    run = simulator_of(request).start_run(request.path_params["domain"], plan)
    return answer(RunStarted(run_id=run.id), 202)


async def show_run(request: Request) -> Response:
    """GET /runs/{id}: how far it is."""
    return answer(_run(request).status())


async def cancel_run(request: Request) -> Response:
    """DELETE /runs/{id}: stop it; its journal stays."""
    run = _run(request)
    await run.cancel()
    return answer(run.status())


async def list_sent(request: Request) -> Response:
    """GET /runs/{id}/sent: one line per webhook it meant to send."""
    return lines_answer(sent(delivery) for delivery in list(_run(request).outbox.journal))


async def list_orders(request: Request) -> Response:
    """GET /runs/{id}/orders: one line per order, as it is now."""
    return lines_answer(_run(request).final_orders())


def _run(request: Request) -> Run:
    return simulator_of(request).run(request.path_params["run_id"])


ROUTES = (
    Route("/shops/{domain}/runs", start_run, methods=["POST"]),
    Route("/runs/{run_id}", show_run, methods=["GET"]),
    Route("/runs/{run_id}", cancel_run, methods=["DELETE"]),
    Route("/runs/{run_id}/sent", list_sent, methods=["GET"]),
    Route("/runs/{run_id}/orders", list_orders, methods=["GET"]),
)
