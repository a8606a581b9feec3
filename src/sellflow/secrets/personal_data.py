"""What this room holds of people: nothing but the keys that open what is held of them elsewhere."""

from __future__ import annotations

from sellflow.postgres.personal_data import Holds, RoomData, Table

PERSONAL_DATA = RoomData(
    room="secrets",
    tables=(
        Table(name="data_keys", holds=Holds.SHOP, why="a shop's key, wrapped", goes_with="the end of a request"),
        Table(name="unsealed_secrets", holds=Holds.INSTALLATION, why="empty but for a moment of an upgrade"),
        Table(name="master_keys", holds=Holds.INSTALLATION, why="which master keys there are"),
    ),
)
