"""Digests that say whether a run still meets the same samples and images."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd

from ensembler.data.columns import is_feature
from ensembler.data.fold_file import is_given
from ensembler.data.labels import VALUE_PREFIX
from ensembler.data.samples import SampleSet
from ensembler.predictions.store import cache_folder


def data_fingerprint(samples: SampleSet) -> str:
    """A digest of ids, labels, groups and weights in their order, however they are split."""
    given = [column for column in samples.table if is_given(column)]
    return _digest(samples.table.drop(columns=given))


def former_fingerprint(samples: SampleSet) -> str:
    """The same as earlier versions took it: with the folds that a column of the manifest gives."""
    return _digest(samples.table)


def _digest(table: pd.DataFrame) -> str:
    # not the numbers that bins cut: members that draw other borders say so themselves
    numbers = [name for name in table if str(name).startswith(VALUE_PREFIX)]
    # nor the columns that only some members are fitted on, who say what is in them
    features = [name for name in table if is_feature(name)]
    table = table.drop(columns=["path", *numbers, *features], errors="ignore")
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def images_fingerprint(samples: SampleSet, artifacts: Path) -> str:
    """A digest of what the images show, wherever their files are."""
    from ensembler.data.contents import read_contents

    checksums = read_contents(samples.images, cache_folder(artifacts)).checksum
    return hashlib.sha256("\n".join(checksums).encode()).hexdigest()
