"""What an argument of a command names: a recipe, a bundle, a pool or a run.

One rule for every command: a URL, or a folder with `ens-pool.json`, is a pool; a file `.yaml` is a
recipe and `.ens` a bundle; everything else is a run, by its folder or its name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from ensembler.errors import RequestError

Argument = Literal["recipe", "bundle", "pool", "run"]

POOL_RECORD = "ens-pool.json"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_BY_SUFFIX: dict[str, Argument] = {".yaml": "recipe", ".yml": "recipe", ".ens": "bundle"}
_ADVICE: dict[Argument, str] = {
    "recipe": "`ens run {given}` makes a run of it",
    "bundle": "`ens predict {given} IMAGES` predicts with it",
    "pool": "`ens ls {given}` shows what is in it, `ens pull {given} RUN` takes it into a run",
    "run": "`ens ls {given}` shows what is in it",
}


def is_url(given: str | Path) -> bool:
    """Whether an argument is of the form `scheme://...`."""
    return _URL.match(str(given)) is not None


def what_is(given: str | Path) -> Argument:
    """What an argument names; of a run it is not said that there is one."""
    if is_url(given):
        return "pool"
    path = Path(given)
    if path.is_dir():
        return "pool" if (path / POOL_RECORD).is_file() else "run"
    return _BY_SUFFIX.get(path.suffix.lower(), "run")


def check_is(given: str | Path, expected: Argument) -> None:
    """Raise RequestError for an argument that names something else than was expected."""
    found = what_is(given)
    if found != expected:
        advice = _ADVICE[found].format(given=given)
        raise RequestError(f"{given} is a {found}, expected a {expected}; {advice}")
