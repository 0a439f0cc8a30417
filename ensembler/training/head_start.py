"""`init_head: probe`: a network's head begins as a logistic regression on its own features.

Linear probing, then fine-tuning (Kumar et al., 2022): the first gradients are those of a head that
already knows the classes, so that they do not spoil pretrained features.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ensembler.errors import RequestError
from ensembler.estimators.linear import Layers
from ensembler.estimators.problem import Problem
from ensembler.estimators.target_head import fit_classes, new_head
from ensembler.networks.build import Normalised
from ensembler.targets.kinds import MULTI_LABEL
from ensembler.training.fold_data import FoldData

STRENGTH = 1e-2  # C of the regression: inside a fold nothing is left out to choose it by


def start_head(
    network: Normalised, data: FoldData, batch_size: int, seed: int, device: torch.device
) -> None:
    """Set the head of a network, on its device, to what a probe of the train rows gives.

    Classes without train rows keep the head that they have. RequestError for a network whose head
    is not one linear layer.
    """
    head = linear_head(network)
    x = features_before(head, network, data, batch_size, device)
    labels = data.targets[data.train_rows]
    labels = labels if labels.ndim > 1 else labels[:, None]
    with torch.no_grad():
        first_column, first_logit = 0, 0
        tasks = zip(data.task_kinds, data.sizes, data.columns, strict=True)
        for kind, size, n_columns in tasks:
            of_task = labels[:, first_column : first_column + n_columns]
            is_set = kind is MULTI_LABEL
            found = (
                _of_sets(x, of_task, seed)
                if is_set
                else _of_classes(x, of_task, size, seed)
            )
            for position, (weight, bias) in found.items():
                head.weight[first_logit + position] = torch.from_numpy(weight).to(device)
                head.bias[first_logit + position] = float(bias)
            first_column, first_logit = first_column + n_columns, first_logit + size


def linear_head(network: Normalised) -> nn.Linear:
    """The linear layer that gives a network's logits."""
    inner = network.network
    classifier: Any = getattr(inner, "get_classifier", None)
    found = None if classifier is None else classifier()
    if not isinstance(found, nn.Linear) or found.bias is None:
        raise RequestError(
            f"init_head: probe sets a head that is one linear layer, and {type(inner).__name__} "
            "has none that get_classifier() gives; leave init_head out"
        )
    return found


def features_before(
    head: nn.Linear,
    network: Normalised,
    data: FoldData,
    batch_size: int,
    device: torch.device,
) -> NDArray[np.float32]:
    """What a network gives its head for the train rows `[rows, features]`, without augmentation."""
    seen: list[NDArray[np.float32]] = []

    def keep(_module: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.append(given[0].detach().float().cpu().numpy())

    was_training = network.training
    hook = head.register_forward_pre_hook(keep)
    try:
        network.eval()
        with torch.inference_mode():
            for at in range(0, len(data.train_rows), batch_size):
                pixels = data.pixels[data.train_rows[at : at + batch_size]]
                images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2)
                network(images.to(device))
    finally:
        hook.remove()
        network.train(was_training)
    x = np.concatenate(seen)
    if x.ndim != 2 or len(x) != len(data.train_rows) or not np.isfinite(x).all():
        raise RequestError(
            "init_head: probe needs finite features of each image; leave init_head out"
        )
    return x


Row = tuple[NDArray[np.float32], float]  # the weights and the bias of a logit


def _of_classes(
    x: NDArray[np.float32], labels: NDArray[np.int64], n_classes: int, seed: int
) -> dict[int, Row]:
    """The head's rows of the classes that have train rows."""
    layers, present = _fitted(x, labels[:, 0], n_classes, seed)
    if layers is None:
        return {}
    return {
        int(label): (layers.matrices[0][:, n].copy(), float(layers.biases[0][n]))
        for n, label in enumerate(present)
    }


def _of_sets(
    x: NDArray[np.float32], labels: NDArray[np.int64], seed: int
) -> dict[int, Row]:
    """The head's rows of the labels that some train rows have and others have not."""
    rows: dict[int, Row] = {}
    for position in range(labels.shape[1]):
        layers, _ = _fitted(x, labels[:, position], 2, seed)
        if layers is None:
            continue
        (matrix,), (bias,) = layers.matrices, layers.biases
        rows[position] = (matrix[:, 1] - matrix[:, 0], float(bias[1] - bias[0]))
    return rows


def _fitted(
    x: NDArray[np.float32], y: NDArray[np.int64], n_classes: int, seed: int
) -> tuple[Layers | None, NDArray[np.int64]]:
    """A regression on the rows whose label is known, and which classes they have."""
    if not (y >= 0).any():
        return None, np.empty(0, np.int64)
    problem = Problem(x, y, n_classes, np.ones(len(y)), None, seed)
    found = fit_classes(new_head("logistic", {"C": STRENGTH}), problem)
    layers = replace(found, n_classes=len(found.present)).layers
    return layers, found.present
