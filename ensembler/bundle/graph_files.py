"""The files that hold a graph, and what computes them: torch, ONNX Runtime, OpenVINO.

Each is written aside, and what was written is computed and judged before it takes its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ensembler.bundle.graph_images import Batch
from ensembler.bundle.graph_module import EnsembleGraph, output_names, sample_of
from ensembler.data.size import sides
from ensembler.errors import EnsemblerError, MissingExtraError, RequestError, nearest
from ensembler.files import claim, write_aside

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
# What each format needs beside the extra `train`, by the extra that brings it.
_NEEDS: dict[str, dict[str, tuple[str, ...]]] = {
    "onnx": {"onnx": ("onnx", "onnxruntime", "onnxscript")},
    "openvino": {"onnx": ("onnx", "onnxscript"), "openvino": ("openvino",)},
    "torch": {},
}
DESCRIPTION = "ensembler"  # the key of the graph's description in each kind of file
MOST_IN_ONE_FILE = (
    2_000_000_000  # bytes of a protocol buffer, less what surrounds the weights
)
SMALL = 1024  # bytes; tensors up to this stay in the model's own file

# By output, probabilities float32 `[n, classes]` of a batch.
Run = Callable[[Batch], list[NDArray[np.float32]]]
Check = Callable[[Run], None]


def check_format(name: str) -> None:
    """Raise RequestError for an unknown format, MissingExtraError for one not installed."""
    if name not in SUFFIXES:
        raise RequestError(f"--format {name!r}; {nearest(name, SUFFIXES)}")
    for extra, packages in _NEEDS[name].items():
        if any(find_spec(package) is None for package in packages):
            raise MissingExtraError(f"--format {name}", extra)


def trace(graph: EnsembleGraph) -> torch.export.ExportedProgram:
    """The graph as a program for batches of any size.

    EnsemblerError names a network that cannot be followed.
    """
    try:
        return _traced(graph, sample_of(graph.inputs))
    except EnsemblerError:
        raise
    except Exception as error:  # a network may do anything in its forward
        raise EnsemblerError(_culprit(graph, error)) from error


def _traced(
    module: torch.nn.Module, samples: Sequence[torch.Tensor]
) -> torch.export.ExportedProgram:
    images = torch.export.Dim("n", min=1)
    with _quiet(), torch.no_grad():
        return torch.export.export(
            module,
            tuple(samples),
            dynamic_shapes=(tuple({0: images} for _ in samples),),
        )


def _culprit(graph: EnsembleGraph, error: Exception) -> str:
    """Which network cannot be followed, and why, in one line."""
    for number, member in enumerate(graph.ensemble.networks):
        network = graph.networks_of(number)[0]
        shape = (2, member.input.channels, *sides(member.input.size))
        try:
            _traced(_Alone(network), (torch.zeros(shape),))
        except Exception as of_network:
            return (
                f"member {member.name!r}: torch.export cannot follow its network "
                f"({member.backbone}): {_first_line(of_network)}"
            )
    return f"torch.export cannot follow the graph: {_first_line(error)}"


class _Alone(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(images[0])
        return logits


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what exporters print and warn of about their own parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


# --- torch


def write_torch(
    program: torch.export.ExportedProgram,
    path: Path,
    description: Mapping[str, Any],
    check: Check,
) -> list[Path]:
    """Write a program of torch.export; the files that were written."""
    extra = {f"{DESCRIPTION}.json": json.dumps(description)}
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer, extra_files=extra)
    with write_aside(path, size=buffer.tell()) as file:
        file.write(buffer.getbuffer())
        file.flush()
        with _quiet(), Path(file.name).open("rb") as written:
            again = torch.export.load(io.BytesIO(written.read())).module()
        names = [given["name"] for given in description["inputs"]]
        check(_run_torch(again, names))
    return [path]


def _run_torch(module: torch.nn.Module, names: Sequence[str]) -> Run:
    def run(batch: Batch) -> list[NDArray[np.float32]]:
        images = [torch.from_numpy(np.ascontiguousarray(batch[name])) for name in names]
        with torch.inference_mode():
            return [probs.numpy() for probs in module(*images)]

    return run


# --- ONNX


def onnx_model(program: torch.export.ExportedProgram, graph: EnsembleGraph) -> Any:
    """The program as a model of ONNX (`onnx.ModelProto`)."""
    with _quiet():
        found = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            input_names=[given.name for given in graph.inputs],
            output_names=output_names(graph.ensemble),
        )
    assert found is not None
    model = found.model_proto
    for given in model.graph.input:
        given.type.tensor_type.shape.dim[0].dim_param = "n"
    for output in model.graph.output[: len(graph.ensemble.record.answers)]:
        output.type.tensor_type.shape.dim[0].dim_param = "n"
    return model


def write_onnx(
    model: Any, path: Path, description: Mapping[str, Any], check: Check
) -> list[Path]:
    """Write a model of ONNX, its weights in a file beside it where they are too many for one.

    That file is called after its content, so that the model never meets the weights of another.
    """
    if _weighs(model) <= MOST_IN_ONE_FILE:
        _write_onnx(model, path, description, check)
        return [path]
    with _alone(path):
        before = set(path.parent.glob(f"{path.name}.*.data"))
        beside = _write_weights(model, path)
        told = {**description, "weights": beside.name}
        try:
            _write_onnx(model, path, told, check)
        except BaseException:
            if beside not in before:
                beside.unlink(missing_ok=True)
            raise
        for left in before - {beside}:
            left.unlink(missing_ok=True)
    return [path, beside]


def _weighs(model: Any) -> int:
    """Bytes of a model's weights; it may be too large to be asked for its own."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer)


def _alone(path: Path) -> contextlib.AbstractContextManager[bool]:
    """Nobody else writes the two files of a graph while the block runs."""
    return claim(path.with_name(f".{path.name}.lock"), wait=True)


def _write_onnx(
    model: Any, path: Path, description: Mapping[str, Any], check: Check
) -> None:
    entry = model.metadata_props.add()
    entry.key, entry.value = DESCRIPTION, json.dumps(description)
    content = model.SerializeToString()
    with write_aside(path, size=len(content)) as file:
        file.write(content)
        file.flush()
        check(run_onnx(Path(file.name)))


def _write_weights(model: Any, path: Path) -> Path:
    """Move the weights of a model into a file beside `path`."""
    large = [t for t in model.graph.initializer if len(t.raw_data) > SMALL]
    digest = hashlib.sha256()
    for tensor in large:
        digest.update(tensor.raw_data)
    beside = path.with_name(f"{path.name}.{digest.hexdigest()[:16]}.data")
    with write_aside(beside, size=sum(len(t.raw_data) for t in large)) as file:
        for tensor in large:
            place = {"location": beside.name, "offset": file.tell()}
            place["length"] = len(tensor.raw_data)
            file.write(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = tensor.EXTERNAL
            for key, value in place.items():
                entry = tensor.external_data.add()
                entry.key, entry.value = key, str(value)
    return beside


def run_onnx(path: Path) -> Run:
    """What computes a file of ONNX, with ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])

    def run(batch: Batch) -> list[NDArray[np.float32]]:
        return [np.asarray(out) for out in session.run(None, dict(batch))]

    return run


# --- OpenVINO


def openvino_model(model: Any) -> Any:
    """A model of ONNX as one of OpenVINO (`openvino.Model`)."""
    openvino = openvino_package()
    if _weighs(model) <= MOST_IN_ONE_FILE:
        return openvino.convert_model(io.BytesIO(model.SerializeToString()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        _write_weights(model, path)
        path.write_bytes(model.SerializeToString())
        return openvino.convert_model(path)


def openvino_package() -> Any:
    """OpenVINO, without what it reports to its makers."""
    # Its converter reports every use to its makers where it finds this package; nothing is sent
    # from here.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    import openvino

    return openvino


def write_openvino(
    model: Any, path: Path, description: Mapping[str, Any], check: Check
) -> list[Path]:
    """Write a model of OpenVINO: what it computes, and its weights in a `.bin` beside it."""
    weights = path.with_suffix(".bin")
    model.set_rt_info(json.dumps(description), DESCRIPTION)
    names = [given["name"] for given in description["inputs"]]
    # OpenVINO writes files of its own names alone.
    with tempfile.TemporaryDirectory() as folder:
        made = [Path(folder, "model.xml"), Path(folder, "model.bin")]
        _serialize(model, *made)
        sizes = [one.stat().st_size for one in made]
        with (
            _alone(path),
            write_aside(path, size=sizes[0]) as file,
            write_aside(weights, size=sizes[1]) as beside,
        ):
            for one, opened in zip(made, (file, beside), strict=True):
                with one.open("rb") as content:
                    shutil.copyfileobj(content, opened)
                opened.flush()
            check(run_openvino(Path(file.name), Path(beside.name), names))
            # The weights come first, and never beside the description of others.
            path.unlink(missing_ok=True)
    return [path, weights]


def _serialize(model: Any, path: Path, weights: Path) -> None:
    try:
        openvino_package().serialize(model, str(path), str(weights))
    except RuntimeError as error:
        raise EnsemblerError(
            f"OpenVINO cannot write to {path.parent} ({_first_line(error)}); TMPDIR names another "
            "folder"
        ) from error


def run_openvino(path: Path, weights: Path, names: Sequence[str]) -> Run:
    """What computes files of OpenVINO on the CPU, in float32 where they do not say otherwise."""
    core = openvino_package().Core()
    model = core.read_model(path.read_bytes(), weights.read_bytes())
    return compiled(model, names)


def compiled(model: Any, names: Sequence[str], threads: int | None = None) -> Run:
    """What computes a model of OpenVINO on the CPU, with as many threads as torch by default."""
    hints = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
    }
    ready = openvino_package().Core().compile_model(model, "CPU", hints)

    def run(batch: Batch) -> list[NDArray[np.float32]]:
        found = ready({name: np.ascontiguousarray(batch[name]) for name in names})
        return [np.array(found[output]) for output in ready.outputs]

    return run
