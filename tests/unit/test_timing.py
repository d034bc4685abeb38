"""When schedules tick, held against a clock that is read minute by minute."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given
from hypothesis import strategies as st

from api_shared.errors import InvalidOption
from api_shared.schedules.cron import Cron, Every, timing_of

BERLIN = "Europe/Berlin"
ZONES = (
    "UTC",
    BERLIN,
    "America/New_York",
    "America/Havana",  # its clocks change at midnight
    "Australia/Lord_Howe",  # by half an hour
    "Africa/Casablanca",  # back for Ramadan
    "Pacific/Apia",  # left out 2011-12-30
    "Asia/Kathmandu",
    "+05:30",
    "-03:00",
)
# Around changes of clocks, where all that is difficult happens.
CHANGES = (
    datetime(2026, 3, 29, 1, tzinfo=UTC),
    datetime(2026, 10, 25, 1, tzinfo=UTC),
    datetime(2026, 3, 8, 7, tzinfo=UTC),
    datetime(2026, 11, 1, 6, tzinfo=UTC),
    datetime(2026, 3, 8, 5, tzinfo=UTC),
    datetime(2026, 11, 1, 5, tzinfo=UTC),
    datetime(2026, 4, 4, 15, tzinfo=UTC),
    datetime(2026, 10, 3, 15, 30, tzinfo=UTC),
    datetime(2026, 2, 15, 2, tzinfo=UTC),
    datetime(2011, 12, 30, 10, tzinfo=UTC),
)


def field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high).map(str)
    span = st.tuples(st.integers(low, high), st.integers(low, high)).map(
        lambda ends: f"{min(ends)}-{max(ends)}"
    )
    listed = st.lists(number | span, min_size=1, max_size=3).map(",".join)
    return st.just("*") | listed | st.sampled_from(["*/2", "*/5", "*/7"]) | span


expressions = st.tuples(
    field(0, 59),
    field(0, 23),
    st.just("*") | field(1, 28),
    st.just("*"),
    st.just("*") | field(0, 6),
).map(" ".join)
moments = st.tuples(st.sampled_from(CHANGES), st.integers(-60 * 60, 60 * 60)).map(
    lambda pair: pair[0] + timedelta(minutes=pair[1])
)


def zone_of(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def by_hand(cron: Cron, after: datetime, hours: int) -> list[datetime]:
    """Each minute's clock, held against the expression; the rules of fixed times in plain words."""
    minute, hour = cron.expression.split()[:2]
    is_fixed = not minute.startswith("*") and not hour.startswith("*")
    zone = cron._zone
    ticks: set[datetime] = set()
    start = after.replace(second=0, microsecond=0) - timedelta(days=2)
    matches = matching_clocks(cron.expression, start, hours + 24 * 5)
    shown_before: set[datetime] = set()
    last_shown: datetime | None = None
    for number in range((hours + 24 * 4) * 60):
        moment = start + timedelta(minutes=number)
        shown = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        if shown in matches and not (is_fixed and shown in shown_before):
            ticks.add(moment)
        if is_fixed and last_shown is not None and shown - last_shown > timedelta(minutes=1):
            skipped = last_shown + timedelta(minutes=1)
            while skipped < shown:
                if skipped in matches:
                    ticks.add(moment)
                skipped += timedelta(minutes=1)
        shown_before.add(shown)
        last_shown = shown
    return sorted(t for t in ticks if after < t <= after + timedelta(hours=hours))


def matching_clocks(expression: str, around: datetime, hours: int) -> set[datetime]:
    start = around.replace(tzinfo=None) - timedelta(days=2)
    end = start + timedelta(hours=hours, days=4)
    found = set()
    for clock in CronSim(expression, start):
        if clock > end:
            break
        found.add(clock)
    return found


def ticks_of(cron: Cron | Every, after: datetime, hours: int) -> Iterator[datetime]:
    tick = cron.next_after(after)
    while tick is not None and tick <= after + timedelta(hours=hours):
        yield tick
        tick = cron.next_after(tick)


@given(expressions, st.sampled_from(ZONES), moments)
@example("*/20 5 * * *", "Australia/Lord_Howe", datetime(2026, 4, 4, 14, 40, tzinfo=UTC))
@example("*/30 0 * * *", "America/Havana", datetime(2026, 3, 7, 12, tzinfo=UTC))
@example("0,30 2 * * *", BERLIN, datetime(2026, 3, 29, tzinfo=UTC))
def test_no_tick_is_skipped_and_none_is_made_up(
    expression: str, zone: str, after: datetime
) -> None:
    cron = Cron(expression, zone)
    found = list(ticks_of(cron, after, 30))
    assert found == by_hand(cron, after, 30)
    assert all(earlier < later for earlier, later in pairwise(found))


@given(expressions, st.sampled_from(ZONES), moments, st.integers(0, 40 * 3600))
def test_the_last_tick_of_a_span_is_the_last_of_those_in_it(
    expression: str, zone: str, after: datetime, seconds: int
) -> None:
    cron = Cron(expression, zone)
    until = after + timedelta(seconds=seconds)
    among = [tick for tick in ticks_of(cron, after, 41) if tick <= until]
    assert cron.last_between(after, until) == (among[-1] if among else None)


@given(
    st.integers(1, 100_000),
    st.datetimes(datetime(1980, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),
    st.integers(0, 200_000),
)
def test_an_interval_ticks_at_its_multiples(every_s: int, after: datetime, span_s: int) -> None:
    every = Every(timedelta(seconds=every_s))
    tick = every.next_after(after)
    assert tick is not None
    assert after < tick <= after + timedelta(seconds=every_s)
    assert tick.timestamp() % every_s == 0
    last = every.last_between(after, after + timedelta(seconds=span_s))
    if last is None:
        assert tick > after + timedelta(seconds=span_s)
    else:
        assert last.timestamp() % every_s == 0
        assert tick <= last <= after + timedelta(seconds=span_s) < last + timedelta(seconds=every_s)


def in_berlin(expression: str, day: datetime, hours: int = 24) -> list[str]:
    return [
        tick.astimezone(ZoneInfo(BERLIN)).strftime("%d %H:%M %Z")
        for tick in ticks_of(Cron(expression, BERLIN), day, hours)
    ]


SPRING = datetime(2026, 3, 28, 23, tzinfo=UTC)  # midnight; at 2:00 the clock shows 3:00
AUTUMN = datetime(2026, 10, 24, 22, tzinfo=UTC)  # midnight; at 3:00 the clock shows 2:00


def test_a_time_of_day_that_the_clock_skips_ticks_once_when_it_jumps() -> None:
    assert in_berlin("30 2 * * *", SPRING) == ["29 03:00 CEST"]
    assert in_berlin("0,30 2 * * *", SPRING) == ["29 03:00 CEST"]
    assert in_berlin("30 2,3 * * *", SPRING) == ["29 03:00 CEST", "29 03:30 CEST"]


def test_a_time_of_day_that_the_clock_shows_twice_ticks_once() -> None:
    assert in_berlin("30 2 * * *", AUTUMN) == ["25 02:30 CEST"]


def test_what_ticks_all_day_ticks_through_a_change_of_clocks() -> None:
    assert in_berlin("*/30 * * * *", SPRING + timedelta(hours=1, minutes=15), hours=2) == [
        "29 01:30 CET",
        "29 03:00 CEST",
        "29 03:30 CEST",
        "29 04:00 CEST",
    ]
    assert in_berlin("*/30 * * * *", AUTUMN + timedelta(hours=1, minutes=45), hours=2) == [
        "25 02:00 CEST",
        "25 02:30 CEST",
        "25 02:00 CET",
        "25 02:30 CET",
    ]


def test_the_days_around_a_change_are_23_and_25_hours_long() -> None:
    noon = list(ticks_of(Cron("0 12 * * *", BERLIN), SPRING - timedelta(days=1), 72))
    assert noon[1] - noon[0] == timedelta(hours=23)
    noon = list(ticks_of(Cron("0 12 * * *", BERLIN), AUTUMN - timedelta(days=1), 72))
    assert noon[1] - noon[0] == timedelta(hours=25)


def test_the_29th_of_february_is_found() -> None:
    tick = Cron("0 0 29 2 *").next_after(datetime(2025, 1, 1, tzinfo=UTC))
    assert tick == datetime(2028, 2, 29, tzinfo=UTC)


def test_there_is_an_end_of_time() -> None:
    assert Cron("0 0 29 2 *").next_after(datetime(2096, 3, 1, tzinfo=UTC)) is None


@pytest.mark.parametrize(
    ("expression", "zone", "words"),
    [
        ("* * * *", "UTC", "must have five fields"),
        ("0 * * * * *", "UTC", "must have five fields"),
        ("", "UTC", "must have five fields"),
        ("60 * * * *", "UTC", "Bad minute"),
        ("* 25 * * *", "UTC", "Bad hour"),
        ("* * 30 2 *", "UTC", "Bad day-of-month"),
        ("* * */20 * 1L", "UTC", "must match a day within 50 years"),
        ("@daily", "UTC", "must have five fields"),
        ("* * * * *", "Europe/Atlantis", "IANA"),
        ("* * * * *", "../../etc/passwd", "IANA"),
        ("* * * * *", "", "IANA"),
        ("* * * * *", "+25:00", "IANA"),
    ],
)
def test_a_wrong_time_is_refused_with_what_it_must_be(
    expression: str, zone: str, words: str
) -> None:
    with pytest.raises(InvalidOption, match=words):
        Cron(expression, zone)


@pytest.mark.parametrize("seconds", [0, -1, 0.5, 1.5, 367 * 86_400])
def test_an_interval_is_of_whole_seconds_and_at_most_a_year(seconds: float) -> None:
    with pytest.raises(InvalidOption, match="must be whole seconds, from 1 s to 366 days"):
        Every(timedelta(seconds=seconds))


@given(expressions, st.sampled_from(ZONES))
def test_a_timing_comes_back_from_its_parts(expression: str, zone: str) -> None:
    for timing in (Cron(expression, zone), Every(timedelta(minutes=10))):
        assert timing_of(timing.cron, timing.every_s, timing.zone) == timing
