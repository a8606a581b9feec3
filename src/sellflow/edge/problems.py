"""Errors as RFC 9457 problem+json: what was wrong, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from sellflow.errors import DatabaseUnavailableError, NotFoundError
from sellflow.postgres.database import UNAVAILABLE

MEDIA_TYPE = "application/problem+json"


class ProblemDetails(BaseModel):
    """The body of every error (RFC 9457)."""

    type: str = Field(description="A URI reference that identifies the kind of problem.")
    title: str = Field(description="The HTTP status in words.")
    status: int = Field(description="The HTTP status.")
    code: str = Field(description="A stable code to branch on.")
    detail: str = Field(description="What was wrong with this request, and what to do.")


class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """An error answer. Raise it anywhere behind the edge."""

    def __init__(self, status: int, code: str, detail: str, *, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers

    def response(self) -> Response:
        """Return the answer."""
        body = {
            "type": f"/problems/{self.code}",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
        }
        return Response(orjson.dumps(body), status_code=self.status, media_type=MEDIA_TYPE, headers=dict(self.headers))


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return OpenAPI's description of error answers, for a route's `responses`."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
        }
        for status in statuses
    }


def answer_with_problems(app: FastAPI) -> None:
    """Make every error that leaves `app` a problem."""

    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response()

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        return Problem(400, "request.invalid", f"{faults}.").response()

    async def http_error(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        phrase = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_").replace("-", "_")
        code = getattr(error, "code", f"http.{phrase}")
        headers = list((error.headers or {}).items())
        return Problem(error.status_code, code, f"{error.detail}.", headers=headers).response()

    async def not_found(_: Request, error: Exception) -> Response:
        # What follows the semicolon is for whoever sits at a terminal.
        found = str(error).partition(";")[0]
        return Problem(404, NotFoundError.code, f"{found[:1].upper()}{found[1:]}.").response()

    async def unavailable(_: Request, error: Exception) -> Response:
        detail = "The database is away; try again in a moment."
        return Problem(503, DatabaseUnavailableError.code, detail, headers=[("retry-after", "5")]).response()

    async def unexpected(_: Request, _error: Exception) -> Response:
        # Starlette raises the error again after this answer, so that the server logs it with its trace.
        return Problem(500, "internal.error", "Something went wrong here; the log says what.").response()

    app.add_exception_handler(Exception, unexpected)
    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(NotFoundError, not_found)
    for kind in (DatabaseUnavailableError, *UNAVAILABLE):
        app.add_exception_handler(kind, unavailable)
