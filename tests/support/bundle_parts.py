"""Parts of bundles without a training, for tests."""

from dataclasses import replace

import numpy as np

from ensembler.blending.make import make_blend
from ensembler.blending.pool import Pool
from ensembler.blending.spec import BlendSpec
from ensembler.bundle.archive import write_archive
from ensembler.bundle.check import reference_probs
from ensembler.bundle.networks import Networks
from ensembler.bundle.pack import _npy
from ensembler.bundle.records import (
    BundleRecord,
    PackedMember,
    Reference,
    ViewMerge,
)
from ensembler.bundle.reference import draw_reference
from ensembler.data.spec import InputSpec

CLASSES = ("cat", "dog", "eel")
SHAPE = {"classes": 3, "size": 16, "channels": 3}


def fitted_state(members, **options):
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, 60)
    oof = rng.dirichlet(np.ones(3), (len(members), 60)).astype(np.float32)
    oof[:, np.arange(60), y] += 1
    oof /= oof.sum(axis=2, keepdims=True)
    pool = Pool(
        names=tuple(members), oof=oof, y=y, classes=CLASSES, folds=np.arange(60) % 3
    )
    return make_blend(pool, BlendSpec(**{"method": "soft", **options})).blend.state()


def a_member(name, **changes):
    values = {
        "name": name,
        "targets": {"label": CLASSES},
        "input": InputSpec(size=16),
        "folds": 1,
        "views": ("identity", "hflip"),
        "view_names": ("identity", "hflip"),
        "merging": {"label": ViewMerge(views=("identity", "hflip"))},
        "checkpoints": (f"members/{name}/fold0.safetensors",),
        "amp": "off",
        "batch_size": 64,
        "backbone": "test_resnet",
    }
    return PackedMember.model_validate({**values, **changes})


def changed(ensemble, contents=None, **changes):
    """The ensemble with other values in its record, or other contents."""
    values = {**ensemble.record.model_dump(), **changes}
    of = dict(contents or {})
    values["sha256"] = {**values["sha256"], **dict.fromkeys(of, "")}
    record = BundleRecord.model_validate(values)
    return replace(
        ensemble,
        record=record,
        read=lambda name: of[name] if name in of else ensemble.read(name),
    )


def write_bundle(path, ensemble, *, reference=True):
    """Write an ensemble as it is, without looking at it."""
    contents = {
        name: lambda name=name: ensemble.read(name)
        for name in ensemble.record.sha256
        if not name.startswith("reference/")
    }
    record = ensemble.record
    if reference:
        probs = reference_probs(Networks(ensemble, "cpu"), draw_reference())
        names = {name: f"reference/{name}.npy" for name in probs}
        record = record.model_copy(
            update={"reference": Reference(images="reference/images.npy", probs=names)}
        )
        contents["reference/images.npy"] = lambda: _npy(draw_reference())
        for name, entry in names.items():
            contents[entry] = lambda name=name: _npy(probs[name])
    write_archive(path, record, contents)
    return path
