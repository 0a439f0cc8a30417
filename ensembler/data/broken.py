"""Samples whose images cannot be read: left out, or an error that names them."""

from __future__ import annotations

from ensembler.data.pixels import describe_broken
from ensembler.data.samples import SampleSet, drop_samples
from ensembler.errors import DataError


def drop_broken(samples: SampleSet, broken: dict[int, str], policy: str) -> SampleSet:
    """The samples without broken images when `policy` is "skip".

    DataError naming them when it is "stop".
    """
    if not broken:
        return samples
    if policy == "stop":
        raise DataError(describe_broken(broken))
    kept = drop_samples(samples, samples.table["id"].iloc[sorted(broken)].tolist())
    for target in samples.targets:
        lost = _train_labels(samples, target) - _train_labels(kept, target)
        if lost:
            raise DataError(
                f"no image of class {sorted(lost)[0]!r} of {target} can be read; repair "
                "them, or leave the class out of the table"
            )
    return kept


def _train_labels(samples: SampleSet, target: str) -> set[str]:
    return set(samples.table[target][samples.table["split"] == "train"].dropna())
