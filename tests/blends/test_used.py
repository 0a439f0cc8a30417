"""What a blend does not use of its members is not read, and nothing is said about it."""

import numpy as np
import pytest

from ensembler.blending.spec import BlendSpec
from ensembler.blends.apply import members_below
from ensembler.blends.blend import blend_run
from ensembler.blends.current import is_current, members_changed_since
from ensembler.blends.used import used_members
from ensembler.errors import UnknownNameError
from ensembler.files import read_json, write_json
from ensembler.predictions.members import Member
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_member, write_fake_run


@pytest.fixture
def run(tmp_path):
    strengths = {"good": 2.5, "fair": 2.0, "other": 1.5, "noise": 0.0}
    return write_fake_run(tmp_path / "artifacts" / "run", strengths, n_train=200)


@pytest.mark.parametrize("weights", [{"a": 1, "c": 2}, {"a": 1, "b": 0, "c": 2}, (1, 0, 2)])
def test_members_with_a_weight_are_used_in_the_pools_order(weights):
    spec, names = used_members(BlendSpec(weights=weights), ("a", "b", "c"))
    assert (spec.weights, names) == ({"a": 1, "c": 2}, ["a", "c"])


def test_all_are_used_where_no_weights_are_given():
    spec = BlendSpec(method="greedy")
    assert used_members(spec, ("a", "b")) == (spec, ("a", "b"))


def test_a_weight_of_an_unknown_member_is_an_error_even_if_it_is_zero():
    with pytest.raises(UnknownNameError, match="member in weights 'z'"):
        used_members(BlendSpec(weights={"a": 1, "z": 0}), ("a", "b"))


def test_the_arrays_of_members_without_weight_are_not_opened(run, monkeypatch):
    read, real = set(), Member.oof

    def oof(member, *given):
        read.add(member.name)
        return real(member, *given)

    monkeypatch.setattr(Member, "oof", oof)
    made = blend_run(run, BlendSpec(weights={"good": 2, "other": 1, "noise": 0}))
    assert read == {"good", "other"}
    assert made.result.weights == {
        "good": pytest.approx(2 / 3),
        "other": pytest.approx(1 / 3),
    }
    assert made.to_json()["weights"] == {**made.result.weights, "fair": 0, "noise": 0}
    assert members_below(run, "weights") == ["good", "other"]


def test_a_blend_by_hand_stays_current_and_is_outdated_by_its_own_members_only(run):
    spec = BlendSpec(weights={"good": 2, "other": 1})
    blend_run(run, spec)
    assert is_current(run, spec, run.pool_members, None)
    for name, changed in (("noise", []), ("good", ["good"])):
        member = run.member(name)
        logits = (np.array(member.oof_logits) + 1, np.array(member.test_logits))
        write_fake_member(
            run.folder, name, *logits, run.classes("label"), member.record.views
        )
        assert members_changed_since(RunStore(run.folder), "weights") == changed


def test_warnings_name_members_without_weight_only_when_they_may_be_leaked(run):
    path = run.folder / "members" / "noise" / "member.json"
    write_json(path, read_json(path) | {"chosen_by": "best"})
    run = RunStore(run.folder)
    soft = {w["code"] for w in blend_run(run, BlendSpec(method="soft")).result.warnings}
    assert {"worse_than_prior", "chosen_by_score"} <= soft
    greedy = blend_run(run, BlendSpec(method="greedy")).result
    assert greedy.weights["noise"] == 0
    assert not [w for w in greedy.warnings if w["member"] == "noise"]
