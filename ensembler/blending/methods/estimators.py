"""A classifier in the scikit-learn style that stacks the members.

It is made by name, and kept by skops (never as a pickle).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from ensembler.blending.state import State
from ensembler.errors import MissingExtraError, NotKeptError, RequestError
from ensembler.own_code import is_own, load_own

GRADIENT_BOOSTING = "gradient_boosting"
# Arrays of numbers that skops does not list by itself (the first one it trusts in a single tree).
TREES = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)


def new_estimator(given: Any, seed: int) -> Any:
    """A fresh classifier: "gradient_boosting", `module:Class`, or a copy of an instance."""
    from sklearn.base import clone

    if given == GRADIENT_BOOSTING:
        from sklearn.ensemble import HistGradientBoostingClassifier

        return HistGradientBoostingClassifier(
            max_iter=100, learning_rate=0.05, max_leaf_nodes=15, random_state=seed
        )
    if isinstance(given, str):
        factory = load_own(given, "estimator")
        takes_seed = "random_state" in inspect.signature(factory).parameters
        given = factory(random_state=seed) if takes_seed else factory()
    if not (hasattr(given, "fit") and hasattr(given, "predict_proba")):
        raise RequestError(
            f"estimator {given!r} has no fit and predict_proba; expected a scikit-learn classifier"
        )
    return clone(given)


def estimator_state(model: Any, named: Any) -> State:
    """The fitted classifier as bytes of skops; NotKeptError where skops is missing or cannot.

    `named` is the option it was made by: only types that skops trusts, or of the module that it
    names, are kept.
    """
    io = _skops()
    if io is None:
        raise NotKeptError(
            "its estimator is kept by skops, which is not installed (extra 'skops')"
        )
    try:
        content = io.dumps(model)
    except (
        Exception
    ) as error:  # skops raises whatever a type it does not know makes it raise
        raise NotKeptError(f"skops cannot write its estimator ({error})") from error
    strange = _strange(io.get_untrusted_types(data=content), named)
    if strange:
        raise NotKeptError(
            f"its estimator has a part that skops does not trust: {strange[0]}"
        )
    return State({"skops": np.frombuffer(content, np.uint8)})


def restored_estimator(state: State, named: Any) -> Any:
    """The classifier of `estimator_state`.

    Nothing is loaded but what skops trusts and `named` names.
    """
    io = _skops()
    if io is None:
        raise MissingExtraError("a blend with an estimator", "skops")
    content = state.arrays["skops"].tobytes()
    untrusted = io.get_untrusted_types(data=content)
    strange = _strange(untrusted, named)
    if strange:
        raise RequestError(
            f"the kept estimator has {strange[0]}, which is not run; blend again"
        )
    return io.loads(content, trusted=untrusted)


def _strange(untrusted: Sequence[str], named: Any) -> list[str]:
    """The types that are neither trees nor of the user's module, which recipe or command name."""
    module = named.partition(":")[0] if is_own(named) else None
    return [
        name
        for name in untrusted
        if name not in TREES and name.rpartition(".")[0] != module
    ]


def _skops() -> ModuleType | None:
    try:
        import skops.io
    except ImportError:
        return None
    return skops.io
