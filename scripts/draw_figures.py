"""Draw docs/figures/*.svg, light and dark, from the measured results that lie beside them as CSV.

    python scripts/draw_figures.py            # needs matplotlib: the extra `dev`
    python scripts/draw_figures.py --check    # whether every figure is of today's CSV; needs nothing

Figures are never edited by hand. Each one holds the digest of the table that it was drawn from.
"""

import csv
import hashlib
import math
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "docs" / "figures"

Row = dict[str, str]


@dataclass(frozen=True)
class Theme:
    """Colours of a page."""

    name: str
    text: str
    muted: str
    grid: str
    ours: str
    theirs: str


THEMES = (
    Theme("light", "#1f2328", "#59636e", "#d1d9e0", "#0a7d5a", "#8c959f"),
    Theme("dark", "#f0f6fc", "#9198a1", "#3d444d", "#3fd6a3", "#7d8590"),
)


def table(name: str) -> list[Row]:
    """The rows of a CSV file."""
    with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def digest(name: str) -> str:
    """What a figure says of the table that it was drawn from."""
    content = (FOLDER / f"{name}.csv").read_bytes()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def new_figure(
    theme: Theme, width: float, height: float, columns: int = 1
) -> tuple[Any, Any]:
    """A transparent figure with axes side by side."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": "ensembler",
            "font.family": "sans-serif",
            "font.size": 11,
            "text.color": theme.text,
            "axes.labelcolor": theme.muted,
            "xtick.color": theme.muted,
            "ytick.color": theme.text,
        }
    )
    figure, axes = pyplot.subplots(
        1,
        columns,
        figsize=(width, height),
        sharey=True,
        layout="constrained",
        squeeze=False,
    )
    figure.patch.set_alpha(0)
    for axis in axes[0]:
        axis.patch.set_alpha(0)
        axis.tick_params(length=0)
        axis.grid(axis="x", color=theme.grid, linewidth=0.7)
        axis.set_axisbelow(True)
        for side in axis.spines.values():
            side.set_visible(False)
    return figure, axes[0]


def save(figure: Any, name: str, theme: Theme) -> None:
    """Write the figure, with the digest of its table and without a date."""
    from matplotlib import pyplot

    path = FOLDER / f"{name}-{theme.name}.svg"
    figure.savefig(
        path, metadata={"Date": None, "Creator": None, "Description": digest(name)}
    )
    pyplot.close(figure)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")


def draw_blends(theme: Theme) -> None:
    """Held-out log loss and seconds of every blend of one pool, as points in two columns."""
    rows = table("blends")
    figure, (quality, cost) = new_figure(theme, 9.2, 4.0, columns=2)
    colours = [theme.ours if row["whose"] == "ens" else theme.theirs for row in rows]
    for place, (row, colour) in enumerate(zip(rows, colours, strict=True)):
        loss, seconds = float(row["log_loss"]), float(row["seconds"])
        quality.plot(loss, place, "o", color=colour, markersize=9)
        quality.annotate(f"{loss:.3f}", (loss, place), **beside(theme))
        cost.plot(seconds, place, "o", color=colour, markersize=9)
        cost.annotate(f"{seconds:g} s", (seconds, place), **beside(theme))
    quality.set_yticks(range(len(rows)), [row["blend"] for row in rows])
    for label, colour in zip(quality.get_yticklabels(), colours, strict=True):
        label.set_color(theme.text if colour == theme.theirs else colour)
    quality.invert_yaxis()
    quality.set_xlim(0.32, 0.415)
    quality.set_xlabel("log loss on 10,000 test rows")
    logarithmic(cost, 0.005, 80, "{:,g}")
    cost.set_xlabel("seconds to fit, one thread")
    save(figure, "blends", theme)


def draw_search(theme: Theme) -> None:
    """Seconds of the same greedy search, ours and AutoGluon's, on three pools."""
    rows = table("search")
    figure, (axis,) = new_figure(theme, 8.0, 2.4)
    for place, row in enumerate(rows):
        ours, theirs = float(row["ens"]), float(row["autogluon"])
        axis.plot([ours, theirs], [place, place], color=theme.grid, linewidth=4, zorder=1)
        axis.plot(ours, place, "o", color=theme.ours, markersize=10)
        axis.plot(theirs, place, "o", color=theme.theirs, markersize=10)
        left = {**beside(theme), "ha": "right", "xytext": (-8, 0)}
        axis.annotate(f"{ours:g} s", (ours, place), **left)
        axis.annotate(f"{theirs:,.0f} s", (theirs, place), **beside(theme))
        middle = (math.sqrt(ours * theirs), place)
        ratio = f"{int(row['ratio']):,} times"
        axis.annotate(ratio, middle, **{**beside(theme), "ha": "center", "xytext": (0, 7)})
    logarithmic(axis, 0.004, 8000, "{:,g}")
    axis.set_ylim(len(rows) - 0.5, -0.7)
    axis.set_yticks(range(len(rows)), [row["pool"] for row in rows])
    axis.set_xlabel("processor seconds: ens (green), AutoGluon (grey)")
    save(figure, "search", theme)


def draw_folds(theme: Theme) -> None:
    """The accuracy that plain folds claim, and what grouped folds find."""
    rows = table("folds")
    figure, (axis,) = new_figure(theme, 8.0, 2.4)
    for place, row in enumerate(rows):
        for kind, colour in (("plain", theme.theirs), ("grouped", theme.ours)):
            value = float(row[kind])
            if row[f"{kind}_low"]:
                ends = [float(row[f"{kind}_low"]), float(row[f"{kind}_high"])]
                axis.plot(ends, [place, place], color=colour, linewidth=3, alpha=0.45)
            axis.plot(value, place, "o", color=colour, markersize=10)
            above = {**beside(theme), "ha": "center", "xytext": (0, 8)}
            axis.annotate(f"{value:.3f}", (value, place), **above)
    axis.set_yticks(range(len(rows)), [f"{row['data']}, {row['model']}" for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.7)
    axis.set_xlim(0.3, 0.8)
    axis.set_xlabel("accuracy: plain folds (grey), by group (green)")
    save(figure, "folds", theme)


def logarithmic(axis: Any, low: float, high: float, form: str) -> None:
    """Make the horizontal axis logarithmic, with plain numbers at its powers of ten."""
    from matplotlib.ticker import NullLocator

    axis.set_xscale("log")
    axis.set_xlim(low, high)
    powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    ticks = [10.0**power for power in powers]
    axis.set_xticks(ticks, [form.format(tick) for tick in ticks])
    axis.xaxis.set_minor_locator(NullLocator())


def beside(theme: Theme) -> dict[str, Any]:
    """How a value is written to the right of its point."""
    return {
        "xytext": (8, 0),
        "textcoords": "offset points",
        "va": "center",
        "fontsize": 9.5,
        "color": theme.muted,
    }


def facts() -> dict[str, tuple[str, str]]:
    """What the badges say, from pyproject.toml."""
    with (FOLDER.parents[1] / "pyproject.toml").open("rb") as file:
        settings = tomllib.load(file)
    project = settings["project"]
    classifiers: list[str] = project["classifiers"]
    versions = [
        text for text in classifiers if text.startswith("Programming Language :: Python")
    ]
    numbers = [text.rpartition(" ")[2] for text in versions]
    systems = [
        text.rpartition(" ")[2] for text in classifiers if text.startswith("Operating")
    ]
    strict = "mypy strict" if settings["tool"]["mypy"]["strict"] else "mypy"
    return {
        "python": ("Python", f"{numbers[0]} to {numbers[-1]}"),
        "platform": ("platform", ", ".join(systems)),
        "licence": ("licence", project["license"]),
        "typed": ("typed", strict),
    }


def badge(name: str, value: str) -> str:
    """A label with two fields."""
    left, right = 14 + 6.6 * len(name), 14 + 6.6 * len(value)
    width = left + right
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="20" role="img">
<title>{name}: {value}</title>
<rect width="{width:.0f}" height="20" rx="3" fill="#59636e"/>
<rect x="{left:.0f}" width="{right:.0f}" height="20" rx="3" fill="#0a7d5a"/>
<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11">
<text x="{left / 2:.1f}" y="14">{name}</text>
<text x="{left + right / 2:.1f}" y="14">{value}</text>
</g>
</svg>
"""


def badges() -> dict[Path, str]:
    """Every badge with its path."""
    return {
        FOLDER / f"badge-{key}.svg": badge(name, value)
        for key, (name, value) in facts().items()
    }


FIGURES: dict[str, Callable[[Theme], None]] = {
    "blends": draw_blends,
    "search": draw_search,
    "folds": draw_folds,
}


def stale() -> list[str]:
    """The figures that are missing, or drawn from another table than today's."""
    found = []
    for name in FIGURES:
        for theme in THEMES:
            path = FOLDER / f"{name}-{theme.name}.svg"
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            if digest(name) not in text:
                found.append(path.name)
    for path, text in badges().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            found.append(path.name)
    return found


def main() -> int:
    """Draw every figure, or say which are stale."""
    if "--check" in sys.argv:
        names = stale()
        print(
            f"stale: {', '.join(names)}; run scripts/draw_figures.py"
            if names
            else "current"
        )
        return 1 if names else 0
    for draw in FIGURES.values():
        for theme in THEMES:
            draw(theme)
    for path, text in badges().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
