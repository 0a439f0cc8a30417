"""Print the lowest version of every package that pyproject.toml allows, as constraints for pip.

    python scripts/lowest_versions.py > lowest.txt
    pip install -c lowest.txt ".[train]"

Only what pyproject.toml names; what those packages need is for pip to choose.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def lowest(requirement: str) -> str | None:
    """`numpy>=2.0` as `numpy==2.0.*`; None for what has no lower bound, such as our own extras."""
    found = re.match(
        r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*(?:>=|==)\s*([0-9][0-9.]*)", requirement
    )
    return f"{found[1]}=={found[2]}.*" if found else None


def constraints(project: dict[str, Any], extras: list[str]) -> list[str]:
    """The lowest versions of the dependencies and of some extras."""
    optional = project["optional-dependencies"]
    requirements = [*project["dependencies"]]
    for extra in extras:
        requirements += optional[extra]
    pinned = {lowest(requirement) for requirement in requirements}
    return sorted(pin for pin in pinned if pin is not None)


def main() -> None:
    """Print them, for the package and the extra `train`."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    print("\n".join(constraints(project, ["train"])))


if __name__ == "__main__":
    main()
