import json
import shutil
import textwrap

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ensembler import Recipe
from ensembler.audit import probe
from ensembler.audit.audit import audit_recipe
from ensembler.audit.duplicates import MOST_BITS, _close_hashes
from ensembler.audit.facts import look_at_images
from ensembler.data.images import FileImages
from ensembler.demo.masks import write_masks
from ensembler.demo.shapes import write_shapes

RECIPE = """
    name: audited
    data: {source: train.csv, test: test.csv}
    folds: {count: 3}
    input: {size: 16}
    members: {one: {backbone: resnet18}}
"""


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with a clean data set, to be copied."""
    folder = tmp_path_factory.mktemp("clean") / "shapes"
    write_shapes(folder, n=90, seed=2)
    return folder


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """A quarter of the trees of a probe tell the leaks of drawn images, too."""
    monkeypatch.setattr(probe, "TREES", 25)


@pytest.fixture
def shapes(tmp_path, drawn):
    """A clean data set, and a function that spoils its tables, audits it, and gives the findings by code."""
    shutil.copytree(drawn, tmp_path, dirs_exist_ok=True)
    (tmp_path / "recipe.yaml").write_text(textwrap.dedent(RECIPE))

    def audit(train=lambda t: t, test=lambda t: t, overrides=(), **options):
        for name, change in (("train", train), ("test", test)):
            table = pd.read_csv(tmp_path / f"{name}.csv")
            change(table).to_csv(tmp_path / f"{name}.csv", index=False)
        spec = Recipe.load(tmp_path / "recipe.yaml", overrides).spec
        found = audit_recipe(spec, tmp_path / "artifacts", **options)
        return {finding.code: finding for finding in found.findings}, found

    audit.folder = tmp_path
    return audit


def test_clean_data_have_no_error_and_no_warning(shapes):
    findings, audit = shapes()
    assert {f.severity for f in findings.values()} <= {"note"}
    assert audit.is_clean
    assert audit.verdict.startswith("No problems found")
    assert audit.counts["splits"] == {"train": 90, "test": 22}
    assert sum(c["train"] for c in audit.counts["classes"]["label"].values()) == 90
    assert audit.counts["kinds"] == {"PNG RGB": 112}


def test_broken_empty_and_missing_images_are_listed_whole(shapes):
    images = shapes.folder / "images"
    (images / "00001.png").write_bytes(b"")
    (images / "00002.png").write_bytes(b"no image")
    for i in range(10, 22):
        (images / f"{i:05d}.png").unlink()
    findings, audit = shapes()
    assert findings["empty"].files == ("images/00001.png",)
    assert findings["unreadable"].files == ("images/00002.png",)
    assert len(findings["missing"].files) == 12
    assert findings["missing"].severity == "error"
    assert audit.verdict.startswith("This run would be refused")
    skipped, _ = shapes(overrides=["data.on_broken=skip"])
    assert skipped["unreadable"].severity == "warning"


def test_no_decision_reads_the_wording_of_a_message(shapes):
    """Names of the user's that say what a message says: each finding keeps its own code."""
    odd = "there is no such image, groups lie in several folds"
    path = shapes.folder / "images" / "empty.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"no image")
    table = pd.read_csv(shapes.folder / "train.csv")
    table.loc[0, "label"] = odd  # a class of one row, which no stratified split takes
    table.loc[1, "path"] = "images/empty.png"
    table.loc[2, "label"] = None
    table.to_csv(shapes.folder / f"{odd}.csv", index=False)
    findings, _ = shapes(overrides=[f"data.source={shapes.folder}/{odd}.csv"])
    assert {"data", "folds", "unreadable"} <= set(findings)
    assert {"missing", "group_leak", "empty"}.isdisjoint(findings)


def test_equal_images_are_found_by_bytes_and_by_pixels(shapes):
    images = shapes.folder / "images"
    (images / "00050.png").write_bytes((images / "00003.png").read_bytes())
    # other bytes, same pixels
    Image.open(images / "00004.png").save(images / "00100.png", compress_level=1)
    findings, _ = shapes()
    found = findings["duplicate"]
    assert set(found.files) == {
        f"images/{n}.png" for n in ("00003", "00050", "00004", "00100")
    }
    assert found.facts["across_train_and_test"] == 1
    assert found.severity == "warning"


def test_a_photograph_saved_again_is_a_near_duplicate(shapes):
    images = shapes.folder / "images"
    picture = Image.open(images / "00007.png")
    picture.resize((96, 96)).save(images / "00060.png", "JPEG", quality=70)
    findings, _ = shapes(
        train=lambda t: t.assign(label=t["label"].where(t.index != 60, t["label"][7]))
    )
    assert set(findings["near_duplicate"].files) == {"images/00007.png", "images/00060.png"}
    assert "duplicate" not in findings


def test_all_close_hashes_are_found_and_no_others():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, 300, dtype=np.uint64)
    for i in range(0, 300, 3):  # a neighbour up to 12 bits away
        bits = rng.choice(64, int(rng.integers(1, 13)), replace=False).astype(np.uint64)
        hashes[i + 1] = hashes[i] ^ np.bitwise_or.reduce(np.uint64(1) << bits)
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None])
    expected = {(a, b) for a, b in np.argwhere(apart <= MOST_BITS).tolist() if a < b}
    found = {
        tuple(sorted(pair))
        for left, right in _close_hashes(hashes)
        for pair in zip(left.tolist(), right.tolist(), strict=True)
    }
    assert len(expected) > 40
    assert found == expected


def test_copies_with_other_labels_are_named(shapes):
    images = shapes.folder / "images"
    (images / "00051.png").write_bytes((images / "00003.png").read_bytes())

    def other(t):
        return t.assign(
            label=t["label"].where(
                t.index != 51, "ring" if t["label"][3] != "ring" else "cross"
            )
        )

    findings, _ = shapes(train=other)
    assert set(findings["duplicate_other_label"].files) == {
        "images/00003.png",
        "images/00051.png",
    }


def test_blank_images_are_blank_and_not_near_duplicates(shapes):
    for i in range(5):
        Image.new("RGB", (48, 48), (100 + i, 90, 80)).save(
            shapes.folder / "images" / f"{i:05d}.png"
        )
    findings, _ = shapes()
    assert len(findings["blank"].files) == 5
    assert "near_duplicate" not in findings


def test_a_label_that_only_test_rows_have_is_an_error_with_its_files(shapes):
    findings, _ = shapes(test=lambda t: t.assign(label=["hexagon", "ring"] * 11))
    assert findings["label_only_in_test"].severity == "error"
    assert len(findings["label_only_in_test"].files) == 11


def test_too_few_rows_of_a_class_are_rare_and_stop_the_split(shapes):
    findings, _ = shapes(train=lambda t: t.assign(label=["odd", *t["label"][1:]]))
    assert findings["rare_class"].facts["classes"] == ["odd"]
    assert findings["folds"].severity == "error"
    assert findings["imbalance"].severity == "note"


def test_a_group_in_train_and_in_test_is_a_leak(shapes):
    people = [f"p{i // 6}" for i in range(90)]
    findings, _ = shapes(
        train=lambda t: t.assign(person=people),
        test=lambda t: t.assign(person="p3"),
        overrides=["data.group=person"],
    )
    assert findings["group_leak"].facts["across"] == "train and test"
    assert len(findings["group_leak"].files) == 6 + 22


def test_a_group_astride_given_folds_is_an_error(shapes):
    def spoil(table):
        return table.assign(
            person=[f"p{i // 6}" for i in range(90)], fold=np.arange(90) % 3
        )

    findings, _ = shapes(
        train=spoil, overrides=["data.group=person", "folds={scheme: column, column: fold}"]
    )
    assert findings["group_leak"].severity == "error"
    assert findings["group_leak"].facts["across"] == "folds"


def test_a_column_called_like_a_group_is_named_and_measures_are_not(shapes):
    rng = np.random.default_rng(0)
    add = lambda t: t.assign(  # noqa: E731
        patient_id=[f"x{i % 20}" for i in range(90)],
        width=rng.integers(20, 40, 90),
        shade=rng.random(90).round(3),
    )
    findings, audit = shapes(train=add)
    assert [f.facts["column"] for f in audit.findings if f.code == "ungrouped_column"] == [
        "patient_id"
    ]
    assert "data: {group: patient_id}" in findings["ungrouped_column"].fix


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    write_masks(folder, persons=24)
    return folder


def test_persons_are_seen_in_columns_of_any_name_and_in_file_names(masks):
    table = pd.read_csv(masks / "train.csv").rename(columns={"person": "abc"})
    table.to_csv(masks / "renamed.csv", index=False)
    spec = Recipe.load(
        masks / "recipe.yaml",
        ["data.source=" + str(masks / "renamed.csv"), "data.group=null"],
    ).spec
    columns = [
        f.facts["column"]
        for f in audit_recipe(spec, masks / "a").findings
        if f.code == "ungrouped_column"
    ]
    assert columns == ["abc"]
    table.drop(columns="abc").to_csv(masks / "without.csv", index=False)
    spec = Recipe.load(
        masks / "recipe.yaml",
        ["data.source=" + str(masks / "without.csv"), "data.group=null"],
    ).spec
    found = [
        f for f in audit_recipe(spec, masks / "a").findings if f.code == "ungrouped_column"
    ]
    assert [f.facts["column"] for f in found] == ["{group}-{number}"]
    # The line that fixes it is one that a recipe takes.
    mended = Recipe.load(
        masks / "recipe.yaml",
        [
            "data.source=" + str(masks / "without.csv"),
            "data.pattern='{group}-{number}'",
            "data.group=group",
        ],
    ).spec
    codes = [f.code for f in audit_recipe(mended, masks / "a").findings]
    assert "ungrouped_column" not in codes
    assert "data" not in codes


def test_the_leak_test_tells_what_plain_folds_would_have_claimed(masks):
    leak = audit_recipe(
        Recipe.load(masks / "recipe.yaml").spec, masks / "a", test_leak=True
    ).leak
    assert leak.plain.low > leak.grouped.high + 0.1
    assert leak.n_groups == 24


def test_adversarial_validation_tells_a_shift_from_none(shapes):
    _, audit = shapes(adversarial=True)
    assert audit.adversarial.low < 0.6
    for i in range(90, 112):
        path = shapes.folder / "images" / f"{i:05d}.png"
        Image.fromarray(np.asarray(Image.open(path)) // 4).save(path)
    findings, audit = shapes(adversarial=True)
    assert "train_test_shift" in findings
    assert audit.adversarial.value > 0.9


def test_unknown_test_groups_are_no_shift(masks):
    """Test persons, whose names are not told, are known again across splits.

    So are train persons.
    """
    unnamed = Recipe.load(masks / "recipe.yaml", ["data.group=null"]).spec
    audit = audit_recipe(unnamed, masks / "a", adversarial=True)
    assert audit.adversarial.value > 0.8 < audit.adversarial_null.value
    codes = {f.code for f in audit.findings}
    assert "ungrouped_column" in codes
    assert "train_test_shift" not in codes
    named = ["data.pattern='{face}-{photo}'", "data.group=face"]
    audit = audit_recipe(
        Recipe.load(masks / "recipe.yaml", named).spec, masks / "a", adversarial=True
    )
    assert audit.adversarial_null is None
    assert audit.adversarial.low < 0.6


def test_duplicates_become_groups_by_option(shapes):
    from ensembler.progress import Progress
    from ensembler.workspace.workspace import open_workspace

    images = shapes.folder / "images"
    (images / "00050.png").write_bytes((images / "00003.png").read_bytes())
    recipe = Recipe.load(shapes.folder / "recipe.yaml", ["data.group_duplicates=true"])
    workspace = open_workspace(recipe, shapes.folder / "artifacts", Progress())
    rows = workspace.store.samples.table.set_index("id")
    assert rows.loc["images/00003.png", "group"] == rows.loc["images/00050.png", "group"]
    assert rows.loc["images/00003.png", "fold"] == rows.loc["images/00050.png", "fold"]
    assert rows["group"].nunique() == len(rows) - 1
    # the same groups at the next start
    open_workspace(recipe, shapes.folder / "artifacts", Progress())
    findings, _ = shapes(overrides=["data.group_duplicates=true"])
    assert findings["duplicate"].facts["across_folds"] == 0


def test_a_second_audit_looks_at_changed_files_only(shapes, monkeypatch):
    shapes()
    seen = []
    monkeypatch.setattr(
        "ensembler.audit.facts.perceptual_hash", lambda _: seen.append(1) or 0
    )
    shapes()
    assert not seen
    path = shapes.folder / "images" / "00001.png"
    path.write_bytes(path.read_bytes() + b" ")
    shapes()
    assert len(seen) == 1


def test_a_damaged_cache_is_made_again(shapes):
    paths = [shapes.folder / "images" / f"{i:05d}.png" for i in range(5)]
    look_at_images(FileImages(paths), shapes.folder / "cache")
    cached = next((shapes.folder / "cache").glob("audit-*.npz"))
    cached.write_bytes(cached.read_bytes()[:100])
    assert look_at_images(FileImages(paths), shapes.folder / "cache").readable.all()


def test_a_class_whose_images_are_all_broken_stops_the_run_with_its_name(shapes):
    from ensembler.errors import DataError
    from ensembler.progress import Progress
    from ensembler.workspace.workspace import open_workspace

    table = pd.read_csv(shapes.folder / "train.csv")
    for path in table.loc[table["label"] == "ring", "path"]:
        (shapes.folder / path).write_bytes(b"no image")
    recipe = Recipe.load(shapes.folder / "recipe.yaml", ["data.on_broken=skip"])
    with pytest.raises(DataError, match="no image of class 'ring' of label can be read"):
        open_workspace(recipe, shapes.folder / "artifacts", Progress())


def test_the_command_prints_one_object_and_strict_is_an_exit_code(ens_here, tmp_path):
    write_shapes(tmp_path / "d", n=60, seed=1)
    done = ens_here("audit", "d/recipe.yaml", "--json")
    content = json.loads(done.stdout)
    assert {"findings", "counts"} <= set(content)
    (tmp_path / "d" / "images" / "00000.png").write_bytes(b"")
    done = ens_here("audit", "d/recipe.yaml", "--strict", expect=1)
    assert "error empty" in done.stdout
    finding = json.loads(ens_here("audit", "d/recipe.yaml", "--json").stdout)["findings"][0]
    assert {"code", "severity", "message", "fix", "mend", "files"} <= set(finding)
    ens_here("audit", "d/missing.yaml", expect=2)


def test_files_left_out_and_spaces_around_labels_are_findings(tmp_path):
    for i in range(20):
        place = tmp_path / "d" / ("cat", "dog", "cat ")[i % 3] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (i * 10, 0, 0)).save(place)
    (tmp_path / "d" / "cat" / "notes.txt").write_text("x")
    (tmp_path / "r.yaml").write_text(
        f"name: r\ndata: {{source: {tmp_path / 'd'}}}\nmembers: {{m: {{backbone: test_resnet}}}}\n"
    )
    audit = audit_recipe(Recipe.load(tmp_path / "r.yaml").spec, tmp_path / "artifacts")
    found = {finding.code: finding for finding in audit.findings}
    assert found["left_out"].severity == "note"
    assert found["left_out"].files == ("cat/notes.txt",)
    assert found["label_spaces"].severity == "warning"
    assert len(found["blank"].files) == 20  # and nothing is left to compare


@pytest.mark.parametrize(
    ("highest", "bits"), [(1023, 10), (4095, 12), (16383, 14), (40000, None)]
)
def test_sixteen_bits_that_are_hardly_used_are_a_finding(tmp_path, highest, bits):
    rng = np.random.default_rng(0)
    for i in range(20):
        place = tmp_path / "d" / "ab"[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        levels = rng.integers(0, highest // 8, (16, 16)).astype(np.uint16)
        levels[i % 16, 3] = highest
        Image.fromarray(levels).save(place)
    text = f"name: r\ndata: {{source: {tmp_path / 'd'}}}\nmembers: {{m: {{backbone: test_resnet}}}}\n"
    (tmp_path / "r.yaml").write_text(text)
    find = lambda *given: {  # noqa: E731
        f.code: f
        for f in audit_recipe(
            Recipe.load(tmp_path / "r.yaml", given).spec, tmp_path / "artifacts"
        ).findings
    }
    found = find().get("narrow_range")
    assert (found and found.fix) == (bits and f"input: {{bits: {bits}}}")
    if bits:
        assert f"use the levels of {bits} bits alone" in found.message
        assert "narrow_range" not in find(f"input.bits={bits}")
