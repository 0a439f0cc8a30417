"""method: tabular: a head on columns of the manifest, and perhaps on other members' predictions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from ensembler.training.specs.fitted import FittedSpec


class TabularSpec(FittedSpec):
    """A head for each fold on columns of the manifest, which are encoded inside the fold."""

    method: Literal["tabular"] = Field(
        description="tabular fits heads on the columns that data.features names."
    )
    head: str = Field(
        "trees",
        description="What is fitted: trees (scikit-learn's HistGradientBoostingClassifier), "
        "lightgbm (extra lightgbm), or any head of a probe, for which categories become columns of "
        "0 and 1 and missing numbers the median.",
    )
    columns: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description="Which of data.features it is fitted on (default: all).",
    )
    stack: tuple[str, ...] = Field(
        (),
        description="Members whose predictions are columns beside those: out-of-fold ones of train "
        "rows, the mean of the folds' of test rows. It is fitted after they are complete.",
    )

    def _problems(self) -> Iterator[str]:
        yield from super()._problems()
        if len(set(self.stack)) != len(self.stack):
            yield f"stack {list(self.stack)} names one twice"
