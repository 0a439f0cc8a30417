"""A graph in whole numbers of 8 bits: OpenVINO's, quantised by nncf on images of the run.

Only the networks are quantised. Views before them and the blend after them stay in float32, for a
probability has no room to be rounded to one of 256 values.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.bundle.graph_files import Run, compiled, openvino_package
from ensembler.bundle.graph_images import Batch, ImageSet, JudgedImages
from ensembler.bundle.graph_module import EnsembleGraph
from ensembler.errors import EnsemblerError, MissingExtraError, RequestError
from ensembler.logits import FLOOR, log_softmax

MOST_LOSS = 0.005  # nats of log loss that int8 may cost unless more is allowed
_AT_ONCE = 16
_ROUNDS = 5
_LOG_T = (-3.0, 3.0)


@dataclass(frozen=True)
class Int8Cost:
    """What whole numbers cost and gain.

    Log losses are those of `rows` images, `judged_by` what stood for the truth. The temperatures
    bring int8 as near to float32 as they can on `tempered_on`, other images, without labels.
    `cpu_ms` are milliseconds of processor time of one image on one thread: float32, then int8, in
    batches of 1 and of 16.
    """

    log_loss_float32: float
    log_loss_int8: float
    cost: float
    rows: int
    judged_by: str
    calibrated_on: str
    tempered_on: str
    temperatures: tuple[float, ...]
    max_difference: float
    answers_changed: int
    cpu_ms: dict[str, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def check_int8(format: str) -> None:
    """Raise an error where a format cannot be quantised, or nncf is not there."""
    if format != "openvino":
        raise RequestError(f"--int8 is for --format openvino, not for {format}")
    if find_spec("nncf") is None:
        raise MissingExtraError("--int8", "int8")


def quantised(
    model: Any, graph: EnsembleGraph, images: JudgedImages, most_loss: float
) -> tuple[Any, Int8Cost]:
    """The model of `OpenGraph` in int8, calibrated anew, and what that costs and gains.

    EnsemblerError where it costs more than `most_loss` nats.
    """
    names = [given.name for given in graph.inputs]
    n_answers = len(graph.ensemble.record.answers)
    in_float = _answers_only(model.clone(), n_answers)
    in_int8 = _answers_only(_quantise(model, graph, images.calibration), n_answers)
    judge = _Judge(images, graph)
    runs = [compiled(one, names) for one in (in_float, in_int8)]
    temperatures = judge.temperatures(*(_probs(run, images.tempering) for run in runs))
    tempered = _with_temperatures(in_int8, temperatures, judge.several_labels)
    float_probs = _probs(runs[0], images.judged)
    answers = _probs(compiled(tempered, names), images.judged)
    before, after = judge.losses(float_probs, answers)
    cost = Int8Cost(
        log_loss_float32=before,
        log_loss_int8=after,
        cost=after - before,
        rows=len(images.judged),
        judged_by=images.judged_by,
        calibrated_on=images.calibration.what,
        tempered_on=images.tempering.what,
        temperatures=tuple(temperatures),
        max_difference=_gap(float_probs, answers),
        answers_changed=judge.changed(float_probs, answers),
        cpu_ms=_times(in_float, tempered, names, images.calibration),
    )
    check_cost(cost, most_loss)
    return tempered, cost


def check_cost(cost: Int8Cost, most_loss: float) -> None:
    """Raise EnsemblerError for a cost above `most_loss` nats, or one that is no number."""
    if not cost.cost <= most_loss:
        raise EnsemblerError(
            f"int8 costs {cost.cost:.4f} nats of log loss ({cost.log_loss_float32:.4f} in float32, "
            f"{cost.log_loss_int8:.4f} on {cost.rows} rows judged by {cost.judged_by}), more than "
            f"{most_loss:g}; nothing was written: --max-loss {cost.cost * 1.1:.2g} takes it, and "
            "more images to calibrate on may lower it"
        )


# --- quantising


def _quantise(model: Any, graph: EnsembleGraph, calibration: ImageSet) -> Any:
    openvino_package()  # before nncf imports it
    with contextlib.redirect_stdout(io.StringIO()):
        import nncf

        nncf.set_log_level(40)
        batches = [calibration.batch(i, i + 1) for i in range(len(calibration))]
        return nncf.quantize(
            model,
            nncf.Dataset(batches),
            subset_size=len(batches),
            ignored_scope=nncf.IgnoredScope(names=_outside(model, graph), validate=False),
        )


def _outside(model: Any, graph: EnsembleGraph) -> list[str]:
    """The names of all nodes before and after the networks."""
    n_answers = len(graph.ensemble.record.answers)
    n_seen = len(graph.ensemble.networks)
    inner = [result.input_value(0).get_node() for result in model.get_results()[n_answers:]]
    before = _reached(inner[:n_seen], _feeding)
    after = _reached(inner[n_seen:], _fed)
    return sorted(before | after)


def _feeding(node: Any) -> list[Any]:
    return [value.get_node() for value in node.input_values()]


def _fed(node: Any) -> list[Any]:
    return [
        found.get_node()
        for output in node.outputs()
        for found in output.get_target_inputs()
    ]


def _reached(starts: Iterable[Any], further: Callable[[Any], list[Any]]) -> set[str]:
    """The names of the nodes that are reached from some, these among them."""
    left, names = list(starts), set()
    while left:
        node = left.pop()
        if node.get_friendly_name() not in names:
            names.add(node.get_friendly_name())
            left += further(node)
    return names


def _answers_only(model: Any, n_answers: int) -> Any:
    for result in model.get_results()[n_answers:]:
        model.remove_result(result)
    model.validate_nodes_and_infer_types()
    return model


def _with_temperatures(
    model: Any, temperatures: Sequence[float], several_labels: Sequence[bool]
) -> Any:
    """The model with the logarithms of its probabilities divided by temperatures."""
    openvino = openvino_package()
    ops = openvino.opset13
    outputs = []
    rows = zip(model.get_results(), temperatures, several_labels, strict=True)
    for result, temperature, several in rows:
        names = result.input_value(0).get_names()
        result.input_value(0).set_names(set())
        probs = ops.clamp(result.input_value(0), FLOOR, 1.0)
        by = ops.constant(np.float32(temperature))
        scaled = ops.divide(ops.log(probs), by)
        if several:
            others = ops.clamp(ops.subtract(ops.constant(np.float32(1)), probs), FLOOR, 1.0)
            odds = ops.subtract(scaled, ops.divide(ops.log(others), by))
            found = ops.sigmoid(odds)
        else:
            found = ops.softmax(scaled, axis=-1)
        found.output(0).set_names(names)
        outputs.append(ops.result(found))
    return openvino.Model(outputs, model.get_parameters(), "ensemble")


# --- judging

Probs = list[NDArray[np.float64]]  # by answer `[rows, classes]`


def _probs(run: Run, images: ImageSet) -> Probs:
    starts = range(0, len(images), _AT_ONCE)
    batches = [run(images.batch(start, start + _AT_ONCE)) for start in starts]
    return [
        np.concatenate(of_answer).astype(np.float64)
        for of_answer in zip(*batches, strict=True)
    ]


def _gap(some: Probs, others: Probs) -> float:
    return max(float(np.abs(a - b).max()) for a, b in zip(some, others, strict=True))


class _Judge:
    """Compares answers by labels, or where there are none by what the graph says in float32."""

    def __init__(self, images: JudgedImages, graph: EnsembleGraph) -> None:
        self.images = images
        record = graph.ensemble.record
        self.kinds = [record.target_of(answer).kind for answer in record.answers]

    @property
    def several_labels(self) -> list[bool]:
        """By answer, whether a row has several labels."""
        return [kind.is_multi_label for kind in self.kinds]

    def temperatures(self, in_float: Probs, in_int8: Probs) -> list[float]:
        """The temperature of each answer that brings int8 nearest to float32."""
        return [
            fit_temperature(self._rows(nth, truth), self._rows(nth, probs))
            for nth, (truth, probs) in enumerate(zip(in_float, in_int8, strict=True))
        ]

    def losses(self, in_float: Probs, in_int8: Probs) -> tuple[float, float]:
        """Log losses of the first answer, of float32 and of int8."""
        given = self.images.truth
        truth = self._rows(0, in_float[0] if given is None else given)
        of_float, of_int8 = (self._rows(0, probs[0]) for probs in (in_float, in_int8))
        return cross_entropy(truth, of_float), cross_entropy(truth, of_int8)

    def changed(self, in_float: Probs, in_int8: Probs) -> int:
        """How many rows get another answer."""
        return int(self.kinds[0].decides_otherwise(in_float[0], in_int8[0]).sum())

    def _rows(self, nth: int, probs: NDArray[np.float64]) -> NDArray[np.float64]:
        """What is said of an answer as distributions `[rows, classes]`: a row for each label."""
        return _yes_or_no(probs) if self.several_labels[nth] else probs


def _yes_or_no(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([1 - probs, probs], axis=-1).reshape(-1, 2)


def cross_entropy(truth: NDArray[np.float64], probs: NDArray[np.float64]) -> float:
    """The mean over rows of -sum(truth log probs), in nats: log loss where `truth` is labels."""
    return float(-(truth * np.log(np.clip(probs, FLOOR, None))).sum(axis=1).mean())


def fit_temperature(truth: NDArray[np.float64], probs: NDArray[np.float64]) -> float:
    """The temperature with the smallest cross entropy `[rows, classes]`; never worse than 1."""
    from scipy.optimize import minimize_scalar

    def loss(log_t: float) -> float:
        return cross_entropy(truth, _tempered(probs, float(np.exp(log_t))))

    found = minimize_scalar(loss, bounds=_LOG_T, method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def _tempered(probs: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    return np.exp(log_softmax(np.log(np.clip(probs, FLOOR, None)) / temperature))


# --- time


def _times(
    in_float: Any, in_int8: Any, names: Sequence[str], images: ImageSet
) -> dict[str, tuple[float, float]]:
    """Processor milliseconds an image on one thread, by the size of the batch."""
    runs = [compiled(model, names, threads=1) for model in (in_float, in_int8)]
    times = {}
    for size in (1, _AT_ONCE):
        batch = images.batch(0, size)
        size = len(next(iter(batch.values())))
        times[f"batch {size}"] = _medians(runs, batch, size)
    return times


def _medians(runs: Sequence[Run], batch: Batch, size: int) -> tuple[float, float]:
    """One after the other in turn, so that whatever else the machine does meets both."""
    seconds: list[list[float]] = [[], []]
    for run in runs:
        run(batch)
    for _ in range(_ROUNDS):
        for run, taken in zip(runs, seconds, strict=True):
            began = time.process_time()
            run(batch)
            taken.append(1000 * (time.process_time() - began) / size)
    return statistics.median(seconds[0]), statistics.median(seconds[1])
