"""Members go into a pool and out of it again, by whoever has the same folds."""

import json
import warnings

import numpy as np
import pytest
from pools import pool_files

from ensembler.errors import RequestError, UnknownNameError
from ensembler.predictions.store import RunStore
from ensembler.sharing.ls import list_pool
from ensembler.sharing.pull import pull_members
from ensembler.sharing.share import share_run


@pytest.fixture
def pool(tmp_path, team):
    ann, _ = team
    share_run(ann, str(tmp_path / "pool"), author="Ann", note="first tries")
    return tmp_path / "pool"


def test_a_pulled_member_predicts_what_its_author_predicts(team, pool):
    ann, bob = team
    taken = pull_members(bob, str(pool))
    assert taken.members == ("a", "b@Ann")
    for theirs, mine in {"a": "a", "b": "b@Ann"}.items():
        here, there = RunStore(bob.folder).member(mine), ann.member(theirs)
        assert np.array_equal(here.oof_logits, there.oof_logits)
        assert np.array_equal(here.test_logits, there.test_logits)
        assert (here.record.origin, here.record.author) == ("pulled", "Ann")
    assert taken.renamed == {"b@Ann": "b"}


def test_scores_of_a_pulled_member_are_computed_here(team, pool):
    _, bob = team
    pull_members(bob, str(pool))
    scores = RunStore(bob.folder).member("a").record.scores
    assert scores["oof"]["accuracy"] > 0.5
    assert scores["holdout"]["accuracy"] > 0.5


def test_a_second_share_writes_nothing_and_a_second_pull_takes_nothing(team, pool):
    ann, bob = team
    before = pool_files(pool)
    again = share_run(ann, str(pool), author="Ann", note="first tries")
    assert (again.members, again.already, again.bytes) == (("a", "b"), ("a", "b"), 0)
    assert pool_files(pool) == before
    first = pull_members(bob, str(pool))
    second = pull_members(RunStore(bob.folder), str(pool))
    assert second.members == first.members == second.already
    assert RunStore(bob.folder).complete_members == ["a", "b", "b@Ann", "c"]


def test_members_of_the_same_name_by_two_authors_are_both_in_the_pool(team, pool):
    _, bob = team
    share_run(bob, str(pool), author="Bob")
    found = [(member.name, member.author) for member in list_pool(str(pool)).members]
    assert found == [("a", "Ann"), ("b", "Ann"), ("b", "Bob"), ("c", "Bob")]


def test_ones_own_members_are_there_already_and_those_of_others_are_not_shared_again(
    team, pool
):
    ann, bob = team
    assert pull_members(ann, str(pool)).already == ("a", "b")
    pull_members(bob, str(pool))
    shared = share_run(RunStore(bob.folder), str(pool), author="Bob")
    assert shared.members == ("b", "c")
    assert {left.member: left.reason for left in shared.skipped} == {
        "a": "it came from Ann, who shares it",
        "b@Ann": "it came from Ann, who shares it",
    }


def test_one_member_can_be_pulled_by_name_or_by_author(team, pool):
    _, bob = team
    assert pull_members(bob, str(pool), members=["b@Ann"]).members == ("b@Ann",)
    with pytest.raises(UnknownNameError, match="did you mean"):
        pull_members(bob, str(pool), members=["b@Anne"])


def test_an_unknown_member_is_refused_before_anything_is_written(team, tmp_path):
    with pytest.raises(UnknownNameError):
        share_run(team[0], str(tmp_path / "new"), members=["a", "nosuch"])
    assert not (tmp_path / "new").exists()


def test_a_folder_that_holds_other_things_does_not_become_a_pool(team, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("")
    with pytest.raises(RequestError, match="not a pool and not empty"):
        share_run(team[0], str(tmp_path / "notes"))
    with pytest.raises(RequestError, match="is not a pool"):
        pull_members(team[0], str(tmp_path / "notes"))


def test_paths_of_the_authors_machine_are_not_shared(team, tmp_path):
    ann, _ = team
    lock = {"recipe": {"data": {"source": "/home/ann/secret/images.csv"}}, "classes": {}}
    ann.recipe_lock_path.write_text(json.dumps(lock))
    path = ann.folder / "members" / "a" / "member.json"
    record = json.loads(path.read_text())
    record["options"] = {"checkpoint": "/home/ann/weights.safetensors"}
    record["environments"] = [None, {"code": "/home/ann/net.py"}, None]
    path.write_text(json.dumps(record))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        share_run(RunStore(ann.folder), str(tmp_path / "new"), author="Ann")
    assert not any(
        b"/home/ann" in content for content in pool_files(tmp_path / "new").values()
    )


def test_the_commands_answer_in_json(team, ens_here, tmp_path):
    ann, bob = team
    shared = json.loads(
        ens_here("share", ann.folder, "pool", "--author", "Ann", "--json").stdout
    )
    assert (shared["members"], shared["skipped"]) == (["a", "b"], [])
    listing = json.loads(ens_here("ls", "pool", "--json").stdout)
    assert [member["name"] for member in listing["members"]] == ["a", "b"]
    pulled = json.loads(ens_here("pull", "pool", bob.folder, "--json").stdout)
    assert (pulled["members"], pulled["skipped"]) == (["a", "b@Ann"], [])
    assert "took" not in ens_here("pull", "pool", bob.folder).stdout
    assert "Ann" in ens_here("ls", "pool").stdout
