import json
import os
import shutil
import threading

import numpy as np
import pandas as pd
import pytest
from bundle_parts import a_member, changed, fitted_state, write_bundle

from ensembler import Predictor
from ensembler.bundle import predict
from ensembler.bundle.images import find_asked
from ensembler.bundle.networks import Networks
from ensembler.bundle.open import open_bundle
from ensembler.bundle.predict import Form, predict_images
from ensembler.errors import DiskFullError, ImageError, RequestError
from ensembler.predictions import chunks
from ensembler.progress import RecordedProgress


@pytest.fixture
def networks(written):
    return Networks(open_bundle(written), "cpu")


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(chunks, "CHUNK", 2)
    monkeypatch.setattr(predict, "CHUNK", 2)
    monkeypatch.setattr(predict, "SHARD", 2)


def probs_in(path):
    table = pd.read_csv(path, dtype={"id": str}).set_index("id")
    return table[["cat", "dog", "eel"]].astype(np.float32)


def test_a_folder_becomes_a_table(networks, pictures, tmp_path):
    made = predict_images(networks, find_asked([str(pictures)]), tmp_path / "p.csv", Form())
    assert (made.rows, made.failed) == (6, ())
    paths = [pictures / name for name in probs_in(made.out).index]
    assert np.array_equal(probs_in(made.out), Predictor(networks)(paths))
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


def test_shards_change_nothing_and_show_how_far_the_whole_is(
    networks, pictures, tmp_path, small_shards
):
    asked, progress = find_asked([str(pictures)]), RecordedProgress()
    made = predict_images(networks, asked, tmp_path / "p.csv", Form(), progress)
    assert progress.steps == [("predicting", done, 6) for done in (2, 4, 6)]
    whole = Predictor(networks)(asked.paths)
    assert probs_in(made.out).to_numpy() == pytest.approx(whole, abs=1e-6)


def test_broken_images_are_named_and_keep_an_empty_row(
    networks, pictures, tmp_path, small_shards
):
    folder = tmp_path / "in"
    shutil.copytree(pictures, folder)
    (folder / "1.png").write_bytes(b"")
    (folder / "3.png").write_bytes((pictures / "3.png").read_bytes()[:60])
    asked, progress = find_asked([str(folder)]), RecordedProgress()
    made = predict_images(networks, asked, tmp_path / "p.csv", Form(), progress)
    assert [path for path, _ in made.failed] == [f"{folder}/1.png", f"{folder}/3.png"]
    assert [line.partition(": ")[0] for line in progress.warnings] == [
        path for path, _ in made.failed
    ]
    found = probs_in(made.out)
    assert found.isna().all(axis=1).tolist() == [False, True, False, True, False, False]
    with pytest.raises(ImageError, match=r"1\.png"):
        predict_images(networks, asked, tmp_path / "q.csv", Form(strict=True))
    assert not (tmp_path / "q.csv").exists()


def test_what_was_finished_before_a_crash_is_not_predicted_again(
    networks, pictures, tmp_path, small_shards, monkeypatch
):
    folder = tmp_path / "in"
    shutil.copytree(pictures, folder)
    (folder / "1.png").write_bytes(b"")
    asked = find_asked([str(folder)])
    keep, seen = predict.PredictionJob._keep, []

    def dies_in_the_third(self, shard, answers, broken):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(shard.start)
        keep(self, shard, answers, broken)

    with monkeypatch.context() as patch:
        patch.setattr(predict.PredictionJob, "_keep", dies_in_the_third)
        with pytest.raises(KeyboardInterrupt):
            predict_images(networks, asked, tmp_path / "p.csv", Form())
    assert not (tmp_path / "p.csv").exists()
    progress = RecordedProgress()
    made = predict_images(networks, asked, tmp_path / "p.csv", Form(), progress)
    # the logits of the third were there, so nothing is computed at all
    assert progress.steps == []
    assert [path for path, _ in made.failed] == [f"{folder}/1.png"]
    alone = predict_images(networks, asked, tmp_path / "q.csv", Form())
    assert probs_in(made.out).equals(probs_in(alone.out))


def test_other_images_begin_anew(networks, pictures, tmp_path, monkeypatch):
    asked = find_asked([str(pictures)])
    left = tmp_path / ".p.csv.0123.parts"
    left.mkdir()
    (left / "results.npy").write_bytes(b"of another job")
    made = predict_images(networks, asked, tmp_path / "p.csv", Form())
    assert made.rows == 6
    assert not left.exists()


def test_a_template_gives_its_ids_order_and_columns(networks, pictures, tmp_path):
    asked = find_asked([str(pictures)])
    whole = predict_images(networks, asked, tmp_path / "p.csv", Form())
    names = ["5", "0", "1", "2", "4", "3"]
    labels = pd.DataFrame({"image": names, "class": "?"})
    labels.to_csv(tmp_path / "t.csv", index=False)
    made = predict_images(networks, asked, tmp_path / "s.csv", Form(tmp_path / "t.csv"))
    found = pd.read_csv(made.out, dtype=str)
    wanted = pd.read_csv(whole.out).set_index("id")["label"]
    assert found.columns.tolist() == ["image", "class"]
    assert found["image"].tolist() == names
    assert found["class"].tolist() == [
        wanted[f"{'more/' if name == '5' else ''}{name}.png"] for name in names
    ]
    probs = pd.DataFrame({"id": asked.ids, "eel": 0, "cat": 0, "dog": 0})
    probs.to_csv(tmp_path / "u.csv", index=False)
    made = predict_images(networks, asked, tmp_path / "v.csv", Form(tmp_path / "u.csv"))
    found = pd.read_csv(made.out)
    assert found.columns.tolist() == ["id", "eel", "cat", "dog"]
    assert np.array_equal(probs_in(made.out), probs_in(whole.out))


def test_a_template_that_does_not_fit_is_refused_before_the_work(
    networks, pictures, tmp_path
):
    asked = find_asked([str(pictures)])
    (tmp_path / "t.csv").write_text("id,label\nother.png,\n")
    (tmp_path / "empty.csv").write_text("id,label\n")
    for template, out in (("t.csv", "s.csv"), ("empty.csv", "s.csv"), ("t.csv", "s.npz")):
        with pytest.raises(RequestError):
            predict_images(networks, asked, tmp_path / out, Form(tmp_path / template))
    assert not list(tmp_path.glob(".s*"))


def test_a_row_of_a_broken_image_is_empty_in_a_submission(networks, pictures, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(pictures, folder)
    (folder / "1.png").write_bytes(b"")
    asked = find_asked([str(folder)])
    pd.DataFrame({"id": asked.ids, "label": "?"}).to_csv(tmp_path / "t.csv", index=False)
    made = predict_images(networks, asked, tmp_path / "s.csv", Form(tmp_path / "t.csv"))
    found = pd.read_csv(made.out, dtype=str).set_index("id")["label"]
    assert found.isna().tolist() == [False, True, False, False, False, False]


def test_a_member_without_weight_is_not_needed(untrained, written, pictures, tmp_path):
    weights = fitted_state("ab", weights={"a": 1.0, "b": 0.0}, method="weights")
    blend = untrained.record.blends["soft"].model_dump() | {"idle": {"b": 1}}
    alone = changed(
        untrained,
        {"blends/soft.safetensors": weights.to_bytes()},
        members={"a": a_member("a").model_dump()},
        blends={"soft": blend},
    )
    record = alone.record.model_copy(
        update={"sha256": {n: s for n, s in alone.record.sha256.items() if "/b/" not in n}}
    )
    path = tmp_path / "a.ens"
    write_bundle(path, type(alone)(record, alone.where, alone.read))
    only = changed(
        untrained,
        {"blends/soft.safetensors": fitted_state("a").to_bytes()},
        blends={"soft": {**blend, "members": ["a"], "idle": {}}},
    )
    both = write_bundle(tmp_path / "b.ens", only)
    paths = sorted(pictures.rglob("*.png"))
    one, other = (Predictor.load(p, device="cpu")(paths) for p in (path, both))
    assert np.array_equal(one, other)


def test_disagreement_is_the_share_of_networks_that_answer_otherwise(
    networks, pictures, tmp_path
):
    asked = find_asked([str(pictures)])
    made = predict_images(networks, asked, tmp_path / "p.jsonl", Form())
    rows = [json.loads(line) for line in made.out.read_text().splitlines()]
    from ensembler.bundle.apply import member_probs
    from ensembler.bundle.images import AskedPixels, refuse_broken

    logits = networks.logits(
        lambda spec: AskedPixels(asked.images, spec, refuse_broken),
        np.arange(6),
        tmp_path / "logits",
    )
    votes = [
        found[0].argmax(axis=1)
        for found in member_probs(networks.ensemble, logits).values()
    ]
    classes = ["cat", "dog", "eel"]
    for i, row in enumerate(rows):
        others = [classes[vote[i]] != row["label"] for vote in votes]
        assert row["disagreement"] == pytest.approx(np.mean(others))
    assert {row["disagreement"] for row in rows} <= {0.0, 0.5, 1.0}


def test_what_goes_to_a_pipe_leaves_nothing_beside_it(networks, pictures, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_text()))
    reader.start()
    predict_images(networks, find_asked([str(pictures)]), pipe, Form())
    reader.join()
    assert found[0].startswith("id,label,cat,dog,eel,")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_full_disk_is_said_and_the_same_call_goes_on(
    networks, pictures, small_disk, small_shards
):
    asked = find_asked([str(pictures)])
    filler = small_disk / "filler"
    filler.write_bytes(bytes((1 << 20) - (3 << 12)))
    with pytest.raises(DiskFullError, match="no room left"):
        predict_images(networks, asked, small_disk / "p.csv", Form())
    assert not (small_disk / "p.csv").exists()
    filler.unlink()
    assert predict_images(networks, asked, small_disk / "p.csv", Form()).rows == 6


def test_many_broken_images_are_not_warned_of_one_by_one(networks, tmp_path, monkeypatch):
    monkeypatch.setattr(predict, "MOST_WARNINGS", 2)
    (tmp_path / "in").mkdir()
    for i in range(5):
        (tmp_path / "in" / f"{i}.png").write_bytes(b"")
    asked, progress = find_asked([str(tmp_path / "in")]), RecordedProgress()
    made = predict_images(networks, asked, tmp_path / "p.csv", Form(), progress)
    assert len(progress.warnings) == 2
    assert len(made.failed) == 5
    assert probs_in(made.out).isna().all(axis=None)


def test_a_blend_that_ranks_takes_all_images_together(
    untrained, pictures, tmp_path, small_shards
):
    state = fitted_state("ab", method="rank").to_bytes()
    ranked = changed(untrained, {"blends/soft.safetensors": state})
    path = write_bundle(tmp_path / "r.ens", ranked)
    networks = Networks(open_bundle(path), "cpu")
    assert networks.ensemble.ranks_rows
    asked = find_asked([str(pictures)])
    made = predict_images(networks, asked, tmp_path / "p.csv", Form())
    assert np.array_equal(probs_in(made.out), Predictor(networks)(asked.paths))
