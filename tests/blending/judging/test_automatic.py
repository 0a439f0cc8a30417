"""`auto` compares candidates until it is asked to stop."""

import numpy as np

from ensembler.blending.judging.automatic import choose
from ensembler.blending.judging.cross_fitting import fitting_parts
from ensembler.blending.pool import Pool
from ensembler.blending.settings import Settings
from ensembler.blending.spec import BlendSpec
from ensembler.blending.testing import invented_pool
from ensembler.progress import Progress
from ensembler.stop import Stop


class _TimeRunsOut(Progress):
    """The time is over while the first candidate is cross-fitted."""

    def __init__(self, stop):
        self.stop = stop

    def step(self, what, done, total):
        self.stop.request("deadline")


def test_a_stop_that_comes_during_the_comparison_ends_it(few_families):
    stack, y = invented_pool(members=2, rows=60)
    pool = Pool(("a", "b"), stack, y, ("x", "y", "z"), np.arange(60) % 3)
    stop = Stop()
    part = fitting_parts(y, pool.folds, seed=0)
    settings = Settings(progress=_TimeRunsOut(stop))
    choice = choose(pool, BlendSpec(), part, settings, stop=stop)
    assert choice.stopped_early
    assert list(choice.scores) == ["simplex"]
