"""Reads the JSON of events into models; what does not fit is a permanent error that names the fields at fault."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from sellflow.errors import InvalidPayloadError
from sellflow.queue.topics import Event

Model = TypeVar("Model", bound=BaseModel)

MOST_FAULTS = 5


def json_of(model: type[Model]) -> Callable[[Event], Model]:
    """Return a handler's `parse` that reads payloads into `model`."""
    return partial(read_json, model)


def read_json(model: type[Model], event: Event) -> Model:
    """Read an event's payload.

    Raises
    ------
    InvalidPayloadError
        If it does not fit the model, with up to five faults in words.
    """
    try:
        return model.model_validate_json(event.payload)
    except ValidationError as error:
        details = error.errors(include_url=False)[:MOST_FAULTS]
        faults = "; ".join(_fault(detail["loc"], detail["msg"]) for detail in details)
        raise InvalidPayloadError(f"not a valid {event.topic} payload: {faults}") from None


def _fault(location: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, location)) or 'body'}: {message}"
