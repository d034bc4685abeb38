"""How long a failed job waits."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_shared.backoff import backoff_s


class Steady(Random):
    """Jitter that the test chooses."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def uniform(self, a: float, b: float) -> float:
        assert (a, b) == (0.75, 1.25)
        return self.factor


attempts = st.integers(1, 10_000)
seconds = st.floats(0.001, 100_000)


@given(attempts, seconds, seconds, st.randoms(use_true_random=False))
def test_a_wait_is_never_over_its_cap_and_never_negative(
    attempt: int, base_s: float, cap_s: float, rng: Random
) -> None:
    assert 0 <= backoff_s(attempt, base_s=base_s, cap_s=cap_s, rng=rng) <= cap_s


@given(st.integers(1, 50), st.integers(0, 2**32))
def test_jitter_stays_within_a_quarter(attempt: int, seed: int) -> None:
    nominal = 60 * 2.0 ** (attempt - 1)
    waited = backoff_s(attempt, cap_s=float("inf"), rng=Random(seed))
    assert 0.75 * nominal <= waited <= 1.25 * nominal


@given(st.integers(1, 50), seconds)
def test_each_wait_is_twice_the_one_before(attempt: int, base_s: float) -> None:
    first, second = (
        backoff_s(n, base_s=base_s, cap_s=float("inf"), rng=Steady(1.0))
        for n in (attempt, attempt + 1)
    )
    assert second == pytest.approx(2 * first)


def test_the_usual_waits_are_one_two_and_four_minutes() -> None:
    assert [backoff_s(n, rng=Steady(1.0)) for n in (1, 2, 3)] == [60, 120, 240]
    assert backoff_s(99, rng=Steady(0.75)) == 3600


def test_jobs_that_failed_together_do_not_return_together() -> None:
    assert len({backoff_s(1) for _ in range(50)}) > 40


@given(attempts)
def test_a_base_of_zero_is_no_wait(attempt: int) -> None:
    assert backoff_s(attempt, base_s=0) == 0
