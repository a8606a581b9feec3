"""The file of master keys: made once and for its user alone, and never guessed at when something is wrong with it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from sellflow.secrets.errors import KeyFileError, MasterKeyMissingError
from sellflow.secrets.key_file import LocalKeys
from sellflow.secrets.providers import MasterKeyRow
from tests.secrets.racing import race


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "master.key"


def make(file: Path, known: Collection[str] = ()) -> MasterKeyRow:
    return asyncio.run(LocalKeys(file).make(known))


def loaded(file: Path, key_id: str) -> bytes:
    return asyncio.run(LocalKeys(file).load(MasterKeyRow("local", key_id)))


def test_the_file_is_made_at_the_first_need_for_its_user_alone(file: Path) -> None:
    made = make(file)
    assert file.stat().st_mode & 0o777 == 0o600
    assert len(loaded(file, made.master_key_id)) == 32
    assert [each.name for each in file.parent.iterdir()] == ["master.key"]
    assert "keep a copy" in file.read_text()


def test_a_key_that_is_not_yet_in_use_is_taken_before_one_is_made(file: Path) -> None:
    first = make(file)
    assert make(file) == first
    second = make(file, known=[first.master_key_id])
    assert second != first
    assert make(file, known=[first.master_key_id]) == second
    assert loaded(file, first.master_key_id) != loaded(file, second.master_key_id)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_dropped_key_is_gone_and_the_others_stay(file: Path) -> None:
    first = make(file)
    second = make(file, known=[first.master_key_id])
    left_over = file.with_name("master.key.0123abcd")  # by a process that was killed while it wrote
    left_over.write_text(file.read_text())
    for _ in range(2):
        asyncio.run(LocalKeys(file).drop(first))
    with pytest.raises(MasterKeyMissingError, match=f"{first.master_key_id}, which .* does not have"):
        loaded(file, first.master_key_id)
    assert len(loaded(file, second.master_key_id)) == 32
    assert not left_over.exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666, 0o601])
def test_a_file_that_others_may_read_is_refused_with_the_remedy(file: Path, mode: int) -> None:
    made = make(file)
    file.chmod(mode)
    with pytest.raises(KeyFileError, match=rf"{mode:04o}.*chmod 600 {file}"):
        loaded(file, made.master_key_id)
    with pytest.raises(KeyFileError):
        make(file)
    file.chmod(0o400)
    assert len(loaded(file, made.master_key_id)) == 32


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"# nothing but a comment\n",
        b"\x00\xff" * 40,
        b"0123456789abcdef\n",
        b"0123456789abcdef AAAA\n",
        b"0123456789abcdef " + b"A" * 43 + b"=\n",  # a key of the right length under an id that is not its own
        b"0123456789abcdef not base64 at all!\n",
    ],
)
def test_a_damaged_file_is_refused_and_left_as_it_is(file: Path, content: bytes) -> None:
    file.parent.mkdir()
    file.write_bytes(content)
    file.chmod(0o600)
    for attempt in (lambda: make(file), lambda: loaded(file, "0123456789abcdef")):
        with pytest.raises(KeyFileError, match=str(file)) as caught:
            attempt()
        assert "copy" in str(caught.value)
    assert file.read_bytes() == content


def test_no_changed_character_of_a_key_goes_unnoticed(file: Path) -> None:
    made = make(file)
    good = file.read_text()
    start = good.index(f"\n{made.master_key_id}") + 1
    # Of the last character, two bits say nothing.
    for position in range(start, len(good) - 3):
        file.write_text(good[:position] + ("B" if good[position] != "B" else "C") + good[position + 1 :])
        with pytest.raises(KeyFileError) as caught:
            loaded(file, made.master_key_id)
        assert good[start + 17 : -1] not in str(caught.value), "the message repeats no key"


def test_a_missing_file_is_named_with_the_key_and_the_setting(file: Path) -> None:
    with pytest.raises(MasterKeyMissingError, match=rf"abc123, and there is no file {file}.*SELLFLOW_MASTER_KEY_FILE"):
        loaded(file, "abc123")
    assert not file.exists()


def test_a_file_that_cannot_be_written_is_named_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("")
    with pytest.raises(KeyFileError, match=r"cannot be (read|written).*SELLFLOW_MASTER_KEY_FILE"):
        make(tmp_path / "occupied" / "master.key")


MAKE = """
import asyncio, pathlib
from sellflow.secrets.key_file import LocalKeys

def act(start, file):
    start.wait()
    return asyncio.run(LocalKeys(pathlib.Path(file)).make(known=())).master_key_id
"""


def test_of_eight_processes_at_once_one_makes_the_file_and_all_take_its_key(file: Path) -> None:
    (key_id,) = set(race(MAKE, str(file)))
    assert len(loaded(file, key_id)) == 32
    assert [each.name for each in file.parent.iterdir()] == ["master.key"]
