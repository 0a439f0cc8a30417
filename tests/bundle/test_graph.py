"""A whole ensemble as one graph: written, computed by other runtimes, compared."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ensembler.bundle import graph_files
from ensembler.bundle.graph import GraphCheck, describe, export_graph
from ensembler.bundle.graph_files import (
    check_format,
    onnx_model,
    run_onnx,
    trace,
    write_onnx,
)
from ensembler.bundle.graph_images import drawn_images
from ensembler.bundle.graph_module import EnsembleGraph, check_exportable
from ensembler.bundle.open import open_ensemble
from ensembler.data.images import fit_to_input
from ensembler.errors import EnsemblerError, MissingExtraError, RequestError, StoreError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(7)
CONSUMER = ROOT / "docs" / "predict_onnx.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory, finished_run):
    """The folder of a finished run beside its images; its backbone can be imported."""
    folder = tmp_path_factory.mktemp("graph") / "run"
    shutil.copytree(finished_run, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.chdir(folder)
        yield folder
    sys.modules.pop("tinynets", None)


@pytest.fixture(scope="module")
def ensemble(run):
    return open_ensemble(run / "artifacts" / "shapes")


@pytest.fixture(scope="module")
def graph(ensemble):
    return EnsembleGraph(ensemble)


@pytest.fixture(scope="module")
def model(graph):
    """The graph as a model of ONNX, exported once."""
    return onnx_model(trace(graph), graph)


@pytest.fixture(scope="module")
def written(run, ensemble, graph, model):
    """The model's file, and the check that it passed."""
    check = GraphCheck(graph, drawn_images(ensemble))
    path = run / "shapes.onnx"
    assert write_onnx(copy_of(model), path, describe(ensemble, graph), check) == [path]
    return path, check


def copy_of(model):
    copied = type(model)()
    copied.CopyFrom(model)
    return copied


def test_onnx_runtime_gives_what_the_ensemble_gives_in_batches_of_any_size(written):
    path, check = written
    assert 0 < check.largest < 1e-6
    assert [len(batch["images"]) for batch in check.batches] == [1, 3, 8]
    (probs,) = run_onnx(path)(check.batches[1])
    assert probs.dtype == np.float32
    assert probs.sum(axis=1) == pytest.approx(np.ones(3), abs=1e-6)


def test_a_process_without_torch_and_ensembler_predicts_files(written, run, ensemble):
    path, _ = written
    images = sorted((run / "shapes" / "images").glob("*"))[:6]
    code = "import runpy, sys\n"
    code += "for name in ('torch', 'ensembler', 'cv2'): sys.modules[name] = None\n"
    code += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    asked = [sys.executable, "-I", "-c", code, CONSUMER, path, *images]
    done = subprocess.run(asked, capture_output=True, text=True, check=True, cwd="/")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == [str(image) for image in images]
    store = open_store(run)
    kept = dict(zip(store.samples.test["id"], store.blend("soft").test, strict=True))
    classes = store.blend("soft").record.classes
    compared = 0
    for name, answer, confidence in rows:
        for sample, probs in kept.items():
            if Path(sample).name == Path(name).name:
                assert answer == classes[probs.argmax()]
                assert float(confidence) == pytest.approx(probs.max(), abs=0.01)
                compared += 1
    assert compared or not kept


def open_store(run):
    from ensembler.predictions.store import RunStore

    return RunStore.open(run / "artifacts" / "shapes")


def test_weights_beyond_what_one_file_holds_lie_beside_it(
    tmp_path, monkeypatch, model, ensemble, graph, written
):
    monkeypatch.setattr(graph_files, "MOST_IN_ONE_FILE", 1000)
    monkeypatch.setattr(graph_files, "SMALL", 100)
    path, check = tmp_path / "large.onnx", written[1]
    left = tmp_path / "large.onnx.0123.data"
    left.write_bytes(b"of an older model")
    files = write_onnx(copy_of(model), path, describe(ensemble, graph), check)
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert files[1].stat().st_size > 1000 > 0
    assert check.largest < 1e-6
    (probs,) = run_onnx(path)(check.batches[0])
    assert probs == pytest.approx(run_onnx(written[0])(check.batches[0])[0], abs=1e-7)


def test_openvino_takes_weights_that_lie_beside_a_model(monkeypatch, model, written):
    pytest.importorskip("openvino", reason="the extra openvino is not installed")
    monkeypatch.setattr(graph_files, "MOST_IN_ONE_FILE", 1000)
    monkeypatch.setattr(graph_files, "SMALL", 100)
    path, check = written
    made = graph_files.openvino_model(copy_of(model))
    (probs,) = graph_files.compiled(made, ["images"])(check.batches[1])
    assert probs == pytest.approx(run_onnx(path)(check.batches[1])[0], abs=1e-6)


def test_a_graph_that_gives_something_else_is_not_written(
    tmp_path, monkeypatch, model, ensemble, graph, written
):
    check = written[1]
    other = GraphCheck.__new__(GraphCheck)
    other.__dict__.update(check.__dict__)
    other.wanted = [[probs + 1e-4 for probs in of_batch] for of_batch in check.wanted]
    path = tmp_path / "wrong.onnx"
    with pytest.raises(StoreError, match=r"off by 0\.0001"):
        write_onnx(copy_of(model), path, describe(ensemble, graph), other)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(graph_files, "MOST_IN_ONE_FILE", 1000)
    with pytest.raises(StoreError, match=r"off by 0\.0001"):
        write_onnx(copy_of(model), path, describe(ensemble, graph), other)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_there(small_disk, model, ensemble, graph, written):
    from ensembler.errors import DiskFullError

    path = small_disk / "there.onnx"
    path.write_bytes(b"before")
    large = copy_of(model)
    large.doc_string = "x" * 2_000_000
    with pytest.raises(DiskFullError):
        write_onnx(large, path, describe(ensemble, graph), written[1])
    assert [p.name for p in small_disk.iterdir()] == ["there.onnx"]
    assert path.read_bytes() == b"before"


def test_torch_and_openvino_give_the_same_and_say_what_they_hold(run, ensemble, tmp_path):
    store = open_store(run)
    by_torch = export_graph(ensemble, "torch", tmp_path / "a.pt2", store=store)
    assert by_torch.max_difference <= 1e-6
    assert by_torch.max_difference_run <= 1e-3
    assert "test images of the run" in by_torch.checked_on
    assert by_torch.inputs == {"images": [16, 16, 3]}
    assert by_torch.bytes == by_torch.file.stat().st_size > 1000


def test_openvino_computes_the_model_of_onnx(tmp_path, model, ensemble, graph, written):
    openvino = pytest.importorskip("openvino", reason="the extra openvino is not installed")
    path, about = tmp_path / "b.xml", describe(ensemble, graph)
    path.write_text("before")
    made = graph_files.openvino_model(model)
    files = graph_files.write_openvino(made, path, about, written[1])
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert written[1].largest < 1e-6
    kept = openvino.Core().read_model(path).get_rt_info("ensembler")
    assert json.loads(kept.astype(str)) == json.loads(json.dumps(about))


def test_what_no_graph_holds_is_named(ensemble):
    (name, member), *_ = ensemble.members.items()

    def with_input(**changes):
        changed = member.model_copy(
            update={"input": member.input.model_copy(update=changes)}
        )
        members = {**ensemble.members, name: changed}
        return replace(
            ensemble, record=ensemble.record.model_copy(update={"members": members})
        )

    for step in ("grabcut", "rembg", "clahe", "mine:step"):
        with pytest.raises(
            RequestError, match=f"prepare step '{step}'.*center_crop, crop, grey"
        ):
            check_exportable(with_input(prepare=(step,)))
    check_exportable(with_input(prepare=("grey", {"center_crop": 0.5})))


def test_a_network_that_cannot_be_followed_is_named(graph, monkeypatch):
    def forward(images):
        if images.sum() > 0:
            return images
        return images * 2

    monkeypatch.setattr(graph.networks_of(0)[0].network, "forward", forward)
    with pytest.raises(
        EnsemblerError, match=r"member 'narrow': torch\.export cannot follow"
    ) as no:
        trace(graph)
    assert "\n" not in str(no.value)


def test_a_missing_package_is_one_line_with_its_extra(monkeypatch):
    monkeypatch.setattr(graph_files, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"ensembler-toolkit\[onnx\]"):
        check_format("onnx")
    check_format("torch")
    with pytest.raises(RequestError, match="did you mean 'onnx'"):
        check_format("onx")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("--format onnx --out model.bin", "ends in .onnx"),
        ("--format openvino --out .", "is a folder"),
        ("--format onnx --member narrow", "--method single --members narrow"),
        ("--format csv --images x", "are for graphs"),
        ("--format torch --max-loss 0.1", "add --int8"),
        ("--format onnx --int8", "--int8 is for --format openvino"),
        ("--format onnx --blend nosuch", "unknown blend"),
    ],
)
def test_wrong_requests_are_one_line(run, ens_here, asked, told):
    done = ens_here("export", run / "artifacts" / "shapes", *asked.split(), expect=2)
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_bundle_keeps_no_predictions(ens_here):
    assert "is a bundle" in ens_here("export", "x.ens", "--blend", "a", expect=2).stderr


def consumer():
    names = {}
    exec(compile(CONSUMER.read_text(), str(CONSUMER), "exec"), names)
    return names


@pytest.mark.parametrize("resize", ["stretch", "crop", "fit", "pad"])
def test_the_consumer_scales_within_one_of_255(resize):
    rng, fitted = np.random.default_rng(0), consumer()["fitted"]
    for sides in [(128, 96), (30, 47), (128, 128), (20, 200), (64, 64), (333, 517)]:
        image = rng.integers(0, 256, (*sides, 3), dtype=np.uint8)
        wanted = fit_to_input(image, 64, 3, resize).astype(int)
        assert np.abs(fitted(image, 64, resize) - wanted).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "steps", [(), ("grey",), ({"center_crop": 0.7},), ({"crop": [0, 0.1, 0.9, 1]},)]
)
def test_the_consumer_prepares_files_as_the_run_does(tmp_path, steps, channels):
    from ensembler.data.images import FileImages
    from ensembler.data.pixels import FilePixels
    from ensembler.data.spec import InputSpec

    rng = np.random.default_rng(1)
    blocks = np.kron(rng.integers(0, 256, (12, 10, 4)), np.ones((8, 8, 1))).astype(np.uint8)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(blocks[..., :3]).save(tmp_path / "turned.jpg", exif=turned)
    Image.fromarray(blocks).save(tmp_path / "clear.png")
    Image.fromarray(blocks[..., 0]).save(tmp_path / "grey.png")
    spec = InputSpec(size=32, channels=channels, prepare=steps)
    wanted = {
        "shape": [32, 32, channels],
        "resize": "stretch",
        "decode": "full",
        "prepare": steps,
    }
    for path in tmp_path.iterdir():
        ours = FilePixels(FileImages([path]), spec)[0].astype(int)
        assert np.abs(consumer()["pixels"](path, wanted) - ours).max() <= 1, path.name


def test_the_consumer_decodes_to_a_fraction_where_the_run_does(tmp_path):
    from ensembler.data.images import FileImages
    from ensembler.data.pixels import FilePixels
    from ensembler.data.spec import InputSpec

    blocks = np.kron(RNG.integers(0, 256, (40, 30, 3)), np.ones((16, 16, 1)))
    path = tmp_path / "large.jpg"
    Image.fromarray(blocks.astype(np.uint8)).save(path)
    ours = FilePixels(FileImages([path]), InputSpec(size=32, decode="reduced"))[0].astype(
        int
    )
    wanted = {"shape": [32, 32, 3], "resize": "stretch", "prepare": []}
    found = {
        decode: np.abs(
            consumer()["pixels"](path, {**wanted, "decode": decode}) - ours
        ).max()
        for decode in ("reduced", "full")
    }
    assert found["reduced"] <= 1 < found["full"]
