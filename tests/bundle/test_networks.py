import numpy as np
import pytest
from bundle_parts import a_member, changed, write_bundle

from ensembler import Predictor
from ensembler.bundle.networks import Networks
from ensembler.bundle.open import open_bundle
from ensembler.errors import BundleError
from ensembler.progress import RecordedProgress


def test_members_of_several_inputs_and_views_are_merged_as_they_say(
    untrained, pictures, tmp_path
):
    dark = {"name": "dark", "transform": {"RandomGamma": {"gamma_limit": [150, 150]}}}
    views = {"views": ["vflip", dark], "view_names": ["vflip", "dark"]}
    merging = {"label": {"how": "max", "views": ["dark", "vflip"]}}
    grown = a_member("b", input={"size": 24}, merging=merging, **views)
    members = {"a": a_member("a").model_dump(), "b": grown.model_dump()}
    path = write_bundle(tmp_path / "b.ens", changed(untrained, members=members))
    paths = sorted(pictures.rglob("*.png"))
    found = Predictor.load(path, device="cpu")(paths)
    assert np.isfinite(found).all()
    assert not np.array_equal(found, Predictor(Networks(untrained, "cpu"))(paths))


def test_views_of_other_names_than_the_record_says_are_refused(untrained, tmp_path):
    odd = a_member("a", views=("identity", "vflip"))
    members = {"a": odd.model_dump(), "b": a_member("b").model_dump()}
    path = tmp_path / "b.ens"
    write_bundle(path, changed(untrained, members=members), reference=False)
    with pytest.raises(BundleError, match="has the views identity, hflip, and here"):
        open_bundle(path)


def test_the_mean_of_others_is_that_of_their_probabilities_or_logits(
    untrained, pictures, tmp_path
):
    found = {}
    paths = sorted(pictures.rglob("*.png"))
    for averages in ("probabilities", "logits"):
        parts = {name: a_member(name, merging={}).model_dump() for name in "cd"}
        for part, source in (("c", "a"), ("d", "b")):
            parts[part]["checkpoints"] = [f"members/{source}/fold0.safetensors"]
        mean = a_member("a", checkpoints=(), parts=("c", "d"), averages=averages)
        members = {"a": mean.model_dump(), "b": {**mean.model_dump(), "name": "b"}, **parts}
        ensemble = changed(untrained, members=members)
        found[averages] = Predictor(Networks(ensemble, "cpu"))(paths)
    plain = Predictor(Networks(untrained, "cpu"))(paths)
    assert found["probabilities"] == pytest.approx(plain, abs=1e-6)
    assert not np.allclose(found["logits"], plain, atol=1e-6)


def test_an_engine_of_the_recipe_that_is_not_here_is_replaced_with_a_warning(
    untrained, monkeypatch
):
    monkeypatch.setattr("ensembler.inference.engines.registry.find_spec", lambda _: None)
    progress = RecordedProgress()
    networks = Networks(changed(untrained, engine="openvino"), "cpu", None, progress)
    networks.ready("members/a/fold0.safetensors")
    assert "the default engine predicts instead" in progress.warnings[0]
    assert len(progress.warnings) == 1
