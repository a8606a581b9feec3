"""Payloads read into models: what fits is a model, what does not is a permanent error in words."""

from __future__ import annotations

from datetime import UTC, date, datetime

import orjson
import pytest
from pydantic import BaseModel

from sellflow.errors import InvalidPayloadError
from sellflow.queue import Event, json_of


class Parcel(BaseModel):
    number: int
    weights: list[int] = []


def event(payload: bytes) -> Event:
    received = datetime(2026, 11, 24, tzinfo=UTC)
    return Event(date(2026, 11, 24), 1, 1, "parcels.sent", "parcel:1", payload, received)


def test_what_fits_is_read_and_what_the_model_does_not_know_is_passed_over() -> None:
    assert json_of(Parcel)(event(b'{"number": 7, "colour": "red"}')) == Parcel(number=7)


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (b'{"weights": [1, "heavy"]}', r"number: Field required; weights\.1: Input should be a valid integer"),
        (b"[]", "body: Input should be an object"),
        (b'{"number": ', "body: Invalid JSON"),
        (b"\xff", "body: Invalid JSON"),
        (b"", "body: Invalid JSON"),
    ],
)
def test_what_does_not_fit_names_topic_and_fields(payload: bytes, complaint: str) -> None:
    with pytest.raises(InvalidPayloadError, match=f"^not a valid parcels.sent payload: {complaint}"):
        json_of(Parcel)(event(payload))


def test_no_more_than_five_faults_are_told() -> None:
    many = orjson.dumps({"number": 1, "weights": ["heavy"] * 1000})
    with pytest.raises(InvalidPayloadError) as refusal:
        json_of(Parcel)(event(many))
    assert str(refusal.value).count("weights.") == 5
