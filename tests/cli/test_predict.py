import io
import json
import shutil

import pandas as pd
import pytest

from ensembler.cli import predict


@pytest.fixture
def packed(recipe, packed_run):
    """The bundle `shapes.ens` in the current folder, whose code is `tinynets.py`."""
    shutil.copy(packed_run.bundle, recipe.parent)
    return recipe.parent


def test_a_run_is_packed_and_images_become_predictions_csv(ens_here, finished):
    packed = finished.parent
    done = ens_here("pack", "shapes", "--with-code", "tinynets.py", "--json", "--quiet")
    made = json.loads(done.stdout)
    assert made["bundle"] == "shapes.ens"
    assert made["members"] == ["narrow", "wide"]
    done = ens_here("predict", "shapes.ens", "shapes/images", "--trust-code")
    assert "predictions are in predictions.csv" in done.stdout
    table = pd.read_csv(packed / "predictions.csv")
    assert table.columns[:2].tolist() == ["id", "label"]
    assert len(table) == len(list((packed / "shapes" / "images").rglob("*.png")))


def test_code_is_shown_and_not_run_unless_it_is_trusted(ens_here, packed):
    done = ens_here("predict", "shapes.ens", "shapes/images", expect=2)
    assert "def tiny(num_classes, in_chans" in done.stderr
    assert "nothing of it was run" in done.stderr
    assert not (packed / "predictions.csv").exists()


def test_a_broken_image_is_named_with_exit_code_1(ens_here, packed):
    (packed / "shapes" / "images" / "broken.png").write_bytes(b"no image")
    given = ["predict", "shapes.ens", "shapes/images", "--trust-code", "--json"]
    done = ens_here(*given, "--out", "p.jsonl", expect=1)
    made = json.loads(done.stdout)
    assert [f["path"] for f in made["failed"]] == ["shapes/images/broken.png"]
    assert "format that can be read" in made["failed"][0]["message"]
    assert made["rows"] == len((packed / "p.jsonl").read_text().splitlines())
    done = ens_here(*given, "--strict", expect=2)
    assert "broken.png" in json.loads(done.stdout)["error"]


def test_a_list_on_standard_input(ens_here, packed, monkeypatch):
    names = sorted(str(p) for p in (packed / "shapes" / "images").rglob("*.png"))[:3]
    monkeypatch.setattr(predict.sys, "stdin", io.StringIO("\n".join(names)))
    ens_here("predict", "shapes.ens", "-", "--trust-code", "--out", "p.csv")
    assert pd.read_csv(packed / "p.csv")["id"].tolist() == names


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["none.ens", "shapes"], "there is no bundle none.ens"),
        (["recipe.yaml", "shapes"], "recipe.yaml: it is no whole bundle"),
        (["shapes.ens", "empty"], "empty has no images"),
        (["shapes.ens", "shapes", "--out", "p.xlsx"], "no form of predictions"),
        (["shapes.ens", "shapes", "--engine", "fast"], "unknown engine 'fast'"),
        (["shapes.ens", "shapes", "--template", "none.csv"], "does not exist"),
        (["shapes.ens"], "Missing argument"),
    ],
)
def test_wrong_requests_are_one_line_and_exit_code_2(ens_here, packed, given, words):
    (packed / "empty").mkdir()
    done = ens_here("predict", *given, "--trust-code", expect=2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bundle_that_was_cut_short_is_one_line(ens_here, packed):
    content = (packed / "shapes.ens").read_bytes()
    (packed / "short.ens").write_bytes(content[: len(content) // 2])
    shutil.copy(packed / "shapes.ens", packed / "more.ens")
    done = ens_here("predict", "short.ens", "shapes", expect=2)
    assert "cut short or altered: copy it again" in done.stderr
