"""The queue between those who tell and the connection, and between it and those who read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api_shared.notifier.bounded_queue import BoundedQueue


def test_a_newer_item_of_the_same_key_waits_at_the_end_in_the_older_ones_place() -> None:
    backlog: BoundedQueue[str] = BoundedQueue(10)
    backlog.add("progress 1", key="job")
    backlog.add("status")
    backlog.add("progress 2", key="job")
    assert backlog.take(10) == ["status", "progress 2"]


def test_over_its_limit_the_oldest_go_first() -> None:
    backlog: BoundedQueue[int] = BoundedQueue(3)
    assert [backlog.add(number) for number in range(5)] == [0, 0, 0, 1, 1]
    assert backlog.take(10) == [2, 3, 4]


def test_over_its_limit_of_bytes_as_many_go_as_must() -> None:
    backlog: BoundedQueue[str] = BoundedQueue(10, limit_bytes=100)
    for name in "abc":
        assert backlog.add(name, size_bytes=30) == 0
    assert backlog.add("large", size_bytes=60) == 2
    assert backlog.take(10) == ["c", "large"]


def test_one_item_over_the_limit_of_bytes_is_still_taken() -> None:
    backlog: BoundedQueue[str] = BoundedQueue(10, limit_bytes=100)
    backlog.add("small", size_bytes=1)
    assert backlog.add("huge", size_bytes=500) == 1
    assert backlog.take(10) == ["huge"]


def test_what_was_replaced_does_not_count_any_more() -> None:
    backlog: BoundedQueue[int] = BoundedQueue(10, limit_bytes=100)
    assert [backlog.add(number, key="job", size_bytes=60) for number in range(5)] == [0] * 5
    assert backlog.add(5, size_bytes=40) == 0
    assert backlog.take(10) == [4, 5]


@given(
    st.lists(
        st.tuples(st.sampled_from([None, "a", "b"]), st.integers(0, 40), st.integers(0, 3)),
        max_size=60,
    )
)
def test_nothing_but_what_was_replaced_or_counted_as_dropped_is_missing(
    steps: list[tuple[str | None, int, int]],
) -> None:
    backlog: BoundedQueue[int] = BoundedQueue(8, limit_bytes=100)
    sizes: dict[int, int] = {}
    keys: dict[int, str | None] = {}
    dropped, taken, latest = 0, [], {}
    for number, (key, size, take) in enumerate(steps):
        dropped += backlog.add(number, key=key, size_bytes=size)
        sizes[number], keys[number] = size, key
        if key is not None:
            latest[key] = number
        assert len(backlog) <= 8
        taken += backlog.take(take)
    left = backlog.take(100)
    assert sum(sizes[number] for number in left) <= 100 or len(left) == 1
    seen = taken + left
    assert seen == sorted(seen)
    missing = [number for number in sizes if number not in seen]
    replaced = [n for n in missing if keys[n] is not None and n != latest[keys[n]]]  # type: ignore[index]
    assert len(missing) - len(replaced) <= dropped <= len(missing)
