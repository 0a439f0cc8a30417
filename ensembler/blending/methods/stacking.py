"""Stacking (Wolpert, 1992): a multinomial model, or a classifier of the user's own.

The multinomial model is shrunk towards the log-linear pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from ensembler.blending.judging.cross_fitting import fitting_parts, splits
from ensembler.blending.methods.base import (
    Blender,
    check_strength,
    check_switch,
    check_whole,
)
from ensembler.blending.methods.estimators import (
    estimator_state,
    new_estimator,
    restored_estimator,
)
from ensembler.blending.methods.loglinear import LogLinearPool, log_features
from ensembler.blending.pool import Probs, Stack, Targets
from ensembler.blending.registry import check_stack
from ensembler.blending.state import State
from ensembler.logits import FLOOR, softmax
from ensembler.machine.threads import one_thread

SHRINKAGES = (10.0, 30.0, 100.0, 300.0, 1000.0)
# tried in turn while the best lies at that end
_WIDER = ((3.0, 1.0), (3000.0, 10000.0, 30000.0))
_SEARCH_ROWS = 6000  # enough to choose a shrinkage on; the fit itself takes all rows


class ShrunkStack(Blender):
    """A weight for every member, class it speaks of and class it speaks for.

    The weights start at the fitted log-linear pool, and `shrinkage` over the number of rows
    multiplies half their squared distance from it (features scaled to deviation one); towards
    infinity the stack is that pool. "auto" chooses it by cross-fitting over rows; `ridge` is that
    of the pool. With `probabilities` the probabilities stand as features beside their logarithms.

    `estimator` takes another classifier instead, fitted on the log-probabilities `[rows, members *
    classes]`: "gradient_boosting" (scikit-learn's HistGradientBoostingClassifier), `module:Class`,
    or an instance with `fit` and `predict_proba`.
    """

    takes_votes = True
    keeps = ("mean_", "scale_", "coefficients_")

    def __init__(
        self,
        shrinkage: float | str = "auto",
        ridge: float | str = "auto",
        probabilities: bool = False,
        estimator: Any = None,
        seed: int = 0,
        max_iterations: int = 200,
    ) -> None:
        self.shrinkage = shrinkage
        self.ridge = ridge
        self.probabilities = probabilities
        self.estimator = estimator
        self.seed = seed
        self.max_iterations = max_iterations

    def fit(self, stack: Stack, y: Targets) -> Self:
        """Fit the stack; RequestError for a shrinkage or estimator that is none."""
        shrinkage, ridge = (
            check_strength("shrinkage", self.shrinkage),
            check_strength("ridge", self.ridge),
        )
        check_switch("probabilities", self.probabilities)
        check_whole("seed", self.seed)
        check_whole("max_iterations", self.max_iterations, least=1)
        stack, y = self._enter(stack, y)
        if self.estimator is not None:
            model = new_estimator(self.estimator, self.seed)
            self.model_ = model.fit(self._features(stack), y)
            return self
        with one_thread():
            self.pool_ = LogLinearPool(
                "auto" if ridge is None else ridge, seed=self.seed
            ).fit(stack, y)
            self.converged_ = self.pool_.converged_
            self._fit_shrunk(stack, y, shrinkage)
        return self

    def strengths(self) -> dict[str, Any]:
        """The shrinkage and the ridge that were found."""
        if self.estimator is not None:
            return {}
        return {"shrinkage": self.shrinkage_, "ridge": self.pool_.ridge_}

    def learned(self) -> dict[str, Any]:
        """The shrinkage with the losses of those that were tried; nothing of another estimator."""
        if self.estimator is not None:
            return {}
        return {"shrinkage": self.shrinkage_, "shrinkage_scores": self.shrinkage_scores_}

    def state(self) -> State:
        """What predictions need; NotKeptError for an estimator that skops cannot write."""
        if self.estimator is None:
            return super().state()
        self._check_fitted()
        shape = State.of({"n_members_": self.n_members_, "n_classes_": self.n_classes_})
        return shape.with_part("estimator", estimator_state(self.model_, self.estimator))

    def restore(self, state: State) -> Self:
        """Make this the fitted stack whose `state()` it is; returns it."""
        if self.estimator is None:
            return super().restore(state)
        self.model_ = restored_estimator(state.part("estimator"), self.estimator)
        self.n_members_ = state.values["n_members_"]
        self.n_classes_ = state.values["n_classes_"]
        return self

    def _fit_shrunk(self, stack: Stack, y: Targets, shrinkage: float | None) -> None:
        features = self._features(stack)
        self.mean_ = features.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.scale_ = np.maximum(features.std(axis=0, dtype=np.float64), 1e-3).astype(
            np.float32
        )
        features -= self.mean_
        features /= self.scale_
        self.shrinkage_scores_: dict[float, float] = {}
        base = self._structured(self.pool_)
        self.shrinkage_ = (
            self._search(stack, features, y) if shrinkage is None else shrinkage
        )
        self.coefficients_ = self._solve(features, y, self.shrinkage_, base, base)

    def _structured(self, pool: LogLinearPool) -> NDArray[np.float64]:
        """A log-linear pool as coefficients of the standardised features.

        Returns `[features + 1, classes]`.
        """
        classes = self.n_classes_
        matrix = np.zeros((len(self.mean_), classes))
        for m, weight in enumerate(pool.weights_):
            matrix[m * classes : (m + 1) * classes] = weight * np.eye(classes)
        intercept = pool.bias_ + self.mean_ @ matrix
        return np.vstack([matrix * self.scale_[:, None], intercept])

    def _features(self, stack: Stack) -> NDArray[np.float32]:
        logs = log_features(stack).transpose(1, 0, 2).reshape(stack.shape[1], -1)
        if not self.probabilities:
            return np.ascontiguousarray(logs)
        probs = np.asarray(stack, np.float32).transpose(1, 0, 2).reshape(stack.shape[1], -1)
        return np.concatenate([logs, probs], axis=1)

    def _search(self, stack: Stack, features: NDArray[np.float32], y: Targets) -> float:
        """The shrinkage that is best on rows left out.

        These rows helped to fit neither the stack nor its pool.
        """
        # Over the number of rows it is a prior of fixed strength: a part of many rows chooses as
        # well.
        rows = np.arange(len(y))
        if len(y) > _SEARCH_ROWS:
            rows = np.sort(
                np.random.default_rng(self.seed).choice(len(y), _SEARCH_ROWS, replace=False)
            )
        part = fitting_parts(
            y[rows], np.zeros(len(rows), np.int64), seed=self.seed, parts=3
        )
        if len(np.unique(part)) < 2:
            return SHRINKAGES[-1]  # a single row leaves nothing to choose by
        tries = []
        for inside, outside in splits(part):
            fit, out = rows[inside], rows[outside]
            ridge = self.pool_.ridge_ * len(y) / len(fit)
            base = self._structured(
                LogLinearPool(ridge, seed=self.seed).fit(stack[:, fit], y[fit])
            )
            tries.append(_Try(base, base, features[fit], y[fit], features[out], y[out]))

        def loss(shrinkage: float) -> float:
            total = 0.0
            for one in tries:
                one.start = self._solve(
                    one.fit_x, one.fit_y, shrinkage, one.base, one.start, iterations=60
                )
                probs = softmax(
                    one.out_x @ one.start[:-1].astype(np.float32) + one.start[-1]
                )
                true_class = probs[np.arange(len(one.out_y)), one.out_y]
                total -= float(np.log(np.clip(true_class, FLOOR, None)).sum())
            return total / len(rows)

        found = {shrinkage: loss(shrinkage) for shrinkage in reversed(SHRINKAGES)}
        for wider in _WIDER:
            for shrinkage in wider:
                best = min(found, key=lambda s: found[s])
                if best != (min(found) if shrinkage < best else max(found)):
                    break
                found[shrinkage] = loss(shrinkage)
        self.shrinkage_scores_ = dict(sorted(found.items()))
        return min(found, key=lambda s: found[s])

    def _solve(
        self,
        features: NDArray[np.float32],
        y: Targets,
        shrinkage: float,
        base: NDArray[np.float64],
        start: NDArray[np.float64],
        iterations: int | None = None,
    ) -> NDArray[np.float64]:
        present = np.flatnonzero(np.bincount(y, minlength=base.shape[1]))
        if len(present) < base.shape[1]:
            # Nothing can be learned of a class without a row: it stays as the pool has it.
            whole, y = base.copy(), np.searchsorted(present, y)
            whole[:, present] = self._solve(
                features,
                y,
                shrinkage,
                base[:, present],
                start[:, present],
                iterations=iterations,
            )
            return whole
        n, rows = len(y), np.arange(len(y))

        def value(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            theta = flat.reshape(base.shape)
            z = features @ theta[:-1].astype(np.float32) + theta[-1].astype(np.float32)
            z -= z.max(axis=1, keepdims=True)
            true = z[rows, y].astype(np.float64)
            np.exp(z, out=z)
            total = z.sum(axis=1)
            loss = float((np.log(total, dtype=np.float64) - true).mean())
            z /= total[:, None]
            z[rows, y] -= 1
            away = theta - base
            away[-1] = 0  # biases are free
            strength = shrinkage / n
            gradient = (
                np.vstack([features.T @ z, z.sum(axis=0)]).astype(np.float64) / n
                + strength * away
            )
            return loss + strength * float((away**2).sum()) / 2, gradient.ravel()

        options = {"maxiter": iterations or self.max_iterations, "ftol": 1e-8, "gtol": 1e-5}
        found = minimize(value, start.ravel(), jac=True, method="L-BFGS-B", options=options)
        return np.asarray(found.x).reshape(base.shape)

    def predict_proba(self, stack: Stack) -> Probs:
        """Probabilities `[samples, classes]`."""
        features = self._features(check_stack(self._known(stack)))
        if self.estimator is not None:
            return _all_classes(self.model_, features, self.n_classes_)
        features -= self.mean_
        features /= self.scale_
        return softmax(
            features @ self.coefficients_[:-1].astype(np.float32) + self.coefficients_[-1]
        )


@dataclass
class _Try:
    """One part of the search: where it starts, and the rows that are fitted and left out."""

    base: NDArray[np.float64]
    start: NDArray[np.float64]
    fit_x: NDArray[np.float32]
    fit_y: Targets
    out_x: NDArray[np.float32]
    out_y: Targets


def _all_classes(
    model: Any, features: NDArray[np.float32], n_classes: int
) -> NDArray[np.float64]:
    """Probabilities over all classes: those that no fitted row had get none."""
    out = np.zeros((len(features), n_classes))
    out[:, np.asarray(model.classes_, np.int64)] = model.predict_proba(features)
    return out
