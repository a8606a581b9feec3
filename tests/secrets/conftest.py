"""A database whose master keys are in a file of the test's own, so that they may be rotated and broken."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sellflow.secrets.kms import _client
from sellflow.settings import Settings
from tests.aws import acting_as_aws
from tests.conftest import settings_for


@pytest.fixture
def settings(folder: Path, tmp_path: Path) -> Settings:
    file = tmp_path / "master.key"
    shutil.copy2(settings_for(folder).local_master_keys, file)
    return settings_for(folder).model_copy(update={"master_key_file": str(file)})


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with acting_as_aws(monkeypatch) as url:
        _client.cache_clear()
        yield url
        _client.cache_clear()
