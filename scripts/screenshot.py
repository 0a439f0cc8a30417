"""Run a command in a terminal of its own and draw what is on its screen at the end as SVG.

    python scripts/screenshot.py docs/figures/run.svg -- ens run recipes/digits.yaml

Needs what `ens` needs (rich draws). Nothing is edited: what the picture shows is what was printed.
"""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

COLUMNS = 100
SVG = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: {char_height}px;
line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
STEP = re.compile(r"\x1b\[(?P<numbers>[?\d;]*)(?P<what>[A-Za-z])|(?P<text>[\s\S])")


class Screen:
    """The lines of a terminal: text, colours, carriage returns, moves upwards and erased lines."""

    def __init__(self) -> None:
        self.lines: list[list[str]] = [[]]
        self.row = self.column = 0
        self.colour = ""

    def feed(self, text: str) -> None:
        """Take what a program wrote."""
        for step in STEP.finditer(text):
            if step["text"]:
                self._put(step["text"])
            else:
                self._obey(step["numbers"], step["what"])

    def _obey(self, numbers: str, what: str) -> None:
        if what == "m":
            reset = numbers in ("", "0")
            self.colour = "" if reset else f"{self.colour}\x1b[{numbers}m"
        elif what == "A":
            self.row = max(0, self.row - int(numbers or 1))
        elif what == "K":
            self.lines[self.row] = (
                [] if numbers == "2" else self.lines[self.row][: self.column]
            )

    def _put(self, letter: str) -> None:
        if letter == "\n":
            self.row += 1
            if self.row == len(self.lines):
                self.lines.append([])
        elif letter == "\r":
            self.column = 0
        else:
            line = self.lines[self.row]
            line.extend(" " * (self.column + 1 - len(line)))
            line[self.column] = f"{self.colour}{letter}\x1b[0m" if self.colour else letter
            self.column += 1

    def text(self) -> str:
        """What is on the screen, with its colours."""
        return "\n".join("".join(line).rstrip() for line in self.lines).strip("\n")


def screen_of(command: list[str]) -> str:
    """What is on the screen after a command, run in a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    written = b""
    while chunk := _read(ours):
        written += chunk
    if process.wait() != 0:
        sys.exit(written.decode())
    screen = Screen()
    screen.feed(written.decode())
    return screen.text()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the program has closed its end
        return b""


def main() -> None:
    """Draw the screen of a command."""
    from rich.console import Console
    from rich.text import Text

    out, dashes, *command = sys.argv[1:]
    if dashes != "--" or not command:
        sys.exit(str(__doc__))
    title = f"$ {' '.join(command)}"
    shown = Text.from_ansi(f"\x1b[1m{title}\x1b[0m\n{screen_of(command)}")
    console = Console(record=True, width=COLUMNS, file=Path(os.devnull).open("w"))  # noqa: SIM115
    console.print(shown, soft_wrap=False)
    console.save_svg(out, title="", code_format=SVG, unique_id="ens")


if __name__ == "__main__":
    main()
