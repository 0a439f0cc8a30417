"""A run folder as version 0.1.0 wrote it opens, and its records are written again as they were."""

import hashlib
import json

import numpy as np
import pytest

from ensembler.blends.current import members_changed_since
from ensembler.blends.submit import submission_spec, submit_run
from ensembler.evaluation.evaluate import evaluate
from ensembler.evaluation.ls import list_run
from ensembler.predictions.blends import BlendRecord
from ensembler.predictions.lock import RunLock
from ensembler.predictions.members import MemberRecord
from ensembler.predictions.store import RunStore
from ensembler.reporting.submitted import is_as_recorded, last_choice
from ensembler.reporting.versions import SubmissionHistory, submission_versions

SAMPLES = """id,split,fold,label
a,train,0,cat
b,train,1,dog
c,train,0,dog
d,train,1,cat
e,test,-1,cat
f,test,-1,dog
"""
SUBMISSION = "id,label\ne,cat\nf,dog\n"
EPOCH = {"epoch": 1, "epochs": 1, "loss": 2.4, "lr": 0.01, "seconds": 0.1, "score": 0.25}
MEMBER = {
    "format": 1,
    "target": "label",
    "classes": ["cat", "dog"],
    "views": ["identity"],
    "folds": 2,
    "kind": "logits",
    "fold_column": "fold",
    "scores": {"oof": {"accuracy": 1.0, "log_loss": 0.1}, "holdout": None},
    "seconds": 0.2,
    "seconds_by_phase": {"training": 0.2, "predicting": 0.01},
}
TRAINED = {
    "chosen_by": "best",
    "chosen_by_metric": "log_loss",
    "flattered": True,
    "training": "cnn",
    "weights": "last",
    "chosen_epochs": [1, 1],
    "history": [[EPOCH], [EPOCH]],
    "fingerprint": "9a0e8292e4235551",
    "options": {"backbone": "resnet18", "epochs": 1, "input": {"size": 16, "prepare": []}},
}
MEAN = {
    "values": "log_probabilities",
    "made_of": ["cnn"],
    "chosen_by": "last",
    "fingerprint": "1",
}
BLEND = {
    "format": 1,
    "name": "auto",
    "target": "label",
    "classes": ["cat", "dog"],
    "method": "auto",
    "members": ["cnn", "mean"],
    "weights": {"cnn": 0.75, "mean": 0.25},
    "temperature": None,
    "scores": {
        "fitted": {"log_loss": 0.1},
        "cross_fitted": {"log_loss": 0.2},
        "holdout": None,
    },
    "gain": {
        "over": "cnn",
        "metric": "log_loss",
        "value": 0.01,
        "low": None,
        "high": 0.02,
        "standard_error": 0.01,
        "beyond_noise": False,
    },
    "warnings": [{"code": "few_rows", "member": None, "message": "4 rows are few"}],
    "details": {
        "chosen": "simplex",
        "candidates": {"simplex": 0.2, "greedy": None},
        "correction": 0.001,
        "gains": [],
        "gap": 1e-09,
        "members": [{"member": "cnn", "weight": 0.75, "solo": 0.3, "marginal": 0.1}],
    },
    "spec": {"method": "auto", "metric": "log_loss", "seed": 0},
    "views": None,
    "fingerprint": "0123456789abcdef",
}
LOCK = {
    "format": 1,
    "versions": {"python": "3.11.9", "numpy": "2.0.0"},
    "seed": 0,
    "classes": {"label": ["cat", "dog"]},
    "multi_label": {},
    "composition": None,
    "members": ["mean", "cnn"],
    "part_of": {},
    "left_out": [],
    "data": "d",
    "images": "i",
    "choices": {
        "engine": {"cnn": {"engine": "eager", "seconds": {"eager": 0.1}, "for": "ab"}}
    },
    "recipe": {
        "name": "old",
        "submission": {"format": "labels", "columns": ["id", "label"]},
    },
    "recipe_sha256": "r",
}
MADE_OF = {
    "blend": "auto",
    "method": "auto",
    "members": ["cnn", "mean"],
    "weights": {"cnn": 0.75, "mean": 0.25},
    "scores": {"cross_fitted": {"log_loss": 0.2}, "holdout": None},
}


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def store(tmp_path):
    run = tmp_path / "old"
    logits = np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.1, 0.9], [0.7, 0.3]], np.float32))
    arrays = {"oof.npy": logits[None], "test.npy": np.stack([logits[None, :2]] * 2)}
    probs = {"oof.npy": np.exp(logits), "test.npy": np.exp(logits[:2])}
    entries = {
        "members/cnn/member.json": (arrays, {"name": "cnn", **MEMBER, **TRAINED}),
        "members/mean/member.json": (arrays, {"name": "mean", **MEMBER, **MEAN}),
        "blends/auto/blend.json": (probs, BLEND),
    }
    run.mkdir()
    (run / "samples.csv").write_text(SAMPLES)
    made_from = {}
    for name, (files, record) in entries.items():
        path = run / name
        path.parent.mkdir(parents=True)
        for file, array in files.items():
            np.save(path.parent / file, array)
        sums = {file: sha256(path.parent / file) for file in files}
        if path.name == "member.json":
            sums["samples.csv"] = sha256(run / "samples.csv")
            made_from[path.parent.name] = list(sums.values())
        else:
            record = {**record, "made_from": made_from}
        path.write_text(json.dumps({**record, "sha256": sums}))
    (run / "recipe.lock.json").write_text(json.dumps(LOCK))
    (run / "submission.csv").write_text(SUBMISSION)
    versions = [
        {
            "sha256": "0" * 64,
            "rows": 2,
            "made_of": {"folds": {"cnn": [0]}, "method": "soft vote of what is finished"},
        },
        {
            "sha256": sha256(run / "submission.csv"),
            "rows": 2,
            "made_of": MADE_OF,
            "by_hand": True,
            "options": {"format": "labels", "columns": ["id", "label"]},
        },
    ]
    (run / "submission.json").write_text(json.dumps({"format": 1, "versions": versions}))
    return RunStore(run)


def test_every_record_is_written_again_as_it_was(store):
    models = {
        "members/*/member.json": MemberRecord,
        "blends/*/blend.json": BlendRecord,
        "recipe.lock.json": RunLock,
        "submission.json": SubmissionHistory,
    }
    for pattern, model in models.items():
        for path in store.folder.glob(pattern):
            content = json.loads(path.read_text())
            assert model.model_validate(content).to_json() == content, path


def test_what_a_later_version_writes_beside_is_kept(store):
    path = store.member_folder("cnn") / "member.json"
    content = json.loads(path.read_text()) | {"of_a_later_version": {"kept": [1]}}
    assert MemberRecord.model_validate(content).to_json() == content


def test_members_blend_and_lock_say_what_they_said(store):
    assert store.complete_members == ["mean", "cnn"]
    cnn, mean = store.member("cnn"), store.member("mean")
    assert cnn.is_optimistic
    assert not mean.is_optimistic
    assert mean.record.made_of == ("cnn",)
    assert cnn.record.options["backbone"] == "resnet18"
    assert store.blend("auto").record.details.chosen == "simplex"
    assert members_changed_since(store, "auto") == []
    assert store.lock.choice("engine", "cnn", "ab").chosen["engine"] == "eager"
    assert store.lock.choice("engine", "cnn", "another") is None


def test_commands_work_on_it(store):
    assert [row.name for row in evaluate(store).rows] == ["mean", "mean", "cnn", "cnn"] + [
        "auto"
    ] * 2
    listing = list_run(store, check=True)
    assert [member.name for member in listing.members] == ["mean", "cnn"]
    assert not listing.submission_altered
    assert submit_run(store).blend == "auto"
    assert store.submission_path.read_text() == SUBMISSION


def test_its_submission_is_known(store):
    first, last = submission_versions(store)
    assert first.made_of.folds == {"cnn": (0,)}
    assert last.made_of.blend == "auto"
    assert is_as_recorded(store)
    assert last_choice(store).by_hand
    assert submission_spec(store).columns == ("id", "label")
