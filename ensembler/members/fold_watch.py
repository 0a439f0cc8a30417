"""What a fold takes, looked at while it is done, for the prices of later ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

from ensembler.members.price_record import MeasuredFold
from ensembler.members.prices import PriceList, workload_of
from ensembler.members.training import Training
from ensembler.predictions.finished_folds import FinishedFold


class FoldWatch:
    """Looks at a fold of a training from its beginning to its end."""

    def __init__(
        self,
        training: Training,
        fold: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._training, self._fold, self._clock = training, fold, clock
        self._is_resumed = training.state_path(fold).is_file()
        # decoding the images, where that is still to be done, is no part of what a fold costs
        _ = training.all_plans[0].pixels
        self._began = clock()
        self._epochs: list[float] = []
        self._trained = self._predicted = 0.0

    def finished(self, finished: FinishedFold) -> None:
        """A member of the training has the fold."""
        record = finished.record
        self._epochs = [float(epoch["seconds"]) for epoch in record["history"]]
        # each member is said to have taken its share, whether or not the others are asked for
        self._trained = float(record["seconds"]) * len(self._training.all_plans)
        self._predicted += float(record["seconds_predicting"])

    def keep(self, prices: PriceList) -> None:
        """Keep what was seen on the price list."""
        work = workload_of(self._training, self._fold)
        passes = max(1, work.epochs) * max(1, work.rows)
        # the first epoch also warms up the device and its libraries
        usual = self._epochs[1:] or self._epochs
        per_row = self._trained / passes
        if usual and len(self._epochs) == work.epochs:
            per_row = median(usual) / max(1, work.rows)
        # a soup is made without epochs: all that it takes is beside them
        in_epochs = self._trained if work.epochs else 0.0
        beside = self._clock() - self._began - in_epochs - self._predicted
        measured = MeasuredFold(
            row=per_row,
            prediction=self._predicted / max(1, work.predictions),
            around=None if self._is_resumed else max(0.0, beside),
        )
        prices.add(self._training, measured)
