"""One suite for every storage: a folder, and object stores (one in memory stands for them)."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from api_shared.storage import (
    InvalidKey,
    NotStored,
    Storage,
    StorageUnavailable,
    StoredTooLarge,
    SwapRefused,
    digest_of,
    open_storage,
    project_key,
)
from api_shared.storage.objects import ObjectStorage

HOSTILE_KEYS = (
    "", "/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", ".hidden", "a/.locks", "a\0b", "a b",
    "a\nb", "ä", "a\\b", "x" * 129, "a/" * 500 + "a", "-rf", "~",
)  # fmt: skip


@pytest.fixture(params=["folder", "objects"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    url = f"file:{tmp_path / 'a storage'}" if request.param == "folder" else "memory:///"
    return open_storage(url)


def test_what_was_saved_last_is_loaded(storage: Storage) -> None:
    storage.save("projects/p/a.json", b"one")
    storage.save("projects/p/a.json", b"two")
    assert storage.load("projects/p/a.json") == b"two"


def test_nothing_is_under_a_key_that_was_never_saved_or_is_deleted(storage: Storage) -> None:
    storage.save("p/a", b"")
    storage.delete("p/a")
    storage.delete("p/a")
    for missing in ("p/a", "p", "p/a/b"):
        with pytest.raises(NotStored):
            storage.load(missing)
        with pytest.raises(NotStored), storage.local(missing):
            pass


def test_a_load_is_bounded(storage: Storage) -> None:
    storage.save("p/a", b"x" * 1001)
    assert len(storage.load("p/a", max_bytes=1001)) == 1001
    with pytest.raises(StoredTooLarge, match="1,001 bytes, over the limit of 1,000"):
        storage.load("p/a", max_bytes=1000)


def test_a_file_goes_in_and_comes_out_as_a_file(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "big"
    source.write_bytes(b"0123456789" * 300_000)
    storage.save_file("p/big", source)
    with storage.local("p/big") as path:
        assert path.read_bytes() == source.read_bytes()


def test_a_listing_is_of_what_lies_below(storage: Storage) -> None:
    for key in ("projects/a/x", "projects/a/m/1/w", "projects/ab/x"):
        storage.save(key, b"")
    assert storage.list("projects/a") == ["projects/a/m/1/w", "projects/a/x"]
    assert storage.list("projects/none") == []


def test_a_swap_wants_what_is_there(storage: Storage) -> None:
    one = storage.swap("p/m", b"one", expected=None)
    assert one == digest_of(b"one")
    with pytest.raises(SwapRefused):
        storage.swap("p/m", b"two", expected=None)
    with pytest.raises(SwapRefused):
        storage.swap("p/m", b"two", expected=digest_of(b"another"))
    assert storage.load("p/m") == b"one"
    storage.swap("p/m", b"two", expected=one)
    assert storage.load("p/m") == b"two"


def test_of_many_that_swap_at_a_time_one_wins(storage: Storage) -> None:
    storage.save("p/count", b"0")
    begin = threading.Barrier(4)

    def add() -> None:
        begin.wait()
        for _ in range(10):
            while True:
                there = storage.load("p/count")
                try:
                    storage.swap("p/count", b"%d" % (int(there) + 1), expected=digest_of(there))
                    break
                except SwapRefused:
                    continue

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage.load("p/count") == b"40"


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_a_key_that_could_leave_the_storage_is_refused(storage: Storage, key: str) -> None:
    for use in (storage.load, storage.delete, storage.list):
        with pytest.raises(InvalidKey):
            use(key)
    with pytest.raises(InvalidKey):
        storage.save(key, b"")
    with pytest.raises(InvalidKey):
        storage.swap(key, b"", expected=None)


def test_a_project_id_is_one_name() -> None:
    assert project_key("news-2026", "models") == "projects/news-2026/models"
    for hostile in ("", "a/b", "..", ".", "a b"):
        with pytest.raises(InvalidKey, match="project id"):
            project_key(hostile, "models")


@pytest.mark.parametrize("url", ["", "storage", "file:", "file://host/x", "ftp://x/y"])
def test_a_url_of_no_known_storage_names_those_that_are(url: str) -> None:
    with pytest.raises(StorageUnavailable, match="file:FOLDER"):
        open_storage(url)


def test_a_broken_url_of_an_object_store_is_named_without_its_secrets() -> None:
    assert isinstance(open_storage("s3://bucket/prefix"), ObjectStorage)
    with pytest.raises(StorageUnavailable):
        open_storage("s3://")
