"""What fewer networks cost and are worth, and the best that a budget buys."""

import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import pytest

from ensembler.errors import RequestError, StoreError
from ensembler.members.cost import Costs, MemberCost
from ensembler.pipeline import frontier as steps
from ensembler.pipeline.frontier import Limits, blend_within, frontier
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_run
from ensembler.run import Run

SECONDS = {"a": 0.004, "b": 0.002, "c": 0.001}
SIZES = {"a": 8_000_000, "b": 4_000_000, "c": 1_000_000}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run with three members, of which the dearest is the best, and a blend of all."""
    strengths = {"a": 1.0, "b": 0.7, "c": 0.4}
    store = write_fake_run(tmp_path / "run", strengths, n_train=240)
    run = Run(store)
    run.blend("soft", name="full", submit=True)
    costs = {name: MemberCost(SECONDS[name], SIZES[name], 3) for name in SECONDS}
    monkeypatch.setattr(Costs, "of", lambda _, name: costs[name])
    monkeypatch.setattr(steps, "check_run_is_trainable", lambda _: None)
    monkeypatch.setattr(steps.Recipe, "load_recorded", lambda _: SimpleNamespace(spec=None))
    monkeypatch.setattr(steps, "code_named_by", lambda _: {})
    monkeypatch.setattr(steps, "introduce_code", lambda *_: None)
    return run


@pytest.fixture
def found(run):
    return frontier(run.store)


def test_it_has_the_full_blend_the_best_member_and_smaller_blends(found, run):
    kinds = {point.kind for point in found.points}
    assert kinds == {"blend", "member", "pruned"}
    by_kind = {point.kind: point for point in found.points}
    assert by_kind["blend"].members == ("a", "b", "c")
    assert by_kind["blend"].cost == MemberCost(0.007, 13_000_000, 9)
    assert by_kind["blend"].score.value == pytest.approx(
        run.store.blend("full").record.scores["cross_fitted"]["log_loss"]
    )
    assert by_kind["member"].members == ("a",)
    for point in found.points:
        assert point.score.low < point.score.value < point.score.high
        if point.kind == "pruned":
            assert point.cost.seconds <= 0.0035
    seconds = [point.cost.seconds for point in found.points]
    assert seconds == sorted(seconds)


def test_a_student_and_a_soup_are_called_so(run):
    from ensembler.files import read_json, write_json

    store = run.store
    path = store.member_folder("b") / "member.json"
    write_json(path, {**read_json(path), "weights_of": [["a", "c"]]})
    lock = {"format": 1, "students": ["c"]}
    write_json(store.recipe_lock_path, lock)
    fresh = Run(RunStore(store.folder))
    fresh.blend("single", name="c", members=["c"])
    points = frontier(fresh.store, "full").points
    kinds = {(point.kind, point.members) for point in points}
    assert ("soup", ("b",)) in kinds
    assert ("student", ("c",)) in kinds


def test_the_best_that_fits_becomes_a_blend(run):
    store = run.store
    assert blend_within(store, Limits(seconds=0.007)) in ("full", "packed")
    name = blend_within(store, Limits(seconds=0.002))
    assert name == "packed"
    assert set(store.blend("packed").record.members) <= {"b", "c"}
    small = Limits(bytes=2_000_000, bytes_of_weights=1_500_000)
    blend_within(store, small)
    assert store.blend("packed").record.members == ("c",)
    with pytest.raises(RequestError, match="nothing in run 'run' fits"):
        blend_within(store, Limits(seconds=0.0001))


def test_limits_are_read_and_checked(tmp_path):
    found = Limits.parse("5ms", "50MB", "float16")
    assert found.seconds == 0.005
    assert found.bytes == 50e6
    assert found.allow(MemberCost(0.004, 90_000_000, 1))
    assert not found.allow(MemberCost(0.006, 1, 1))
    assert not Limits.parse(None, "50MB", "float32").allow(MemberCost(9.0, 60_000_000, 1))
    with pytest.raises(RequestError, match="50 potatoes"):
        Limits.parse(None, "50 potatoes", "float32")
    path = tmp_path / "x.ens"
    path.write_bytes(bytes(2000))
    with pytest.raises(StoreError, match="above --max-size"):
        Limits.parse(None, "1kB", "float32").check(path)
    assert not path.exists()


def test_the_figure_is_a_picture_with_every_point(found):
    root = ElementTree.fromstring(found.figure())
    circles = root.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(circles) == len(found.points)
