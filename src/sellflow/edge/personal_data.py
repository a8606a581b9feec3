"""What the edge holds of people."""

from __future__ import annotations

from sellflow.postgres.personal_data import Holds, RoomData, Table

PERSONAL_DATA = RoomData(
    room="edge",
    tables=(Table(name="signing_keys", holds=Holds.INSTALLATION, why="keys of tokens"),),
)
