"""What a person or a script sees: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ensembler.agents.next_steps import next_after_error, next_steps
from ensembler.cli.given import command_given
from ensembler.reporting.tables import Table
from ensembler.stop import InterruptedNow, Stopped, StoppedNow


def print_error(message: str, *, exit_code: int, code: str) -> None:
    """Print an error for a person, and as the one JSON object when a script asked for JSON."""
    print(f"error: {message}", file=sys.stderr)
    if "--json" in sys.argv:
        error = {"error": message, "exit_code": exit_code, "code": code}
        steps = next_after_error(code, sys.argv[1:])
        _print_object({**error, "next": steps} if steps else error)


def print_json(content: Mapping[str, Any]) -> None:
    """Print the one JSON object of a command, with what makes sense next.

    Numbers that are not finite become null.
    """
    is_said = "error" in content or "next" in content
    steps = [] if is_said else next_steps(*command_given(), content)
    _print_object({**content, "next": steps} if steps else content)


def _print_object(content: Mapping[str, Any]) -> None:
    text = json.dumps(_finite(content), ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except (
        UnicodeEncodeError
    ):  # another encoding than UTF-8, or a file name in none: JSON can do without
        text = json.dumps(_finite(content), allow_nan=False)
    print(text)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(table: Table) -> None:
    """Print a table and the notes below it.

    The first column is text, the others are figures. Its best rows are bold on a terminal.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table as Grid

    grid = Grid(
        title=table.title, title_justify="left", box=box.SIMPLE_HEAD, title_style="bold"
    )
    for i, column in enumerate(table.columns):
        grid.add_column(column, justify="left" if i == 0 else "right", no_wrap=True)
    for i, texts in enumerate(table.texts()):
        grid.add_row(*texts, style="bold" if i in table.best else None)
    # Off a terminal a table is as wide as it needs to be: a cut figure helps nobody.
    width = None if sys.stdout.isatty() else 240
    Console(width=width, highlight=False, markup=False).print(grid)
    for note in table.notes:
        print(note)


@contextmanager
def stoppable(how_to_go_on: str) -> Iterator[None]:
    """Turn Ctrl-C (and a polite kill) into one line that says how to resume."""
    try:
        yield
    except InterruptedNow:
        raise StoppedNow(f"stopped now; {how_to_go_on} resumes from here") from None
    except KeyboardInterrupt:
        raise Stopped(
            f"stopped; nothing finished is lost: {how_to_go_on} resumes from here"
        ) from None
