import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from ensembler.predictions.samples import write_samples
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_member, write_fake_run
from ensembler.report.report import report_run
from ensembler.run import Run

HOSTILE = "<script>alert(1)</script>"
LONG = "long-" + "x" * 195


class Parsed(HTMLParser):
    """The tags of a page, its ids, what it would fetch, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.fetched, self.text = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if "id" in found:
            self.ids.append(found["id"])
        for key in ("src", "href", "xlink:href", "action"):
            if key in found:
                self.fetched.append(found[key])

    def handle_data(self, data):
        self.text.append(data)

    def count(self, tag):
        return sum(name == tag for name, _ in self.tags)


def page_of(store, **options):
    written = report_run(store, store.folder.parent, **options)
    assert written.file.stat().st_size == written.size
    return Parsed(written.file.read_text())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "fake"
    members = {"a": 1.5, "b": 1.0, "c": 0.7}
    store = write_fake_run(folder, members, classes=("cat", LONG, HOSTILE))
    Run(store).blend("soft", submit=True)
    return RunStore(folder)


@pytest.fixture(scope="module")
def page(run):
    return page_of(run)


def test_the_answer_comes_first_in_these_words(run, page):
    text = " ".join(page.text)
    score = run.blend("soft").record.scores["cross_fitted"]["log_loss"]
    assert f"cross-fitted log loss is {score:.4f}" in text
    assert "95 % interval" in text
    titles = re.findall(r"<h2[^>]*>([^<]*)", run.folder.joinpath("report.html").read_text())
    assert titles[0] == "In short"
    assert "Members and blends" in titles
    assert "Classes" in titles


def test_nothing_is_fetched_and_only_the_page_s_own_script_runs(page):
    assert all(place.startswith(("#", "data:")) for place in page.fetched)
    assert page.count("script") == page.count("style") == 1
    policy = next(
        found["content"]
        for tag, found in page.tags
        if found.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'; img-src data:")
    assert "unsafe" not in policy


def test_hostile_and_long_names_are_text(page):
    assert HOSTILE in "".join(page.text)
    assert LONG in "".join(page.text)


def test_headings_have_their_places_once_and_pictures_say_what_they_are(page):
    assert len(page.ids) == len(set(page.ids))
    assert {place[1:] for place in page.fetched if place.startswith("#")} <= set(page.ids)
    for tag, found in page.tags:
        assert tag != "img" or found["alt"]
        if tag == "svg":
            assert found.get("aria-hidden") or (found["role"], bool(found["aria-label"]))
    assert all("style" not in found for _, found in page.tags)


def test_what_is_not_there_is_no_empty_box(page):
    titles = [found.get("id") for tag, found in page.tags if tag == "section"]
    assert "learning" not in titles
    assert "audit" not in titles
    assert "time" not in titles
    assert page.count("table") > 5


def test_a_run_without_a_finished_member_has_a_page(tmp_path):
    store = write_fake_run(tmp_path / "half", {"a": 1.0, "b": 1.0})
    for name in ("a", "b"):
        (store.folder / "members" / name / "member.json").unlink()
    failed = {"message": "loss is not finite in epoch 1"}
    (store.folder / "members" / "b" / "failed.json").write_text(json.dumps(failed))
    text = "".join(page_of(RunStore(store.folder)).text)
    assert "No member is complete yet" in text
    assert "loss is not finite in epoch 1" in text


def test_a_run_of_several_labels_at_once_has_its_classes_and_no_confusion_matrix(tmp_path):
    store = write_fake_run(tmp_path / "sets", {"x": 1.0}, n_train=120, n_test=0)
    rng = np.random.default_rng(0)
    given = rng.random((120, 3)) < 0.4
    classes = np.array(["cat", "dog", "eel"])
    table = store.samples.table
    table["label"] = ["|".join(classes[row]) or "|" for row in given]
    write_samples(store.samples_path, table)
    shutil.rmtree(store.folder / "members" / "x")
    for name in ("a", "b", "c"):
        logits = (rng.normal(size=(120, 3)) + 2 * given - 1).astype(np.float32)
        empty = np.zeros((3, 1, 0, 3), np.float32)
        write_fake_member(store.folder, name, logits[None], empty, classes.tolist())
        record = store.folder / "members" / name / "member.json"
        content = json.loads(record.read_text()) | {"multi_label": ["label"]}
        record.write_text(json.dumps(content))
    store = RunStore(store.folder)
    Run(store).blend("soft")
    text = "".join(page_of(RunStore(store.folder)).text)
    assert "What could not be shown" not in text
    assert "Classes of label, blend soft" in text
    assert "labels are expected to be wrong" in text
    assert "Confusion matrix" not in text


def test_an_altered_file_is_said_and_the_rest_is_shown(tmp_path):
    store = write_fake_run(tmp_path / "altered", {"a": 1.0, "b": 1.0, "c": 0.5})
    path = store.folder / "members" / "b" / "oof.npy"
    np.save(path, np.load(path) + 1)
    page = page_of(RunStore(store.folder))
    text = "".join(page.text)
    assert "What could not be shown" in text
    assert "member b" in text
    assert "Members and blends" in text


def test_kept_digests_give_the_same_page_and_a_cut_one_is_made_again(run):
    def body():
        text = report_run(run, run.folder.parent).file.read_text()
        return re.sub("Written .*? by", "", text)

    first = body()
    kept = sorted((run.folder.parent / ".cache" / "digests").glob("*.npz"))
    assert len(kept) == 4
    kept[0].write_bytes(kept[0].read_bytes()[:100])
    assert body() == first
    assert body() == first


def test_a_command_writes_it_where_it_is_asked_for(ens_here, tmp_path):
    write_fake_run(tmp_path / "artifacts" / "fake", {"a": 1.0, "b": 0.5})
    out = tmp_path / "pages" / "mine.html"
    answer = json.loads(ens_here("report", "fake", "--out", out, "--json").stdout)
    assert answer["file"] == str(out)
    assert answer["bytes"] == out.stat().st_size < 200_000
    assert not (tmp_path / "artifacts" / "fake" / "report.html").exists()
    assert "unknown run" in ens_here("report", "fak", expect=2).stderr
