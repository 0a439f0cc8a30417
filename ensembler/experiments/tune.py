"""`ens tune`: a search whose trials are members, and the most useful of them completed."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from ensembler.deadline import Deadline
from ensembler.experiments.search_figures import write_figures
from ensembler.experiments.study import check_tune_installed
from ensembler.experiments.tune_processes import search_in_processes
from ensembler.experiments.tuner import Tuner, TuneResult, introduced, open_introduced
from ensembler.machine.execution import DEFAULT_EXECUTION, Execution
from ensembler.pipeline.check import check_device, check_recipe
from ensembler.progress import QUIET, Progress
from ensembler.recipe.load import Recipe
from ensembler.stop import Stop

__all__ = ["TuneResult", "tune_recipe"]


def tune_recipe(
    recipe: Recipe,
    artifacts: Path,
    *,
    trials: int | None = None,
    execution: Execution = DEFAULT_EXECUTION,
    progress: Progress = QUIET,
    stop: Stop | None = None,
    deadline: Deadline | None = None,
    rebuild: bool = False,
) -> TuneResult:
    """Search as the recipe's `tune:` says, and complete the most useful trials over all folds.

    `trials` says how many are finished in the end (default: the recipe's). A second call with the
    same ones does nothing. With a `deadline` what cannot end in time is left out. `rebuild` makes
    the study again from the trials' members, where its file is broken or lost.
    """
    began, stop = time.monotonic(), Stop() if stop is None else stop
    check_tune_installed()
    for corner in (recipe, introduced(recipe, progress)):
        check_recipe(corner)
    check_device(execution.device, progress)
    if deadline is not None:
        stop.limit(deadline.ends, deadline.clock)
    search, workspace = open_introduced(recipe, artifacts, progress)
    alone = replace(execution, processes=1)
    tuner = Tuner(search, workspace, alone, stop, trials or search.tune.trials)
    tuner.check_folds()
    tuner.open_study(rebuild=rebuild)
    with stop.heard():
        if execution.processes > 1 or search.tune.timeout is not None:
            search_in_processes(tuner, execution)
        else:
            tuner.search_on()
        tuner.complete()
    result = tuner.result(time.monotonic() - began)
    write_figures(result, tuner.folder)
    return result
