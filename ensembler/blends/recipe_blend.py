"""The blend that a recipe configures.

What it must not overwrite, and whether it becomes the submission.
"""

from __future__ import annotations

import itertools

import numpy as np

from ensembler.blending.judging.comparison import Gain
from ensembler.blends.gain import gain_on_shared_rows
from ensembler.blends.partial import PartialBlend
from ensembler.blends.submit import submit_blend
from ensembler.files import claim
from ensembler.predictions.blends import copy_blend
from ensembler.predictions.records import write_record
from ensembler.predictions.store import RunStore
from ensembler.progress import Progress
from ensembler.reporting.provisional import finished_together, oof_of
from ensembler.reporting.spec import SubmissionSpec
from ensembler.reporting.submitted import SubmissionChoice, is_as_recorded, last_choice
from ensembler.reporting.versions import submission_versions


def keep_blend_made_by_hand(
    store: RunStore, name: str, spec: SubmissionSpec, progress: Progress
) -> str | None:
    """Keep a blend that was made by hand under another name.

    This is done before the recipe's blend takes `name`. Return that name; None when no blend of
    that name was made by hand. When it was submitted by hand, the blend under its new name is what
    was.
    """
    if name not in store.blends or not _was_made_by_hand(store, name):
        return None
    kept = _free_name(store, f"{name}-by-hand")
    copy_blend(store.blend(name), store.blend_folder(kept), store.lock_path)
    choice = last_choice(store)
    if choice is not None and choice.by_hand and choice.blend == name:
        submit_blend(store, kept, choice.options or spec, by_hand=True, progress=progress)
    progress.warn(
        f"blend {name!r} was made by hand, and the recipe's blend has that name: it is kept as "
        f"{kept!r}; `ens blend {store.name} --name NAME` avoids this"
    )
    return kept


def _was_made_by_hand(store: RunStore, name: str) -> bool:
    """Whether a blend under the recipe's name is not the one that the recipe made last."""
    if "blends" in store.lock.model_fields_set:
        return store.lock.blends.get(name) != store.blend(name).record.fingerprint
    # The run is of an earlier version, which did not note the blends that the recipe made.
    choice = last_choice(store)
    return choice is not None and choice.by_hand and choice.blend == name


def _free_name(store: RunStore, wanted: str) -> str:
    numbered = (f"{wanted}-{number}" for number in itertools.count(2))
    return next(
        name for name in itertools.chain([wanted], numbered) if name not in store.blends
    )


def note_recipe_blend(store: RunStore, name: str) -> None:
    """Note in `recipe.lock.json` that the blend `name` as it is now was made by the recipe."""
    fingerprint = store.blend(name).record.fingerprint
    if fingerprint is None or store.lock.blends.get(name) == fingerprint:
        return
    with claim(store.lock_path, wait=True):
        # as it is now: another process may have written it
        lock = RunStore(store.folder).lock
        noted = lock.model_copy(update={"blends": {**lock.blends, name: fingerprint}})
        write_record(store.recipe_lock_path, noted)


def submit_recipe_blend(
    store: RunStore,
    name: str,
    spec: SubmissionSpec,
    *,
    metric: str,
    is_new: bool,
    partial: PartialBlend | None = None,
    progress: Progress,
) -> None:
    """Submit the recipe's blend, unless another version was submitted that should stay.

    A blend that was chosen by hand stays while the recipe's is not new. Otherwise the recipe's
    takes its place, and that of what was made of finished folds (`partial` when that was a blend
    of now), unless its score on the rows that both predict is worse beyond noise.
    """
    choice = last_choice(store)
    if choice is None or (choice.blend == name and not choice.by_hand):
        gain = None if choice is not None else gain_over_folds(store, name, metric, partial)
        if gain is not None and gain.verdict == "worse":
            progress.warn(
                f"the submission stays {gain.over}: {_worse(store, name, gain, metric)}"
            )
            return
        submit_blend(store, name, spec, progress=progress)
        return
    if choice.by_hand and not is_new:
        _keep(store, choice, spec, progress)
        progress.note(
            f"the submission chosen by hand, of blend {choice.blend!r}, stays; {_advice(store)}"
        )
        return
    gain = gain_over_blend(store, name, choice.blend, metric)
    if gain is not None and gain.verdict == "worse":
        _keep(store, choice, spec, progress)
        progress.warn(
            f"the submission stays blend {choice.blend!r}: {_worse(store, name, gain, metric)}"
        )
        return
    submit_blend(store, name, spec, progress=progress)
    if choice.by_hand:
        progress.note(
            f"the submission chosen by hand, of blend {choice.blend!r}, gives way to the new blend "
            f"{name!r}, which is not clearly worse; {_advice(store)}"
        )


def _worse(store: RunStore, name: str, gain: Gain, metric: str) -> str:
    return (
        f"the recipe's blend {name!r} is worse in {metric} by {-gain.value:.4f} "
        f"({-gain.high:.4f} to {-gain.low:.4f}), out of fold; "
        f"`ens submit {store.name} --blend {name}` submits it nevertheless"
    )


def gain_over_folds(
    store: RunStore, name: str, metric: str, partial: PartialBlend | None
) -> Gain | None:
    """By how much a blend is better than what was submitted of finished folds, out of fold.

    They are compared on the train rows that both predict. None when nothing of the kind is
    submitted, or nothing of it is left to compare with.
    """
    versions = submission_versions(store)
    folds = versions[-1].made_of.folds if versions and is_as_recorded(store) else None
    if folds is None:
        return None
    record, oof = store.blend(name).record, np.asarray(store.blend(name).oof)
    if partial is None:
        finished = finished_together(store, tuple(folds), record.target, record.classes)
        baseline = oof_of(finished, folds, *oof.shape)
    else:
        baseline = np.full(oof.shape, np.nan)
        baseline[partial.rows] = partial.result.oof
    over = str(versions[-1].made_of.method)
    return gain_on_shared_rows(store, record, metric, oof, over, baseline)


def _advice(store: RunStore) -> str:
    return f"`ens submit {store.name} --blend NAME` chooses again"


def _keep(
    store: RunStore, choice: SubmissionChoice, spec: SubmissionSpec, progress: Progress
) -> None:
    """See that the blend that was chosen is what `submission.csv` holds."""
    if not is_as_recorded(store):
        options = choice.options or spec
        by_hand = choice.by_hand
        submit_blend(store, choice.blend, options, by_hand=by_hand, progress=progress)


def gain_over_blend(store: RunStore, name: str, over: str, metric: str) -> Gain | None:
    """By how much a blend is better than another, cross-fitted.

    They are compared on the train rows that both predict. None when they cannot be compared: of
    other targets or classes, or without a row in common.
    """
    ours, theirs = store.blend(name), store.blend(over)
    classes = ours.record.classes
    is_of_the_same = theirs.record.target == ours.record.target
    if not is_of_the_same or set(theirs.record.classes) != set(classes):
        return None
    columns = [theirs.record.classes.index(label) for label in classes]
    probs, baseline = np.asarray(ours.oof), np.asarray(theirs.oof)[:, columns]
    return gain_on_shared_rows(store, ours.record, metric, probs, over, baseline)
