"""The gate: synchronous tasks start when a CPU slot is free, and nobody waits here for long."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api_shared.job import new_job_id
from api_shared.testing import default_settings
from api_shared.testing.waiting import until
from api_shared.transport.consumer import Consumer, Delivery
from api_shared.transport.message import JobMessage
from api_shared.transport.topology import QueueSpec
from api_shared.worker.job_process import SlotFolder, slot_gate
from api_shared.worker.job_process.slot_gate import SlotGate

TRAINING = QueueSpec("training", "training")


class Answers:
    def __init__(self) -> None:
        self.given_back: list[int] = []

    def ack(self, tag: int) -> None: ...

    def requeue(self, tag: int) -> None:
        self.given_back.append(tag)


class Consumes(Consumer):
    """Notes which queues are consumed."""

    def __init__(self) -> None:
        super().__init__(default_settings(), (TRAINING,))
        self.changes: list[str] = []
        self.fails: list[str] = []

    async def stop_queues(self, names: set[str]) -> None:
        self._change(f"stop {' '.join(names)}")

    async def resume_queues(self, names: set[str]) -> None:
        self._change(f"resume {' '.join(names)}")

    def _change(self, change: str) -> None:
        self.changes.append(change)
        if change in self.fails:
            self.fails.remove(change)
            raise RuntimeError(change)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_gate, "PATIENCE_S", 0.02)


@pytest.fixture
def slots(tmp_path: Path) -> SlotFolder:
    return SlotFolder(tmp_path / "slots", 1)


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def consumer() -> Consumes:
    return Consumes()


@pytest.fixture
async def gate(slots: SlotFolder, consumer: Consumes) -> AsyncIterator[SlotGate]:
    gate = SlotGate(slots, consumer)
    yield gate
    await gate.close()


def waiting(gate: SlotGate, answers: Answers, tag: int) -> None:
    delivery = Delivery((1, 0, tag), b"", TRAINING, {}, tag, answers)
    gate.wait(delivery, JobMessage(new_job_id(), "train", [], {}, {}))


async def test_a_free_slot_is_given_at_once(gate: SlotGate, slots: SlotFolder) -> None:
    slot = gate.slot_now()
    assert slot is not None
    assert gate.slot_now() is None
    slot.release()
    assert gate.slot_now() is not None


async def test_who_waits_gets_the_slot_before_who_comes(
    gate: SlotGate, slots: SlotFolder, answers: Answers
) -> None:
    held = gate.slot_now()
    assert held is not None
    waiting(gate, answers, 1)
    held.release()
    assert gate.slot_now() is None
    delivery, _, slot = await gate.ready.get()
    assert delivery.order == (1, 0, 1)
    assert gate.idle
    slot.release()


async def test_who_waits_too_long_goes_back_and_its_queue_stops_until_a_slot_is_free(
    gate: SlotGate, consumer: Consumes, answers: Answers
) -> None:
    held = gate.slot_now()
    assert held is not None
    for tag in (1, 2, 3):
        waiting(gate, answers, tag)
    await until(lambda: consumer.changes == ["stop training"])
    assert answers.given_back == [3, 2, 1]
    assert gate.idle
    held.release()
    await until(lambda: consumer.changes == ["stop training", "resume training"])
    reserved = gate.slot_now()
    assert reserved is not None, "it is kept for the queue's next message"
    reserved.release()


async def test_a_reserved_slot_that_nobody_came_for_is_freed(
    gate: SlotGate, slots: SlotFolder, consumer: Consumes, answers: Answers
) -> None:
    held = gate.slot_now()
    assert held is not None
    waiting(gate, answers, 1)
    await until(lambda: consumer.changes)
    held.release()
    await until(lambda: len(consumer.changes) == 2, every_s=0)
    assert slots.held == 1
    await until(lambda: slots.held == 0)


async def test_one_that_comes_while_a_slot_is_reserved_is_served(
    gate: SlotGate, consumer: Consumes, answers: Answers
) -> None:
    held = gate.slot_now()
    assert held is not None
    waiting(gate, answers, 1)
    await until(lambda: consumer.changes)
    held.release()
    await until(lambda: len(consumer.changes) == 2, every_s=0)
    reserved = gate.slot_now()
    assert reserved is not None
    waiting(gate, answers, 2)
    reserved.release()
    await until(lambda: not gate.ready.empty())
    gate.ready.get_nowait()[2].release()


async def test_one_that_comes_while_the_queue_is_stopped_is_the_first_to_run(
    gate: SlotGate, consumer: Consumes, answers: Answers
) -> None:
    held = gate.slot_now()
    assert held is not None
    waiting(gate, answers, 1)
    await until(lambda: consumer.changes)
    waiting(gate, answers, 2)
    held.release()
    delivery, _, slot = await gate.ready.get()
    assert delivery.order == (1, 0, 2)
    slot.release()
    await until(lambda: len(consumer.changes) == 2, every_s=0)


async def test_closing_gives_back_all_and_frees_every_slot(
    slots: SlotFolder, consumer: Consumes, answers: Answers
) -> None:
    gate = SlotGate(slots, consumer)
    waiting(gate, answers, 1)
    waiting(gate, answers, 2)
    await until(lambda: not gate.ready.empty())
    await gate.close()
    assert sorted(answers.given_back) == [1, 2]
    assert slots.held == 0
    assert gate.idle


@pytest.mark.parametrize("fails", ["stop training", "resume training"])
async def test_whatever_fails_the_queue_is_consumed_again_and_no_slot_stays_held(
    gate: SlotGate, slots: SlotFolder, consumer: Consumes, answers: Answers, fails: str
) -> None:
    consumer.fails = [fails]
    held = gate.slot_now()
    assert held is not None
    waiting(gate, answers, 1)
    await until(lambda: consumer.changes)
    held.release()
    await until(lambda: not consumer.fails and consumer.changes[-1] == "resume training")
    await until(lambda: slots.held == 0)
    waiting(gate, answers, 2)
    delivery, _, slot = await gate.ready.get()
    assert delivery.order == (1, 0, 2)
    slot.release()
