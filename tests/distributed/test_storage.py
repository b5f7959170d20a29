from __future__ import annotations

from pathlib import Path

import pytest

from regraft.distributed.storage import Storage
from regraft.errors import ConfigError


def test_what_is_written_is_listed_and_read(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "shared"))
    assert storage.names("key") == []
    storage.write("key", "part-b.parquet", b"two")
    storage.write("key", "part-a.parquet", b"one")
    (tmp_path / "shared" / "key" / ".tmp-half").touch()
    assert storage.names("key") == ["part-a.parquet", "part-b.parquet"]
    assert storage.read("key", "part-b.parquet") == b"two"
    assert storage.names("other") == []


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Storage("shared").address == str(tmp_path / "shared")


@pytest.mark.parametrize("address", ["ftp://host/folder", "s3://"])
def test_an_address_that_cannot_be_used_is_an_error(address: str) -> None:
    with pytest.raises(ConfigError, match=r"storage .* cannot be used: "):
        Storage(address).names("key")
