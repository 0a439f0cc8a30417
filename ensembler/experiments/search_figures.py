"""The figures of a search, as SVG files that open by themselves, and its trials as a table."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ensembler.files import write_bytes
from ensembler.reporting.svg import Line, bars, lines

if TYPE_CHECKING:
    from ensembler.experiments.study import Trial
    from ensembler.experiments.tuner import TuneResult

_STYLE = (
    "<style>svg{background:#fff}text{font:12px system-ui,sans-serif;fill:#212529}"
    ".line{fill:none;stroke-width:1.5}.axis,.grid{fill:none;stroke:#dee2e6}"
    ".line.s0{stroke:#0b7285}.line.s1{stroke:#d9480f}.line.s2{stroke:#adb5bd}"
    ".dot.s0,.fill.s0{fill:#0b7285}.dot.s1,.fill.s1{fill:#d9480f}.dot.s2,.fill.s2{fill:#adb5bd}"
    "</style>"
)
_OTHERS = 2  # the colour of trials that are not the best one


def write_figures(result: TuneResult, folder: Path) -> None:
    """Write `trials.csv`, and `history.svg`, `importances.svg` and `parallel.svg` of a search.

    A figure of which there is nothing to show is left out.
    """
    write_bytes(folder / "trials.csv", _table(result).encode())
    done = [found.trial for found in result.trials if found.trial.value is not None]
    if not done:
        return
    figures = {"history": _history(result, done), "parallel": _parallel(result, done)}
    if result.importances:
        figures["importances"] = _importances(result)
    for name, figure in figures.items():
        alone = figure.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        head, _, rest = alone.partition(">")
        write_bytes(folder / f"{name}.svg", f"{head}>{_STYLE}{rest}\n".encode())


def _table(result: TuneResult) -> str:
    keys = list(dict.fromkeys(key for found in result.trials for key in found.trial.params))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["number", "state", result.objective, *keys, "folds_done", "seconds"])
    for found in result.trials:
        trial = found.trial
        values = [trial.params.get(key, "") for key in keys]
        row = [
            trial.number,
            trial.state,
            trial.value,
            *values,
            found.folds_done,
            trial.seconds,
        ]
        writer.writerow(row)
    return buffer.getvalue()


def _history(result: TuneResult, done: Sequence[Trial]) -> str:
    """The value of every trial, and the best one so far."""
    numbers = [float(trial.number) for trial in done]
    values = [trial.value or 0.0 for trial in done]
    better = min if result.direction == "minimize" else max
    best = [better(values[: i + 1]) for i in range(len(values))]
    series = [Line("best so far", numbers, best)]
    series += [
        Line(f"trial {trial.number}", [x], [y])
        for trial, x, y in zip(done, numbers, values, strict=True)
    ]
    return str(lines("Values of the trials", "trial", result.objective, series))


def _importances(result: TuneResult) -> str:
    evaluator, found = next(iter(result.importances.items()))
    names = {"ped_anova": "PED-ANOVA", "fanova": "fANOVA"}
    title = f"How much each key matters ({names[evaluator]})"
    return str(bars(title, "importance", [*found], [[value] for value in found.values()]))


def _parallel(result: TuneResult, done: Sequence[Trial]) -> str:
    """Parallel coordinates: a line for each trial over the keys, the value last."""
    keys = list(dict.fromkeys(key for trial in done for key in trial.params))
    values = [trial.value for trial in done]
    places = [*(_places(_given(done, key)) for key in keys), _places(values)]
    at = [float(i + 1) for i in range(len(places))]
    best = [i for i, trial in enumerate(done) if trial.number == result.best]
    order = [*best, *(i for i in range(len(done)) if i not in best)]
    by_trial = np.transpose(places).tolist()
    series = [Line(f"trial {done[i].number}", at, by_trial[i]) for i in order]
    named = ", ".join(f"{i + 1} {key}" for i, key in enumerate((*keys, result.objective)))
    figure = str(lines("Values of the trials by key", named, "lowest to highest", series))
    return _only_first_coloured(figure)


def _only_first_coloured(figure: str) -> str:
    for colour in range(1, 8):
        figure = figure.replace(f'class="line s{colour}"', f'class="line s{_OTHERS}"')
    first, rest = figure.split('class="line s0"', 1)
    return f'{first}class="line s0"' + rest.replace('class="line s0"', 'class="line s2"')


def _given(done: Sequence[Trial], key: str) -> list[Any]:
    """What each trial was given for a key; None for nothing."""
    return [trial.params.get(key) for trial in done]


def _places(column: Sequence[Any]) -> list[float]:
    """Where values lie between the lowest and the highest; NaN where there is none."""
    numbers = [value for value in column if _is_number(value)]
    if len(numbers) == sum(value is not None for value in column):
        low, high = min(numbers), max(numbers)
        width = (high - low) or 1.0
        return [(v - low) / width if v is not None else math.nan for v in column]
    words = sorted({str(value) for value in column if value is not None})
    last = max(1, len(words) - 1)
    return [math.nan if v is None else words.index(str(v)) / last for v in column]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
