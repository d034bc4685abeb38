from __future__ import annotations

import asyncio
import errno
import os
import shutil
import stat
from pathlib import Path

import pytest

from api_shared.worker.job_process import SlotFolder, SlotFolderUnsafe, default_slot_folder


def test_there_are_as_many_slots_as_counted_and_no_more(tmp_path: Path) -> None:
    folder = SlotFolder(tmp_path / "slots", 2)
    first, second = folder.try_acquire(), folder.try_acquire()
    assert first is not None
    assert second is not None
    assert {first.number, second.number} == {0, 1}
    assert folder.try_acquire() is None
    first.release()
    assert folder.held == 1
    assert folder.try_acquire() is not None


def test_two_folders_on_one_path_share_their_slots(tmp_path: Path) -> None:
    mine, yours = SlotFolder(tmp_path / "slots", 1), SlotFolder(tmp_path / "slots", 1)
    with mine.try_acquire() or pytest.fail("free"):
        assert yours.try_acquire() is None
    assert yours.try_acquire() is not None


def test_releasing_twice_does_not_release_the_next_holder(tmp_path: Path) -> None:
    folder = SlotFolder(tmp_path / "slots", 1)
    first = folder.try_acquire()
    assert first is not None
    first.release()
    second = folder.try_acquire()
    assert second is not None
    first.release()
    assert not first.held
    assert second.held
    assert folder.try_acquire() is None


async def test_waiters_are_served_in_order(tmp_path: Path) -> None:
    folder = SlotFolder(tmp_path / "slots", 1)
    held = await folder.acquire()
    served: list[int] = []

    async def wait(number: int) -> None:
        with await folder.acquire():
            served.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(wait(number))
        await asyncio.sleep(0)
        held.release()
        assert folder.try_acquire() is None, "who asks in passing does not overtake who waits"
    assert served == [0, 1, 2, 3, 4]
    assert folder.held == 0


async def test_a_slot_freed_elsewhere_is_seen(tmp_path: Path) -> None:
    mine, yours = SlotFolder(tmp_path / "slots", 1), SlotFolder(tmp_path / "slots", 1)
    held = yours.try_acquire()
    assert held is not None
    waiting = asyncio.create_task(mine.acquire())
    asyncio.get_running_loop().call_later(0.01, held.release)
    async with asyncio.timeout(10):
        (await waiting).release()


async def test_a_cancelled_waiter_takes_no_slot_with_it(tmp_path: Path) -> None:
    folder = SlotFolder(tmp_path / "slots", 1)
    held = await folder.acquire()
    first, second = asyncio.create_task(folder.acquire()), asyncio.create_task(folder.acquire())
    await asyncio.sleep(0)
    first.cancel()
    held.release()
    async with asyncio.timeout(10):
        slot = await second
    assert first.cancelled()
    slot.release()
    assert folder.held == 0


def test_slots_are_closed_to_other_users_and_to_programs_we_start(tmp_path: Path) -> None:
    path = tmp_path / "slots"
    path.mkdir(mode=0o755)
    folder = SlotFolder(path, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    slot = folder.try_acquire()
    assert slot is not None
    assert not os.get_inheritable(slot._fd)


async def test_a_folder_that_was_removed_is_made_again(tmp_path: Path) -> None:
    folder = SlotFolder(tmp_path / "own" / "slots", 1)
    held = await folder.acquire()
    waiting = asyncio.create_task(folder.acquire())
    await asyncio.sleep(0)
    shutil.rmtree(tmp_path / "own")
    held.release()
    async with asyncio.timeout(10):
        (await waiting).release()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_a_folder_that_is_of_no_use_has_no_free_slot_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = SlotFolder(tmp_path / "slots", 2)

    def no_descriptors(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", no_descriptors)
        assert [folder.try_acquire() for _ in range(3)] == [None] * 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert folder.held == 0
    assert folder.try_acquire() is not None


def test_a_folder_that_somebody_has_replaced_has_no_free_slot(tmp_path: Path) -> None:
    folder = SlotFolder(tmp_path / "slots", 1)
    folder.path.rmdir()
    folder.path.symlink_to(tmp_path / "nowhere")
    assert folder.try_acquire() is None


def test_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "connection").symlink_to(tmp_path / "real")
    with pytest.raises(SlotFolderUnsafe, match="is not a folder"):
        SlotFolder(tmp_path / "connection", 1)


def test_no_slots_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="count=0"):
        SlotFolder(tmp_path / "slots", 0)


def test_the_default_folder_is_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_slot_folder() == tmp_path / "api-workers" / "slots"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert str(os.getuid()) in str(default_slot_folder())
