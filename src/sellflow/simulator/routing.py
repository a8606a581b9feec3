"""What every route needs: the simulator, the parsed body, and errors as `{"error": …}`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from sellflow.errors import NotFoundError
from sellflow.simulator.errors import RefusedError
from sellflow.simulator.service import Simulator

Message = TypeVar("Message", bound=BaseModel)


def simulator_of(request: Request) -> Simulator:
    """Return the simulator that serves a request."""
    simulator: Simulator = request.app.state.simulator
    return simulator


async def parsed(request: Request, model: type[Message]) -> Message:
    """Return a request's body; an empty one stands for an object without fields.

    Raises
    ------
    ValidationError
        If it is not JSON, or not what `model` describes; it becomes a 400.
    """
    return model.model_validate_json(await request.body() or b"{}")


def order_id_of(request: Request) -> int:
    """Return the order that a path names."""
    number: int = request.path_params["order_id"]
    return number


def answer(content: BaseModel, status: int = 200) -> Response:
    """Return a model as JSON."""
    return Response(content.model_dump_json(), status, media_type="application/json")


def json_answer(content: object, status: int = 200) -> Response:
    """Return plain data as JSON."""
    return Response(orjson.dumps(content), status, media_type="application/json")


def lines_answer(models: Iterable[BaseModel]) -> Response:
    """Return one JSON object a line, streamed: a run's webhooks may be many times what memory should hold."""

    async def lines() -> AsyncIterator[str]:
        for model in models:
            yield model.model_dump_json() + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


async def on_refusal(_request: Request, error: Exception) -> Response:
    """Answer what the simulator refuses, or cannot read, with 400 and what does not exist with 404."""
    if isinstance(error, NotFoundError):
        return json_answer({"error": str(error)}, 404)
    if isinstance(error, ValidationError):
        return json_answer({"error": _complaints(error)}, 400)
    if isinstance(error, HTTPException):
        return json_answer({"error": error.detail}, error.status_code)
    return json_answer({"error": str(error)}, 400)


def _complaints(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(": ".join(filter(None, (".".join(map(str, one["loc"])), one["msg"]))) for one in found)


REFUSALS = (NotFoundError, ValidationError, HTTPException, RefusedError)
