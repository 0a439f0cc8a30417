"""A student: a member whose networks learn from a blend of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ensembler.blends.teacher import Taught
from ensembler.files import fingerprint
from ensembler.members.plan import MemberPlan
from ensembler.members.rows import MemberRows
from ensembler.training.fold_data import FoldData

if TYPE_CHECKING:
    from ensembler.data.pixels import Pixels
    from ensembler.inference.views import View


@dataclass(frozen=True)
class Lessons:
    """What a student learns from.

    `taught` has for each fold, and for each of `views` (None: images as they are), what a teacher
    says that was fitted without the fold. `test_rows` are positions among the test rows that are
    learned from, `new` further images. `temperature` and `hard` are those of the loss; `described`
    is all that decides the lessons, for the member's record. With `own_fold` the teacher of a fold
    are that fold's networks: train rows have their labels alone, and scores out of fold are honest.
    """

    taught: Mapping[tuple[int, str | None], Taught]
    views: tuple[View, ...]
    test_rows: NDArray[np.int64]
    new: Pixels | None
    temperature: float
    hard: float
    described: Mapping[str, Any]
    own_fold: bool = False


@dataclass(frozen=True)
class StudentPlan(MemberPlan):
    """A student's plan: like any member's, and what it learns from."""

    lessons: Lessons

    @cached_property
    def rows(self) -> StudentRows:
        """What it is trained on."""
        return StudentRows(self.output, self.lessons)

    @cached_property
    def options(self) -> dict[str, Any]:
        """Everything that decides what the trained network is, as plain values."""
        plan = MemberPlan(self.workspace, self.member)
        return {**plan.options, "teacher": dict(self.lessons.described)}

    @cached_property
    def fingerprint(self) -> str:
        """A digest of options, classes in order and samples, the teacher's among them."""
        return fingerprint({**self._options, "classes": self.output.classes})


@dataclass(frozen=True)
class StudentRows(MemberRows):
    """The rows of a student: those of its fold, and all that only its teacher has an answer to."""

    lessons: Lessons

    def fold_data(self, fold: int, pixels: Pixels) -> FoldData:
        """What a fold is trained on: positions among all images under every view.

        The images of the run as they are come first, so that validation rows keep their places.
        """
        from ensembler.data.joined_pixels import JoinedPixels, ViewedPixels
        from ensembler.training.distillation import SoftTargets

        lessons, plain = self.lessons, super().fold_data(fold, pixels)
        joined = pixels if lessons.new is None else JoinedPixels((pixels, lessons.new))
        n_images, n_all = pixels.shape[0], joined.shape[0]
        views = lessons.views
        blocks = len(views) + 1
        labels = self._labels(plain.targets, n_all)
        soft = np.zeros((blocks * n_all, plain.classes), np.float32)
        learned: list[NDArray[np.int64]] = []
        numbered: list[tuple[int, str | None]] = [(0, None)]
        if views:
            numbered = [(block, view.name) for block, view in enumerate(views, start=1)]
        for block, name in numbered:
            taught = lessons.taught[fold, name]
            rows, probs = self._lessons_of(taught, plain.train_rows, n_images)
            soft[block * n_all + rows] = probs
            learned.append(block * n_all + rows)
        return replace(
            plain,
            pixels=ViewedPixels(joined, views) if views else joined,
            targets=np.concatenate([labels] * blocks),
            train_rows=np.concatenate(learned),
            teacher=SoftTargets(soft, lessons.temperature, lessons.hard),
        )

    def _labels(self, targets: NDArray[np.int64], n_all: int) -> NDArray[np.int64]:
        """The labels of the run's images, and -1 for the others."""
        out = np.full((n_all, *targets.shape[1:]), -1, np.int64)
        out[: len(targets)] = targets
        return out

    def _lessons_of(
        self, taught: Taught, train_rows: NDArray[np.int64], n_images: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Positions among all images, and what the teacher says of them."""
        train_images, test_images = self.output.workspace.image_rows
        is_learned = np.isin(train_images, train_rows)
        if not self.lessons.own_fold:
            is_learned &= np.isfinite(taught.train).all(axis=1)
        n_new = len(taught.new)
        rows = [
            train_images[is_learned],
            test_images[self.lessons.test_rows],
            np.arange(n_images, n_images + n_new, dtype=np.int64),
        ]
        probs = [
            taught.train[is_learned],
            taught.test[self.lessons.test_rows]
            if len(self.lessons.test_rows)
            else taught.new[:0],
            taught.new,
        ]
        return np.concatenate(rows), np.concatenate(probs)
