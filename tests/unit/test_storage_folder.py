"""What only a folder has: half-written files, locks, folders that come and go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from api_shared.storage import NotStored, StorageUnavailable
from api_shared.storage.folder import ABANDONED_S, UNFINISHED, FolderStorage

WRITER = """
import sys
from pathlib import Path
from api_shared.storage.folder import FolderStorage
storage = FolderStorage(Path(sys.argv[1]))
print("ready", flush=True)
n = 0
while True:
    n = (n + 1) % 10
    storage.save("p/file", bytes([48 + n]) * 3_000_000)
"""


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    storage.save("p/file", b"0" * 3_000_000)
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE
        )
        with writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            before = storage.load("p/file")
            deadline = time.monotonic() + 30
            while storage.load("p/file") == before and time.monotonic() < deadline:
                pass
            writer.send_signal(signal.SIGKILL)
        data = storage.load("p/file")
        assert len(data) == 3_000_000
        assert len(set(data)) == 1
        assert storage.list("p") == ["p/file"]


def test_what_a_killed_process_left_is_swept_after_a_day(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    storage.save("p/a", b"")
    old, new = (tmp_path / UNFINISHED / name for name in ("old", "new"))
    for path in (old, new):
        path.touch()
    long_ago = time.time() - ABANDONED_S - 1
    os.utime(old, (long_ago, long_ago))

    storage.swap("p/m", b"", expected=None)

    assert not old.exists()
    assert new.exists()


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    storage.save("p/a", b"one")
    with pytest.raises(FileNotFoundError):
        storage.save_file("p/a", tmp_path / "missing")
    assert storage.load("p/a") == b"one"
    assert list((tmp_path / UNFINISHED).iterdir()) == []


def test_deleting_removes_empty_folders_and_saving_beside_it_goes_on(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            storage.save("p/x/one", b"")
            storage.delete("p/x/one")

    other = threading.Thread(target=churn)
    other.start()
    try:
        for _ in range(100):
            storage.save("p/x/two", b"2")
            storage.delete("p/x/two")
    finally:
        stop.set()
        other.join()
    assert not (tmp_path / "p").exists()


def test_a_file_where_a_folder_should_be_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "storage").write_text("")
    with pytest.raises(StorageUnavailable, match="cannot be written"):
        FolderStorage(tmp_path / "storage").save("p/a", b"")
    storage = FolderStorage(tmp_path)
    storage.save("p", b"")
    with pytest.raises(StorageUnavailable, match="cannot be written"):
        storage.save("p/a", b"")


def test_a_file_that_is_deleted_before_it_is_opened_is_not_stored(tmp_path: Path) -> None:
    storage = FolderStorage(tmp_path)
    storage.save("p/file", b"x")
    with pytest.raises(NotStored), storage.local("p/file") as path:
        storage.delete("p/file")
        path.read_bytes()
