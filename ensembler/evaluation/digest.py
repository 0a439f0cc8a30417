"""What a member or blend says of the labelled train rows, in little space.

Of a hundred members on fifty thousand rows and a hundred classes the probabilities are gigabytes;
what a report shows of them is in a few numbers a row. Digests are read one after the other, and
kept beside the pixel cache, so that the next report reads no probabilities: deleting them costs
time only.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import DiskFullError
from ensembler.evaluation.predicted import (
    Predicted,
    predicted_by_blend,
    predicted_by_member,
)
from ensembler.files import READ_ONLY, write_bytes
from ensembler.metrics import row_losses, score
from ensembler.metrics.by_class import ClassCounts, class_counts
from ensembler.metrics.calibration import calibration_error
from ensembler.predictions.blends import Blend
from ensembler.predictions.members import Member
from ensembler.predictions.store import RunStore
from ensembler.targets.kinds import Labels, kind_of

SCORES = ("accuracy", "f1_macro", "log_loss", "ece")
VERSION = "1"
_MOST_VIEWS = 16  # that are scored one by one


@dataclass(frozen=True)
class Digest:
    """One prediction of the `rows` `[n]` (positions among the train rows) that have a label.

    `decided` `[n]` is the class given, of several labels at once a number that is the same for the
    same set; `right` `[n]` whether it is right, `losses` `[n]` the log loss, `confidence` `[n]` the
    probability of what was decided. `counts` `[3, classes]` are the rows that have a class, are
    given it, and rightly. `views` has the scores of each view alone. Of blends all is cross-fitted.
    """

    kind: Literal["member", "blend"]
    name: str
    target: str
    rows: NDArray[np.int64]
    decided: NDArray[np.int64]
    right: NDArray[np.bool_]
    losses: NDArray[np.float32]
    confidence: NDArray[np.float32]
    counts: NDArray[np.float64]
    scores: dict[str, float]
    views: dict[str, dict[str, float]]

    @property
    def label(self) -> str:
        """How it is called beside others."""
        return self.name if self.kind == "member" else f"blend {self.name}"

    @property
    def f1(self) -> NDArray[np.float64]:
        """The F1 of each class `[classes]`; NaN for one that is neither there nor given."""
        there, given, right = self.counts
        either = there + given
        return np.where(either > 0, 2 * right / np.maximum(either, 1), np.nan)


def member_digest(
    store: RunStore, member: Member, cache: Path | None, y: Labels
) -> Digest | None:
    """The digest of a member, opened for one target; None when it predicts no labelled row.

    `y` are the labels of all train rows.
    """
    record = member.record
    made_of = [record.sha256.get(member.oof_file), record.views, record.kind]
    kept = _kept_at(store, cache, [record.target, *made_of])
    found = _read(kept, "member", member.name, record.target)
    if found is not None:
        return found
    predicted = _of_train(
        predicted_by_member(store, member, "mean", None, holdout=False, y=y)
    )
    if predicted is None:
        return None
    digest = digest_of(predicted, _views_alone(store, member, y))
    _keep(kept, digest)
    return digest


def blend_digest(store: RunStore, blend: Blend, cache: Path | None) -> Digest | None:
    """The digest of a blend's cross-fitted predictions."""
    record = blend.record
    kept = _kept_at(store, cache, [record.target, record.sha256.get("oof.npy")])
    found = _read(kept, "blend", record.name, record.target)
    if found is not None:
        return found
    predicted = _of_train(predicted_by_blend(store, blend))
    if predicted is None:
        return None
    digest = digest_of(predicted, {})
    _keep(kept, digest)
    return digest


def _of_train(found: Any) -> Predicted | None:
    return next((predicted for predicted in found if predicted.split == "oof"), None)


def digest_of(predicted: Predicted, views: dict[str, dict[str, float]]) -> Digest:
    """What is kept of a prediction."""
    probs, y = predicted.probs, predicted.y
    decided = kind_of(y).decide(probs)
    counts = class_counts(decided, y, len(predicted.classes))
    losses = row_losses("log_loss", probs, y)
    if losses is None:
        raise ValueError("log loss is a mean over rows")
    is_right = decided == y
    if y.ndim == 1:
        confidence = np.take_along_axis(probs, decided[:, None], axis=1)[:, 0]
        scores = _scores(counts, is_right, losses, confidence)
    else:
        scores = {name: float(score(name, probs, y)) for name in SCORES}
        confidence = np.where(probs >= 0.5, probs, 1 - probs).prod(axis=1)
        is_right, decided = is_right.all(axis=1), _set_numbers(decided)
    return Digest(
        kind=predicted.kind,
        name=predicted.name,
        target=predicted.target,
        rows=predicted.rows,
        decided=decided.astype(np.int64),
        right=is_right,
        losses=losses.astype(np.float32),
        confidence=confidence.astype(np.float32),
        counts=np.concatenate([counts.there, counts.given, counts.right]),
        scores=scores,
        views=views,
    )


def _scores(
    counts: ClassCounts,
    right: NDArray[np.bool_],
    losses: NDArray[np.float64],
    confidence: NDArray[np.floating],
) -> dict[str, float]:
    """The scores of one label a row, from what is known already."""
    either = (counts.there + counts.given)[0]
    f1 = 2 * counts.right[0] / np.maximum(either, 1)
    return {
        "accuracy": float(right.mean()),
        "f1_macro": float(f1[either > 0].mean()),
        "log_loss": float(losses.mean()),
        "ece": calibration_error(confidence, right),
    }


def _set_numbers(decided: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number for each row's set of labels, the same in every prediction."""
    packed = np.packbits(decided.astype(np.bool_), axis=1)
    digests = [hashlib.blake2b(row.tobytes(), digest_size=7).digest() for row in packed]
    return np.array([int.from_bytes(digest) for digest in digests], np.int64)


def _views_alone(store: RunStore, member: Member, y: Labels) -> dict[str, dict[str, float]]:
    """The scores of each view by itself; none of a member with one view."""
    views = member.record.views
    if not 1 < len(views) <= _MOST_VIEWS:
        return {}
    found = {}
    for view in views:
        alone = predicted_by_member(store, member, "mean", [view], holdout=False, y=y)
        predicted = _of_train(alone)
        if predicted is not None:
            names = ("accuracy", "log_loss")
            found[view] = {n: float(score(n, predicted.probs, predicted.y)) for n in names}
    return found


# --- kept digests


def _kept_at(store: RunStore, cache: Path | None, made_of: Sequence[object]) -> Path | None:
    """The file of a digest, named after everything it is made of; None without a cache."""
    if cache is None:
        return None
    classes = store.classes(str(made_of[0]))
    essence = json.dumps([VERSION, store.samples_sha256, classes, made_of], default=list)
    return cache / f"{hashlib.sha256(essence.encode()).hexdigest()[:32]}.npz"


def _keep(path: Path | None, digest: Digest) -> None:
    """Keep a digest, so that the next report need not compute it again."""
    if path is None:
        return
    buffer = io.BytesIO()
    said = json.dumps({"scores": digest.scores, "views": digest.views})
    arrays = {name: getattr(digest, name) for name in _ARRAYS}
    arrays["decided"] = _small(digest.decided)
    arrays["rows"] = digest.rows.astype(np.int32)
    np.savez(buffer, said=np.frombuffer(said.encode(), np.uint8), **arrays)
    keep(path, buffer.getvalue())


def keep(path: Path, content: bytes) -> None:
    """Write a file of the cache, where it can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except DiskFullError:
        return
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise


_ARRAYS = ("rows", "decided", "right", "losses", "confidence", "counts")


def _small(values: NDArray[np.int64]) -> NDArray[np.integer]:
    fits = len(values) == 0 or values.max() < 2**15
    return values.astype(np.int16) if fits else values


def _read(
    path: Path | None, kind: Literal["member", "blend"], name: str, target: str
) -> Digest | None:
    """A digest that was kept; None when there is none, or it was cut short."""
    if path is None or not path.is_file():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as content:
            said = json.loads(content["said"].tobytes())
            arrays: dict[str, Any] = {part: content[part] for part in _ARRAYS}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    arrays["rows"] = arrays["rows"].astype(np.int64)
    arrays["decided"] = arrays["decided"].astype(np.int64)
    return Digest(kind, name, target, **arrays, **said)
