"""Blends of a store: of blends, of priced members, of pools larger than memory."""

import numpy as np
import pytest

from ensembler.blending.spec import BlendSpec
from ensembler.blends.apply import apply_blend
from ensembler.blends.blend import blend_run
from ensembler.blends.pool import read_pool
from ensembler.errors import RequestError, UnknownNameError
from ensembler.files import read_json, write_json
from ensembler.predictions.store import RunStore
from ensembler.predictions.testing import write_fake_member


def test_a_blend_may_be_a_member_of_another(fake_run):
    inner = blend_run(fake_run, BlendSpec(method="soft"))
    outer = blend_run(
        fake_run, BlendSpec(method="soft", name="outer", members=("a", "blend:soft"))
    )
    assert outer.result.members == ("a", "blend:soft")
    a = fake_run.member("a").oof(fake_run.classes("label"))
    assert np.allclose(outer.result.oof, (a + inner.result.oof) / 2, atol=1e-6)
    assert fake_run.blend("outer").record.members == ("a", "blend:soft")


def test_a_blend_cannot_be_made_of_itself(fake_run):
    blend_run(fake_run, BlendSpec(method="soft"))
    blend_run(fake_run, BlendSpec(method="geometric", members=("a", "blend:soft")))
    with pytest.raises(RequestError, match="cannot be made of itself"):
        blend_run(fake_run, BlendSpec(method="soft", members=("blend:geometric", "b")))


def test_a_blend_of_blends_predicts_new_samples(fake_run):
    blend_run(fake_run, BlendSpec(method="soft"))
    outer = blend_run(
        fake_run, BlendSpec(method="soft", name="outer", members=("a", "blend:soft"))
    )
    classes = fake_run.classes("label")
    test = {(name, "label"): fake_run.member(name).test(classes) for name in ("a", "b")}
    assert np.allclose(apply_blend(fake_run, "outer", test), outer.result.test, atol=1e-6)


def test_a_pool_that_memory_cannot_hold_is_read_from_disk_with_the_same_result(
    fake_run, monkeypatch
):
    usual = read_pool(fake_run).pool
    monkeypatch.setenv("ENS_STACK_MEMORY", "100")
    mapped = read_pool(fake_run).pool
    assert isinstance(mapped.oof, np.memmap)
    assert np.array_equal(usual.oof, mapped.oof)
    assert all(isinstance(test, np.memmap) for test in mapped.test)
    assert all(np.array_equal(*pair) for pair in zip(usual.test, mapped.test, strict=True))
    result = blend_run(fake_run, BlendSpec(method="auto")).result
    monkeypatch.delenv("ENS_STACK_MEMORY")
    assert np.array_equal(
        result.oof, blend_run(fake_run, BlendSpec(method="auto")).result.oof
    )
    monkeypatch.setenv("ENS_STACK_MEMORY", "much")
    with pytest.raises(RequestError, match="a number of bytes"):
        read_pool(fake_run)


def test_a_target_that_is_not_there_is_an_error_whether_members_are_named_or_not(fake_run):
    with pytest.raises(UnknownNameError, match="unknown target 'lable'"):
        read_pool(fake_run, target="lable")
    with pytest.raises(UnknownNameError, match="unknown target 'lable' of member 'a'"):
        read_pool(fake_run, ["a"], target="lable")


def test_costs_come_from_what_predicting_took(fake_run):
    path = fake_run.member("a").folder / "member.json"
    write_json(path, {**read_json(path), "seconds_by_phase": {"predicting": 12.0}})
    store = RunStore(fake_run.folder)
    n_train, n_test, folds = len(store.samples.train), len(store.samples.test), 3
    expected = 12.0 / (n_train + folds * n_test) * folds
    assert read_pool(store).pool.costs == {"a": pytest.approx(expected)}
    assert read_pool(store, costs={"b": 1.0}).pool.costs["b"] == 1.0
    result = blend_run(
        store, BlendSpec(method="soft", max_cost=expected), costs={"b": 9.0}
    ).result
    assert result.members == ("a",)


def test_a_member_of_another_number_of_folds_is_named(fake_run):
    oof, test = fake_run.member("a").oof_logits, fake_run.member("a").test_logits
    write_fake_member(
        fake_run.folder,
        "odd",
        oof,
        np.concatenate([test, test]),
        fake_run.classes("label"),
        ("identity", "hflip"),
    )
    assert read_pool(RunStore(fake_run.folder)).pool.other_folds == ("odd",)


def test_new_samples_are_predicted_by_the_members_a_budget_bought_and_a_leak_that_was_trusted(
    fake_run, monkeypatch
):
    classes = fake_run.classes("label")
    bought = blend_run(
        fake_run,
        BlendSpec(method="soft", name="cheap", max_cost=1.0),
        costs={"a": 1.0, "b": 5.0},
    )
    assert bought.result.members == ("a",)
    test = {("a", "label"): fake_run.member("a").test(classes)}
    assert np.allclose(apply_blend(fake_run, "cheap", test), bought.result.test, atol=1e-6)

    import ensembler.blending.admission as admission

    monkeypatch.setattr(admission, "suspected", lambda _: ["b"])
    trusted = blend_run(fake_run, BlendSpec(name="trusted"), trust=("b",))
    assert trusted.result.members == ("a", "b")
    test = {(name, "label"): fake_run.member(name).test(classes) for name in ("a", "b")}
    assert np.allclose(
        apply_blend(fake_run, "trusted", test), trusted.result.test, atol=1e-6
    )


def with_a_twin(run):
    a = run.member("a")
    views = a.record.views
    oof, test = np.array(a.oof_logits), np.array(a.test_logits)
    write_fake_member(
        run.folder, "twin", oof + 0.01, test + 0.01, run.classes("label"), views
    )
    return RunStore(run.folder)


@pytest.mark.parametrize(
    "weights",
    [{"a": 1.0, "b": 2.0, "twin": 1.0}, [1.0, 2.0, 1.0]],
    ids=["named", "in order"],
)
def test_new_samples_are_predicted_with_weights_of_which_some_were_pruned(
    fake_run, weights
):
    run = with_a_twin(fake_run)
    made = blend_run(run, BlendSpec(method="weights", weights=weights, prune=0.05))
    assert len(made.result.members) == 2
    test = {
        (name, "label"): run.member(name).test(run.classes("label"))
        for name in made.result.members
    }
    assert np.allclose(apply_blend(run, "weights", test), made.result.test, atol=1e-6)


def test_new_samples_are_predicted_by_the_candidate_that_auto_took_then(fake_run):
    classes = fake_run.classes("label")
    for name in ("a", "b"):  # far too certain: with time for it, auto takes a temperature
        logits = [
            5 * np.array(part)
            for part in (
                fake_run.member(name).oof_logits,
                fake_run.member(name).test_logits,
            )
        ]
        write_fake_member(
            fake_run.folder, name, *logits, classes, fake_run.member(name).record.views
        )
    run = RunStore(fake_run.folder)
    hurried = blend_run(run, BlendSpec(), budget=0.0)
    assert hurried.result.details.chosen == "simplex"
    assert blend_run(run, BlendSpec(name="patient")).result.details.chosen != "simplex"
    test = {(name, "label"): run.member(name).test(classes) for name in ("a", "b")}
    assert np.allclose(apply_blend(run, "auto", test), hurried.result.test, atol=1e-6)


def test_a_blend_recorded_with_the_old_name_of_a_metric_predicts_new_samples(fake_run):
    made = blend_run(fake_run, BlendSpec(method="greedy", metric="quadratic_kappa"))
    path = fake_run.blend_folder("greedy") / "blend.json"
    record = read_json(path)
    record["spec"]["metric"] = "cohen_kappa"
    write_json(path, record)
    run = RunStore(fake_run.folder)
    classes = run.classes("label")
    test = {(name, "label"): run.member(name).test(classes) for name in ("a", "b")}
    assert np.allclose(apply_blend(run, "greedy", test), made.result.test, atol=1e-6)


def test_rows_that_a_member_lacks_are_left_out_of_mapped_pools_too(fake_run, monkeypatch):

    oof = np.array(fake_run.member("a").oof_logits)
    oof[:, 5:9] = np.nan
    write_fake_member(fake_run.folder, "some", oof, fake_run.member("a").test_logits, classes=fake_run.classes("label"),
                      views=("identity", "hflip"))  # fmt: skip
    path = fake_run.folder / "members" / "some" / "member.json"
    write_json(path, {**read_json(path), "partial": True})
    store = RunStore(fake_run.folder)
    usual = read_pool(store, common_rows=True)
    assert set(range(60)) - set(usual.rows) == {5, 6, 7, 8}
    whole = store.member("b").oof(store.classes("label"))
    assert np.array_equal(usual.pool.choose(["b"]).oof[0], whole[usual.rows])
    monkeypatch.setenv("ENS_STACK_MEMORY", "100")
    assert np.array_equal(read_pool(store, common_rows=True).pool.oof, usual.pool.oof)


def test_a_blend_removes_what_killed_processes_left_in_a_run_that_no_recipe_made(fake_run):
    left = [
        fake_run.folder / ".recipe.lock.json.0123456789abcdef.aside",
        fake_run.folder / "members" / "m0" / ".views.lock",
        fake_run.folder / ".training" / "m0" / ".fold0.lock",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    blend_run(fake_run, BlendSpec(method="soft"))
    assert [path for path in left if path.exists()] == []


def test_members_whose_epochs_were_chosen_by_their_score_are_named(fake_run):
    path = fake_run.folder / "members" / "a" / "member.json"
    write_json(path, read_json(path) | {"chosen_by": "best"})
    result = blend_run(RunStore(fake_run.folder), BlendSpec(method="soft")).result
    assert [w["member"] for w in result.warnings if w["code"] == "chosen_by_score"] == ["a"]
    assert "chosen_by_score" in {w.code for w in fake_run.blend("soft").record.warnings}


def test_a_blend_of_members_that_predict_otherwise_now_is_submitted_with_a_word(fake_run):
    from ensembler.blends.submit import submit_run

    blend_run(fake_run, BlendSpec(method="soft"))
    assert submit_run(fake_run, "soft").notes == ()
    member = fake_run.member("a")
    write_fake_member(
        fake_run.folder,
        "a",
        np.array(member.oof_logits) + 1,
        np.array(member.test_logits),
        fake_run.classes("label"),
    )
    (note,) = submit_run(RunStore(fake_run.folder), "soft").notes
    assert note.startswith(
        "blend 'soft' was made before the predictions of a changed; `ens blend fake` with --name "
        "soft"
    )


def test_blends_of_earlier_versions_do_not_say_what_they_were_made_from(fake_run):
    from ensembler.blends.submit import submit_run

    blend_run(fake_run, BlendSpec(method="soft"))
    path = fake_run.blend_folder("soft") / "blend.json"
    record = read_json(path)
    del record["made_from"]
    write_json(path, record)
    assert submit_run(RunStore(fake_run.folder), "soft").notes == ()
