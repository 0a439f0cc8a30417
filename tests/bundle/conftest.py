"""Bundles without a training: two untrained networks, and a blend that was fitted by hand."""

import numpy as np
import pytest
import torch
from bundle_parts import CLASSES, SHAPE, a_member, fitted_state, write_bundle
from PIL import Image

from ensembler.bundle.ensemble import Ensemble
from ensembler.bundle.records import BundleRecord, PackedBlend, PackedTarget
from ensembler.networks.build import build_network
from ensembler.networks.checkpoint import save_checkpoint
from ensembler.networks.spec import NetworkSpec


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """The contents of two checkpoints of untrained networks."""
    folder, contents = tmp_path_factory.mktemp("checkpoints"), []
    for seed in range(2):
        torch.manual_seed(seed)
        spec = NetworkSpec(backbone="test_resnet")
        network = build_network(spec, **SHAPE).train()
        with torch.no_grad():
            for _ in range(5):
                network(torch.randint(0, 256, (16, 3, 16, 16), dtype=torch.uint8))
        path = folder / f"{seed}.safetensors"
        save_checkpoint(path, network.eval(), spec, SHAPE, {"classes": list(CLASSES)})
        contents.append(path.read_bytes())
    return contents


@pytest.fixture(scope="session")
def untrained(checkpoints):
    """An ensemble of members `a` and `b`, whose blend is their mean."""
    contents = {
        "members/a/fold0.safetensors": checkpoints[0],
        "members/b/fold0.safetensors": checkpoints[1],
        "blends/soft.safetensors": fitted_state("ab").to_bytes(),
    }
    record = BundleRecord(
        name="untrained",
        answers=("soft",),
        targets={"label": PackedTarget(classes=CLASSES)},
        members={"a": a_member("a"), "b": a_member("b")},
        blends={
            "soft": PackedBlend(
                target="label",
                method="soft",
                members=("a", "b"),
                state="blends/soft.safetensors",
            )
        },
        sha256=dict.fromkeys(contents, ""),
    )
    return Ensemble(record, "untrained", contents.__getitem__)


@pytest.fixture(scope="session")
def written(untrained, tmp_path_factory):
    """The bundle of it; not to be changed."""
    return write_bundle(tmp_path_factory.mktemp("bundle") / "untrained.ens", untrained)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder with six images of several sizes, one below a folder; not to be changed."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(5)
    (folder / "more").mkdir()
    for i in range(6):
        pixels = rng.integers(0, 256, (20 + i, 30, 3)).astype(np.uint8)
        name = f"{i}.png" if i < 5 else "more/5.png"
        Image.fromarray(pixels).save(folder / name)
    return folder
