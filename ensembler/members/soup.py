"""Soups: means of other members' weights, chosen without the rows they are scored on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ensembler.errors import StoreError
from ensembler.members.plan import MemberPlan
from ensembler.metrics import score
from ensembler.predictions.finished_folds import weights_path
from ensembler.predictions.merging import merge_views
from ensembler.targets.label_sets import is_known
from ensembler.training.spec import SoupSpec

if TYPE_CHECKING:
    from ensembler.networks.build import Normalised
    from ensembler.training.trained import TrainedFold


@dataclass(frozen=True)
class SoupBuilder:
    """Builds one soup, fold by fold; the loss of a set of ingredients in a fold is computed once.

    A greedy soup of fold k is chosen on the out-of-fold rows of the other folds alone, so that the
    rows of fold k, which its score is made of, have no say.
    """

    plan: MemberPlan
    spec: SoupSpec
    device: str
    losses: dict[tuple[tuple[str, ...], int], float] = field(default_factory=dict)

    def build(self, fold: int) -> TrainedFold:
        """The soup of a fold, ready to be kept as its weights."""
        from ensembler.training.trained import TrainedFold

        began = time.perf_counter()
        names = (
            self._greedy(fold)
            if self.spec.take == "greedy"
            else [p.member.name for p in self.plan.ingredients]
        )
        soup = self._average(names, fold)
        return TrainedFold(
            {"soup": soup}, (), 0, time.perf_counter() - began, made_of=tuple(names)
        )

    def _greedy(self, fold: int) -> list[str]:
        others = [k for k in range(self.plan.rows.n_folds) if k != fold]

        def loss(names: Sequence[str]) -> float:
            return sum(self._loss(names, k) for k in others)

        order = sorted(
            (loss([p.member.name]), p.member.name) for p in self.plan.ingredients
        )
        best, chosen = order[0][0], [order[0][1]]
        for _, name in order[1:]:
            new = loss([*chosen, name])
            if new < best:
                best, chosen = new, [*chosen, name]
        return chosen

    def _loss(self, names: Sequence[str], fold: int) -> float:
        """The summed log loss of a soup on the rows that its fold is validated on."""
        from ensembler.inference.predict import predict_logits
        from ensembler.inference.predictor import BATCH
        from ensembler.inference.views import expand_views

        key = (tuple(sorted(names)), fold)
        if key not in self.losses:
            plan = self.plan
            rows = plan.rows.rows_of_fold(fold, validation=True)
            logits = predict_logits(
                [self._average(key[0], fold)],
                plan.pixels,
                rows,
                expand_views(["identity"]),
                classes=len(plan.output.classes),
                device=self.device,
                batch_size=min(BATCH, plan.member.base.batch_size),
                amp=plan.member.base.amp,
            )[0, 0]
            total = 0.0
            for target, part in plan.output.task_slices.items():
                labels = plan.workspace.image_labels(target)[rows]
                known = is_known(labels)
                if known.any():
                    probs = merge_views(
                        logits[None, known][..., part], of=plan.output.kind(target)
                    )
                    total += score("log_loss", probs, labels[known]) * int(known.sum())
            self.losses[key] = total
        return self.losses[key]

    def _average(self, names: Sequence[str], fold: int) -> Normalised:
        from ensembler.networks.devices import pick_device
        from ensembler.training.averages import renew_batch_norms
        from ensembler.training.soup import average_weights

        found = {p.member.name: p for p in self.plan.ingredients}
        # on the processor, which has room for all
        networks = [self._load(found[name], fold) for name in names]
        device = pick_device(self.device)
        if len(networks) == 1:
            return networks[0].to(device)
        soup = average_weights(networks).to(device)
        rows = self.plan.rows.rows_of_fold(fold, validation=False)
        renew_batch_norms(soup, self.plan.pixels, rows, self.plan.member.base.batch_size)
        return soup.eval()

    def _load(self, plan: MemberPlan, fold: int) -> Normalised:
        from ensembler.networks.checkpoint import check_checkpoint, load_checkpoint

        path = weights_path(plan.on_disk.folder, fold)
        try:
            check_checkpoint(path)
        except StoreError as error:
            raise StoreError(
                f"{error}; restore it from a copy, or remove {plan.on_disk.folder} to have "
                f"{plan.member.name!r} trained again"
            ) from error
        return load_checkpoint(path, "cpu", plan.member.base)
