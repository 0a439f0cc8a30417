"""Deadlines as people write them, with clocks that are moved by hand."""

import time
from datetime import datetime, timedelta

import pytest

from ensembler.deadline import parse_deadline
from ensembler.errors import RequestError

NOON = datetime.fromisoformat("2026-11-27T12:00:00+00:00").timestamp()


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def parsed(text, wall=NOON, monotonic=1000.0, **options):
    clocks = {"wall": Clock(wall), "monotonic": Clock(monotonic)}
    return parse_deadline(text, **clocks, **options)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("45s", 45),
        ("30m", 1800),
        ("1h30m", 5400),
        ("2h", 7200),
        ("1.5h", 5400),
        ("1m5s", 65),
    ],
)
def test_a_length_counts_from_the_start_of_the_command(text, seconds):
    assert parsed(text).seconds_left == seconds
    assert parsed(text, began=990.0).seconds_left == seconds - 10
    assert parsed(text).at == datetime.fromtimestamp(NOON + seconds).astimezone()


def test_a_wall_clock_that_jumps_does_not_matter_for_a_length():
    monotonic, wall = Clock(0.0), Clock(NOON)
    deadline = parse_deadline("30m", monotonic=monotonic, wall=wall)
    wall.now -= 3600
    monotonic.now += 60
    assert deadline.seconds_left == 1740


def test_a_clock_time_is_todays_or_tomorrows():
    assert parsed("23:30").at.isoformat() == "2026-11-27T23:30:00+01:00"
    assert parsed("09:15:30").at.isoformat() == "2026-11-28T09:15:30+01:00"
    assert parsed("13:00").at.isoformat() == "2026-11-28T13:00:00+01:00"  # it is 13:00 now


def test_a_clock_time_follows_the_clock_on_the_wall():
    wall = Clock(NOON)
    deadline = parse_deadline("14:00", wall=wall)
    assert deadline.seconds_left == 3600
    wall.now += 3000
    assert deadline.seconds_left == 600


def test_a_clock_time_across_a_change_of_clocks():
    # In Berlin clocks went from 3:00 back to 2:00 on 2026-10-25, and from 2:00 to 3:00 on 03-29.
    evening = datetime.fromisoformat("2026-10-24T23:00+02:00").timestamp()
    assert parsed("04:00", evening).seconds_left == 6 * 3600
    first = datetime.fromisoformat("2026-10-25T02:40+02:00").timestamp()
    assert parsed("02:30", first).at.isoformat() == "2026-10-25T02:30:00+01:00"
    spring = datetime.fromisoformat("2026-03-28T23:00+01:00").timestamp()
    assert parsed("04:00", spring).seconds_left == 4 * 3600
    assert 0 < parsed("02:30", spring).seconds_left <= 4.5 * 3600  # a time that was skipped
    assert parsed("6h", evening).at - datetime.fromtimestamp(
        evening
    ).astimezone() == timedelta(hours=6)


def test_a_moment_has_its_own_time_zone_or_that_of_here():
    assert parsed("2026-11-27T22:00+09:00").seconds_left == 3600
    assert parsed("2026-11-27 14:00").seconds_left == 3600


@pytest.mark.parametrize("text", ["0s", "2026-11-27T12:00+09:00", "2020-01-01T00:00"])
def test_what_is_past_is_refused(text):
    with pytest.raises(RequestError, match="is past"):
        parsed(text)


def test_a_length_that_was_over_before_the_work_began_is_past():
    with pytest.raises(RequestError, match="is past"):
        parsed("3s", began=990.0)


@pytest.mark.parametrize(
    "text",
    ["", "soon", "90", "-5m", "25:00", "12:60", "1h30", "30m1h", "2026-13-01T00:00", "nan"],
)
def test_what_is_no_deadline_is_refused_with_examples(text):
    with pytest.raises(RequestError, match=r"45s, 30m or 1h30m"):
        parsed(text)


def test_a_length_of_more_than_a_year_is_refused():
    with pytest.raises(RequestError, match="a year"):
        parsed("9999h")
