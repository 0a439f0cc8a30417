"""A record that was altered and signed again gives one error, or predictions: never a traceback."""

import json

import numpy as np
import pytest
from bundle_parts import a_member, changed, write_bundle
from fuzz import some

from ensembler import Predictor
from ensembler.bundle.archive import digest_of_record
from ensembler.bundle.records import MANIFEST
from ensembler.errors import EnsemblerError

from .test_archive import entries_of, rewrite

IMAGE = np.zeros((8, 8, 3), np.uint8)
VALUES = [
    *(None, True, -1, 0, 1, 2, 99, 0.5, -2.5, 1e9, "", "a", "b", "soft", "label", "cat"),
    *("vflip", "max", "evil:go", "bf16", [], {}, ["cat"], {"a": 1}),
]


def places(value, above=()):
    """Every place in a JSON value, as a path of keys."""
    found = [above] if above else []
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        found += places(item, (*above, key))
    return found


@pytest.fixture(scope="module")
def rich(untrained, tmp_path_factory):
    """The entries of a bundle with a mean of others and a composed blend."""
    parts = {name: a_member(name, merging={}).model_dump() for name in "cd"}
    for part, source in (("c", "a"), ("d", "b")):
        parts[part]["checkpoints"] = [f"members/{source}/fold0.safetensors"]
    mean = a_member("b", checkpoints=(), parts=("c", "d")).model_dump()
    members = {"a": a_member("a").model_dump(), "b": mean, **parts}
    ensemble = changed(untrained, members=members)
    path = tmp_path_factory.mktemp("rich") / "b.ens"
    return entries_of(write_bundle(path, ensemble))


@pytest.mark.parametrize("seed", range(some(30, 600)))
def test_one_altered_value_is_one_error_or_predicts(rich, tmp_path, seed):
    rng = np.random.default_rng(seed)
    altered = json.loads(rich[MANIFEST])
    del altered["digest"]
    found = places(altered)
    *above, last = found[rng.integers(len(found))]
    inner = altered
    for key in above:
        inner = inner[key]
    if rng.random() < 0.7:
        inner[last] = VALUES[rng.integers(len(VALUES))]
    else:
        del inner[last]
    altered["digest"] = digest_of_record(altered)
    path = rewrite(tmp_path / "b.ens", {**rich, MANIFEST: json.dumps(altered)})
    try:
        probs = Predictor.load(path, device="cpu")(IMAGE)
    except EnsemblerError:
        return
    assert probs.shape == (1, 3)
    assert np.isfinite(probs).all()
