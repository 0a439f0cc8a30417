"""The whole ensemble of a run as one graph: eager torch, ONNX Runtime, OpenVINO, OpenVINO in int8.

Processor milliseconds of an image on one thread, in batches of 1 and of 16 real images: the engines
take turns, medians of the rounds, and ratios to eager torch. Int8 (where nncf is installed) is told
with its cost in log loss. One export serves all.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from ensembler.bundle.graph import GraphCheck, describe
from ensembler.bundle.graph_files import (
    compiled,
    onnx_model,
    openvino_model,
    trace,
    write_onnx,
    write_openvino,
)
from ensembler.bundle.graph_images import images_of_run, judged_images_of_run, open_images
from ensembler.bundle.graph_int8 import check_int8, quantised
from ensembler.bundle.graph_module import OpenGraph, check_exportable
from ensembler.bundle.open import open_ensemble
from ensembler.errors import MissingExtraError
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET


def eager(graph, names):
    def run(batch):
        images = [torch.from_numpy(np.ascontiguousarray(batch[name])) for name in names]
        with torch.inference_mode():
            return graph.answers(graph.logits(graph.seen(images)))

    return run


def onnx_runtime(path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return lambda batch: session.run(["probabilities"], dict(batch))


def medians(runs, batch, n, rounds):
    taken = {name: [] for name in runs}
    for run in runs.values():
        run(batch)
    for _ in range(rounds):
        for name, run in runs.items():
            began = time.process_time()
            run(batch)
            taken[name].append(1000 * (time.process_time() - began) / n)
    return {name: statistics.median(of_run) for name, of_run in taken.items()}


def size_of(files):
    return sum(path.stat().st_size for path in files) / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    store = RunStore.open(args.run, args.artifacts)
    ensemble = open_ensemble(args.run, artifacts=args.artifacts)
    check_exportable(ensemble)
    workspace = open_images(store, QUIET)
    images = images_of_run(workspace, ensemble)
    graph = OpenGraph(ensemble)
    names = [given.name for given in graph.inputs]
    check, about = GraphCheck(graph, images), describe(ensemble, graph)
    began = time.process_time()
    model = onnx_model(trace(graph), graph)
    told = {
        "networks": len(check.entries),
        "export_cpu_seconds": time.process_time() - began,
    }
    runs, size = {"eager": eager(graph, names)}, {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        in_openvino = openvino_model(model)
        size["onnx"] = size_of(write_onnx(model, path, about, first_only(check, ensemble)))
        told["onnx_max_difference"] = check.largest
        runs["onnx"] = onnx_runtime(path)
        try:
            check_int8("openvino")
            in_int8, cost = quantised(
                in_openvino, graph, judged_images_of_run(workspace, ensemble), np.inf
            )
        except MissingExtraError:
            in_int8, cost = None, None
        plain = in_openvino.clone()
        for result in plain.get_results()[len(ensemble.record.answers) :]:
            plain.remove_result(result)
        models = {"openvino": plain, "int8": in_int8}
        for name, one in models.items():
            if one is None:
                continue
            files = write_openvino(one, Path(folder, f"{name}.xml"), about, check.measure)
            size[name] = size_of(files)
            told[f"{name}_max_difference"] = check.largest
            runs[name] = compiled(one, names, threads=1)
        told["megabytes"] = size
        for n in (1, 16):
            found = medians(runs, images.batch(0, n), n, args.rounds)
            told[f"cpu_ms_batch_{n}"] = found
            told[f"times_faster_batch_{n}"] = {
                k: found["eager"] / v for k, v in found.items()
            }
    if cost is not None:
        told["int8"] = cost.to_json()
    print(json.dumps(told, indent=1))


def first_only(check, ensemble):
    """The check of the answers alone: an open graph gives more."""
    n = len(ensemble.record.answers)
    return lambda run: check(lambda batch: run(batch)[:n])


if __name__ == "__main__":
    main()
