"""The screen that scripts/screenshot.py draws is what a terminal would show."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def screenshot():
    path = Path(__file__).parents[2] / "scripts" / "screenshot.py"
    spec = importlib.util.spec_from_file_location("screenshot", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("written", "seen"),
    [
        ("one\r\ntwo\r\n", "one\ntwo"),
        ("bar 1/9\rbar 2/9", "bar 2/9"),
        ("gone\r\x1b[2Kstays", "stays"),
        ("bar\r\n\x1b[1A\x1b[2Kdone\r\n", "done"),
        ("\x1b[?25lhidden cursor\x1b[?25h", "hidden cursor"),
        ("\x1b[1mb\x1b[0m", "\x1b[1mb\x1b[0m"),
    ],
)
def test_lines_that_a_program_takes_back_are_not_on_the_screen(screenshot, written, seen):
    screen = screenshot.Screen()
    screen.feed(written)
    assert screen.text() == seen


def test_a_command_runs_in_a_terminal(screenshot):
    code = "import sys; print(sys.stdout.isatty())"
    assert screenshot.screen_of([sys.executable, "-c", code]) == "True"


def test_a_command_that_fails_is_not_drawn(screenshot):
    with pytest.raises(SystemExit):
        screenshot.screen_of([sys.executable, "-c", "raise SystemExit(3)"])
