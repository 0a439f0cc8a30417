import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from ensembler import Recipe, Run
from ensembler.blends.submit import submit_run
from ensembler.errors import (
    ChangedRecipeError,
    DataError,
    RecipeError,
    RequestError,
    UnknownNameError,
)
from ensembler.machine.execution import Execution
from ensembler.pipeline.run import run_recipe
from ensembler.pipeline.train import train_recipe
from ensembler.progress import Progress

pytestmark = pytest.mark.slow


def run(recipe, *overrides, **options):
    return run_recipe(
        Recipe.load(recipe, overrides), recipe.parent / "artifacts", **options
    )


def digests(folder, pattern="**/*.npy"):
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.glob(pattern))
    }


class Notes(Progress):
    def __init__(self):
        self.notes, self.warnings, self.tasks, self.epochs = [], [], [], 0

    def plan(self, tasks, at_once=1):
        self.tasks += tasks

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)

    def epoch(self, epoch):
        self.epochs += 1


def test_a_recipe_becomes_members_a_blend_and_a_submission(recipe):
    result = run(recipe, "blend.method=auto")
    assert result.trained == 6
    opened = Run.open("shapes", recipe.parent / "artifacts")
    samples = opened.samples
    assert samples["split"].value_counts().to_dict() == {"train": 48, "test": 27}
    for member in opened.members.values():
        assert member.oof_logits.shape == (2, 48, 5)
        assert member.test_logits.shape == (3, 2, 27, 5)
        assert {f"fold{k}.safetensors" for k in range(3)} <= set(member.record.sha256)
        assert member.record.scores["oof"]["log_loss"] > 0
    assert opened.blends["auto"].test.shape == (27, 5)
    submission = pd.read_csv(result.submission)
    asked = pd.read_csv(recipe.parent / "shapes" / "test.csv")
    assert submission["id"].tolist() == asked["path"].tolist()
    left = {p.name for p in result.folder.rglob("*") if p.is_file()}
    assert not [
        n
        for n in left
        if n.startswith(".") or n.endswith((".state", ".lock")) or "logits" in n
    ]


def test_out_of_fold_rows_come_from_checkpoints_that_never_saw_them(finished):
    """Predicting a fold's rows again with its own checkpoint gives the stored logits.

    With another's it does not.
    """
    from ensembler.inference.predict import predict_logits
    from ensembler.inference.views import expand_views
    from ensembler.members.plan import MemberPlan
    from ensembler.networks.checkpoint import load_checkpoint
    from ensembler.workspace.workspace import open_workspace

    workspace = open_workspace(Recipe.load(finished), finished.parent / "artifacts")
    plan = MemberPlan(workspace, workspace.members[0])
    member = workspace.store.member("narrow")
    rows = plan.rows.validated_in(1)
    images = workspace.image_rows[0][rows]
    assert not set(plan.rows.rows_of_fold(1, validation=False)) & set(images)
    for fold, same in ((1, True), (0, False)):
        network = load_checkpoint(
            member.folder / f"fold{fold}.safetensors", "cpu", plan.member.base
        )
        again = predict_logits(
            [network],
            plan.pixels,
            images,
            expand_views(["identity"]),
            classes=5,
            device="cpu",
        )
        assert np.array_equal(again[0, 0], member.oof_logits[0, rows]) == same


def test_a_second_run_trains_and_writes_nothing(finished):
    first = run(finished)
    before = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*") if p.is_file()}
    notes = Notes()
    second = run(finished, progress=notes)
    assert (second.trained, second.new_blend, notes.tasks) == (0, None, [])
    assert {
        p: p.stat().st_mtime_ns for p in first.folder.rglob("*") if p.is_file()
    } == before


def test_a_changed_member_alone_is_trained_again_and_the_reason_is_said(finished):
    first = run(finished)
    before = digests(first.folder / "members")
    notes = Notes()
    second = run(finished, "members.wide.epochs=1", progress=notes)
    assert second.trained == 3
    again, too_short = notes.notes[1:]
    assert again == "member 'wide' is trained again: epochs (2 there, 1 now) changed"
    assert too_short.startswith(
        "member 'wide' takes 2 steps from scratch, and in fewer than 300 "
    )
    after = digests(first.folder / "members")
    assert {k: v for k, v in before.items() if "narrow" in k} == {
        k: v for k, v in after.items() if "narrow" in k
    }
    assert before["wide/oof.npy"] != after["wide/oof.npy"]
    assert second.new_blend is not None
    assert not (first.folder / "members" / "wide" / ".retrain").exists()


def test_members_trained_with_an_older_augmentation_are_trained_again(recipe, monkeypatch):
    augments = ("augment=light", "members.wide.augment=none")
    assert run(recipe, *augments).trained == 6
    monkeypatch.setattr("ensembler.data.augment._VERSION", 3)
    notes = Notes()
    assert run(recipe, *augments, progress=notes).trained == 3
    reason = "the augmentation, which this version of ensembler draws differently, changed"
    assert notes.notes[1] == f"member 'narrow' is trained again: {reason}"
    assert [note for note in notes.notes[2:] if "steps from scratch" not in note] == []


def test_the_old_member_stays_until_the_new_one_is_complete(finished):
    first = run(finished)
    old = digests(first.folder / "members" / "wide", "*.npy")
    run(finished, "members.wide.epochs=1", members=["wide"], folds=[0])
    assert digests(first.folder / "members" / "wide", "*.npy") == old
    assert run(finished, "members.wide.epochs=1").trained == 2


def test_more_views_are_computed_without_training(finished):
    first = run(finished)
    weights = digests(first.folder, "members/*/*.safetensors")
    old = np.array(Run.open(first.folder).members["wide"].oof_logits)
    second = run(finished, "views=[identity, hflip, vflip]")
    member = Run.open(first.folder).members["wide"]
    assert second.trained == 0
    assert member.record.views == ("identity", "hflip", "vflip")
    assert np.array_equal(member.oof_logits[:2], old)
    assert np.isfinite(member.oof_logits).all()
    assert digests(first.folder, "members/*/*.safetensors") == weights
    assert Run.open(first.folder).evaluate(by_view=True).rows[2].view == "identity"


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("folds.count=4", "folds.count"),
        ("folds.holdout=0.3", "folds.holdout"),
        ("data.group=label", "data.group"),
    ],
)
def test_other_data_or_folds_are_another_run(recipe, override, key):
    run(recipe, members=["narrow"], folds=[0])
    with pytest.raises(ChangedRecipeError, match=f"{key} .*give this recipe another name"):
        run(recipe, override)


def test_an_edited_manifest_is_another_run(recipe):
    run(recipe, members=["narrow"], folds=[0])
    table = recipe.parent / "shapes" / "train.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(ChangedRecipeError, match="0 samples are new and 1 are gone"):
        run(recipe)


def test_parts_trained_apart_meet_and_give_the_same_bits(recipe, finished_run):
    whole = digests(finished_run / "artifacts" / "shapes" / "members")
    run(recipe, "name=parts", members=["wide"], folds=[1])
    run(recipe, "name=parts", members=["narrow"])
    assert digests(run(recipe, "name=parts").folder / "members") == whole


def test_there_is_a_submission_after_the_first_fold_and_the_record_says_of_what(recipe):
    result = run(recipe, members=["narrow"], folds=[0])
    versions = json.loads((result.folder / "submission.json").read_text())["versions"]
    assert versions[-1]["made_of"]["folds"] == {"narrow": [0]}
    assert len(pd.read_csv(result.submission)) == 15
    finished = run(recipe)
    versions = json.loads((finished.folder / "submission.json").read_text())["versions"]
    assert versions[-1]["made_of"]["blend"] == "soft"
    assert (
        hashlib.sha256(finished.submission.read_bytes()).hexdigest()
        == versions[-1]["sha256"]
    )


def test_a_member_that_fails_leaves_the_others_alone(recipe):
    notes = Notes()
    result = run(
        recipe,
        "members.wide.lr=1e30",
        "members.wide.opt=sgd",
        "members.wide.amp=off",
        progress=notes,
    )
    assert [f.member for f in result.failures] == ["wide"]
    assert "not finite in epoch" in result.failures[0].message
    assert "learning rate" in result.failures[0].message
    assert Run.open(result.folder).blends["soft"].record.members == ("narrow",)
    assert result.submission is not None
    again = run(recipe)
    assert again.failures == ()
    assert Run.open(result.folder).blends["soft"].record.members == ("narrow", "wide")


def test_a_factory_that_raises_fails_its_member_alone(recipe):
    result = run(recipe, "members.wide.model_args={width: -1}")
    assert "RuntimeError" in result.failures[0].message
    assert result.blend == "soft"


def test_repeated_folds_are_members_of_their_own(recipe):
    result = run(recipe, "folds.scheme=repeated", "folds.repeats=2", members=["narrow"])
    names = list(Run.open(result.folder).members)
    assert names == ["narrow-r1", "narrow-r2"]
    assert "fold_r2" in Run.open(result.folder).samples


def test_a_single_split_leaves_the_other_rows_missing_never_zero(recipe):
    result = run(recipe, "folds.scheme=single")
    member = Run.open(result.folder).members["wide"]
    rows = member.folds == 0
    assert 0 < rows.sum() < len(rows)
    assert np.isnan(member.oof_logits[:, ~rows]).all()
    assert result.blend == "soft"


def test_all_wrong_names_of_a_recipe_come_at_once_before_a_pixel_is_read(recipe):
    overrides = [
        "views=[hflop]",
        "augment=lite",
        "members.wide.backbone=resnet19",
        "members.narrow.opt=adamx",
    ]
    with pytest.raises(RecipeError) as caught:
        run(recipe, *overrides)
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 4
    assert all(hint in text for hint in ("'hflip'", "'light'", "'resnet18'", "'adam'"))
    assert not (recipe.parent / "artifacts").exists()


def test_broken_images_are_named_all_at_once_or_left_out(recipe):
    images = recipe.parent / "shapes" / "images"
    (images / "00000.png").write_bytes((images / "00000.png").read_bytes()[:200])
    (images / "00001.png").write_bytes(b"")
    with pytest.raises(DataError, match="2 images cannot be read") as caught:
        run(recipe)
    assert "00000.png" in str(caught.value)
    assert "00001.png: the file is empty" in str(caught.value)
    notes = Notes()
    result = run(recipe, "data.on_broken=skip", progress=notes)
    assert "2 images cannot be read and are left out" in notes.warnings[0]
    assert len(Run.open(result.folder).samples) == 73
    assert run(recipe, "data.on_broken=skip").trained == 0


def test_unknown_members_and_folds_are_refused(recipe):
    with pytest.raises(
        UnknownNameError, match="unknown member 'wode'; did you mean 'wide'"
    ):
        run(recipe, members=["wode"])
    with pytest.raises(RequestError, match="has folds 0 to 2"):
        run(recipe, folds=[3])


def test_kfold_trains_and_does_not_blend(recipe):
    result = train_recipe(
        Recipe.load(recipe), recipe.parent / "artifacts", members=["narrow"]
    )
    assert (result.complete, len(result.trained)) == (("narrow",), 3)
    assert not (recipe.parent / "artifacts" / "shapes" / "blends").exists()


def test_altered_weights_are_refused_before_they_predict(finished):
    from ensembler.errors import StoreError

    result = run(finished)
    path = result.folder / "members" / "narrow" / "fold1.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        StoreError, match=r"fold1\.safetensors is not the file that member\.json describes"
    ):
        run(finished, "views=[identity, hflip, rot90]")


@pytest.mark.parametrize("where", ["place_for_training", "_predict"])
def test_want_of_memory_fails_its_member_with_advice_and_leaves_the_others_alone(
    recipe, monkeypatch, where
):
    import torch

    from ensembler.members.fold import FoldTrainer
    from ensembler.training import learner

    holder = learner if where == "place_for_training" else FoldTrainer
    usual, calls = getattr(holder, where), []
    # a fold is trained with smaller and smaller parts of its batches, down to two images of 16
    failing = 4 if where == "place_for_training" else 1

    def full(*given):
        calls.append(given)
        if len(calls) <= failing:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return usual(*given)

    monkeypatch.setattr(holder, where, full)
    result = train_recipe(Recipe.load(recipe), recipe.parent / "artifacts")
    assert result.complete == ("wide",)
    (failure,) = result.failures
    assert (
        "out of memory with batch_size 16 at 16 px; batch_size: 8 with accumulate: 2"
        in failure.message
    )
    assert not list(recipe.parent.rglob("failed.log"))  # no fault of ours: nothing to trace


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def test_weights_altered_before_they_predict_are_named_and_the_fold_is_trained_again(
    recipe, finished_run, monkeypatch
):
    from ensembler.members.fold import FoldTrainer

    def die(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FoldTrainer, "_predict", die)
        run(recipe, members=["narrow"])
    path = (
        recipe.parent / "artifacts" / "shapes" / "members" / "narrow" / "fold0.safetensors"
    )
    flip_a_bit(path)
    notes = Notes()
    result = run(recipe, members=["narrow"], progress=notes)
    assert any(
        f"{path} was altered after it was saved" in w and "is trained again" in w
        for w in notes.warnings
    )
    assert digests(result.folder / "members" / "narrow") == digests(
        finished_run / "artifacts" / "shapes" / "members" / "narrow"
    )


def test_weights_altered_after_they_predicted_are_named_and_never_become_the_member(
    recipe, finished_run
):
    run(recipe, members=["narrow"], folds=[0, 1])
    folder = recipe.parent / "artifacts" / "shapes" / "members" / "narrow"
    flip_a_bit(folder / "fold0.safetensors")
    result = run(recipe, members=["narrow"])
    (failure,) = result.failures
    assert (
        f"{folder / 'fold0.safetensors'} was altered after it was saved" in failure.message
    )
    assert f"remove it and {folder / 'fold0.logits.safetensors'}" in failure.message
    # Who removes the logits alone has the fold trained again, not the altered network as a member.
    (folder / "fold0.logits.safetensors").unlink()
    assert run(recipe, members=["narrow"]).trained == 1
    whole = finished_run / "artifacts" / "shapes"
    assert digests(folder) == digests(whole / "members" / "narrow")


def test_other_weights_that_are_whole_are_told_from_altered_ones(recipe):
    run(recipe, members=["narrow"], folds=[0, 1])
    folder = recipe.parent / "artifacts" / "shapes" / "members" / "narrow"
    (folder / "fold0.safetensors").write_bytes((folder / "fold1.safetensors").read_bytes())
    (failure,) = run(recipe, members=["narrow"]).failures
    assert "holds another network than the one whose logits" in failure.message
    assert "to have the fold predicted again" in failure.message


def test_weights_of_a_version_that_kept_no_digest_still_predict(recipe, monkeypatch):
    from ensembler.networks import checkpoint

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_digest", lambda *_: None)
        run(recipe, members=["narrow"], folds=[0, 1])
    folder = recipe.parent / "artifacts" / "shapes" / "members" / "narrow"
    (folder / "fold0.logits.safetensors").unlink()
    assert run(recipe, members=["narrow"]).trained == 1  # fold 2 alone


def test_weights_are_averaged_on_the_processor_whatever_the_device(recipe, monkeypatch):
    from ensembler.networks import checkpoint

    run(recipe, "members.twin={}", members=["narrow", "twin"])
    usual, devices = checkpoint.load_checkpoint, []

    def load(path, device="auto", recipe=None):
        devices.append(device)
        return usual(path, device, recipe)

    def average(networks):
        assert {
            parameter.device.type
            for network in networks
            for parameter in network.parameters()
        } == {"cpu"}
        return networks[0]

    monkeypatch.setattr(checkpoint, "load_checkpoint", load)
    monkeypatch.setattr("ensembler.training.soup.average_weights", average)
    soup = "members.soup={method: soup, of: [narrow, twin]}"
    result = train_recipe(
        Recipe.load(recipe, ["members.twin={}", soup]),
        recipe.parent / "artifacts",
        members=["soup"],
    )
    assert result.complete == ("soup",)
    # In each of three folds the two that are averaged; the soup that predicts goes where it
    # computes.
    assert devices.count("cpu") == 6
    assert set(devices) == {"cpu", "auto"}


def test_a_soup_is_not_made_of_altered_weights(finished):
    folder = finished.parent / "artifacts" / "shapes" / "members" / "narrow"
    flip_a_bit(folder / "fold1.safetensors")
    kept = ["members.twin={}", "members.soup={method: soup, of: [narrow, twin]}"]
    result = run(finished, *kept, members=["twin", "soup"])
    assert "fold1.safetensors was altered after it was saved" in result.failures[0].message


def test_what_a_measurement_chose_is_kept_and_taken_again(recipe, monkeypatch):
    from recorded_graph import RecordingGraphs

    from ensembler.training import fold, step_choice

    monkeypatch.setattr(fold, "graphs_on", lambda _: RecordingGraphs())
    overrides = ["members.narrow.step=auto", "members.narrow.epochs=1"]
    train_recipe(
        Recipe.load(recipe, overrides),
        recipe.parent / "artifacts",
        members=["narrow"],
        folds=[0],
    )
    lock = json.loads(
        (recipe.parent / "artifacts" / "shapes" / "recipe.lock.json").read_text()
    )
    assert lock["choices"]["step"]["narrow"]["step"] == "eager"

    def again(*given):
        raise AssertionError("measured again")

    monkeypatch.setattr(step_choice.StepChooser, "_time", again)
    result = train_recipe(
        Recipe.load(recipe, overrides), recipe.parent / "artifacts", members=["narrow"]
    )
    assert result.complete == ("narrow",)
    # A choice for other networks does not count for these.
    changed = Recipe.load(recipe, [*overrides, "members.narrow.batch_size=8"])
    result = train_recipe(
        changed, recipe.parent / "artifacts", members=["narrow"], folds=[0]
    )
    assert "measured again" in result.failures[0].message


def test_views_that_were_interrupted_go_on_and_end_in_the_same_bytes(recipe, monkeypatch):
    from ensembler.inference import one_pass

    more = "views=[identity, hflip, rot90]"
    whole = run(recipe, "name=whole")
    run(recipe, "name=whole", more)
    cut = run(recipe, "name=cut")
    calls, predict = [], one_pass.predict_batch

    def stop_at_the_third(predictors, *rest):
        calls.append(len(predictors))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return predict(predictors, *rest)

    monkeypatch.setattr(one_pass, "predict_batch", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, "name=cut", more)
    run(recipe, "name=cut", more)
    # Both members in each batch: the batches of three folds (a view each) and then, for six
    # networks, the test images.
    assert sorted(calls) == [2, 2, 2, 2, 6]
    assert digests(cut.folder / "members") == digests(whole.folder / "members")
    assert not list(cut.folder.glob("members/*/.*"))


def test_a_member_of_seeds_is_given_more_views_and_predicts_new_images_as_the_mean_of_its_parts(
    recipe,
):
    from ensembler.pipeline.predict_new import predict_new
    from ensembler.predictions.store import RunStore
    from ensembler.workspace.workspace import workspace_of_run

    overrides = ["members.narrow.seeds=2", "members.narrow.as=ensemble"]
    result = run(recipe, *overrides, members=["narrow"])
    run(recipe, *overrides, "views=[identity, hflip, vflip]", members=["narrow"])
    store = RunStore(result.folder)
    member = store.member("narrow")
    assert member.record.views == ("identity", "hflip", "vflip")
    workspace = workspace_of_run(store)
    new = predict_new(workspace, recipe.parent / "shapes" / "test.csv", members=["narrow"])
    classes = store.classes("label")
    found = pd.read_csv(new.out).set_index("id")
    asked = member.samples.test["id"].isin(found.index).to_numpy()
    stored = member.test(classes).mean(axis=0)[asked]
    labels = [classes[i] for i in stored.argmax(axis=1)]
    assert found.loc[member.samples.test["id"][asked], found.columns[-1]].tolist() == labels


class Interrupt(Notes):
    """Ends the process, as it were, after so many epochs."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def epoch(self, epoch):
        super().epoch(epoch)
        if self.epochs == self.after:
            raise KeyboardInterrupt


def test_a_half_trained_fold_does_not_go_on_under_another_recipe(recipe):
    narrow = {"members": ["narrow"], "execution": Execution("cpu")}
    with pytest.raises(KeyboardInterrupt):
        run(recipe, progress=Interrupt(1), **narrow)
    changed = ("augment=heavy", "input.resize=crop")
    notes = Notes()
    run(recipe, *changed, progress=notes, **narrow)
    assert not [note for note in notes.notes if "goes on" in note]
    run(recipe, *changed, "name=clean", **narrow)
    logits = [
        Run.open(n, recipe.parent / "artifacts").members["narrow"].oof_logits
        for n in ("shapes", "clean")
    ]
    assert np.array_equal(*logits)


def test_whichever_member_of_a_training_is_asked_for_its_state_is_shared(recipe):
    also = "members.narrow.also=[ema]"
    with pytest.raises(KeyboardInterrupt):
        run(
            recipe,
            also,
            members=["narrow-ema"],
            execution=Execution("cpu"),
            progress=Interrupt(1),
        )
    notes = Notes()
    run(recipe, also, members=["narrow"], execution=Execution("cpu"), progress=notes)
    assert "narrow fold 0: resumes after epoch 1" in notes.notes
    # The weights of the other member came of the same training: nothing is left to train.
    assert (
        run(recipe, also, members=["narrow-ema"], execution=Execution("cpu")).trained == 0
    )
    assert {"narrow", "narrow-ema"} <= set(
        Run.open("shapes", recipe.parent / "artifacts").members
    )
    assert not (recipe.parent / "artifacts" / "shapes" / ".training").exists()


def test_images_that_show_something_else_are_another_run(recipe):
    from PIL import Image, ImageOps

    run(recipe, members=["narrow"], folds=[0], execution=Execution("cpu"))
    for path in (recipe.parent / "shapes").rglob("*.png"):
        ImageOps.invert(Image.open(path).convert("RGB")).save(path)
    with pytest.raises(ChangedRecipeError, match="what its images show"):
        run(recipe, members=["narrow"], execution=Execution("cpu"))


def test_changed_sample_weights_are_another_run(recipe):
    table = pd.read_csv(recipe.parent / "shapes" / "train.csv")
    table.assign(weight=1.0).to_csv(recipe.parent / "shapes" / "train.csv", index=False)
    weighed = ("data.weight=weight", "members.narrow.sampler=weights")
    run(recipe, *weighed, members=["narrow"], folds=[0], execution=Execution("cpu"))
    table.assign(weight=np.arange(len(table)) % 2 + 0.5).to_csv(
        recipe.parent / "shapes" / "train.csv", index=False
    )
    with pytest.raises(ChangedRecipeError, match="weights"):
        run(recipe, *weighed, members=["narrow"], execution=Execution("cpu"))


def test_a_starting_checkpoint_counts_by_its_content(recipe):
    run(recipe, members=["narrow"], folds=[0], execution=Execution("cpu"))
    weights = (
        recipe.parent / "artifacts" / "shapes" / "members" / "narrow" / "fold0.safetensors"
    )
    options = {"members": ["narrow"], "folds": [0], "execution": Execution("cpu")}
    starts = [recipe.parent / name for name in ("start.safetensors", "moved.safetensors")]
    for start in starts:
        start.write_bytes(weights.read_bytes())
    assert (
        run(recipe, "name=b", f"members.narrow.checkpoint={starts[0]}", **options).trained
        == 1
    )
    assert (
        run(recipe, "name=b", f"members.narrow.checkpoint={starts[1]}", **options).trained
        == 0
    )
    run(recipe, "name=c", "members.narrow.epochs=1", **options)
    starts[1].write_bytes(
        (recipe.parent / "artifacts/c/members/narrow/fold0.safetensors").read_bytes()
    )
    assert (
        run(recipe, "name=b", f"members.narrow.checkpoint={starts[1]}", **options).trained
        == 1
    )


def test_one_members_wrong_request_leaves_the_others_alone(recipe):
    networks = recipe.parent / "tinynets.py"
    networks.write_text(
        networks.read_text()
        + "\ndef picky(num_classes, in_chans):\n    raise ValueError('no')\n"
    )
    result = run(
        recipe,
        "members.narrow.backbone=tinynets:picky",
        "members.narrow.model_args={}",
        execution=Execution("cpu"),
    )
    assert {failure.member for failure in result.failures} == {"narrow"}
    assert list(Run.open("shapes", recipe.parent / "artifacts").members) == ["wide"]
    assert result.submission is not None


def test_a_member_that_cannot_be_completed_leaves_the_others_alone(recipe, monkeypatch):
    from ensembler.members import schedule

    real = schedule.complete_member

    def broken(plan, finished):
        if plan.member.name == "narrow":
            raise ValueError("out of range")
        real(plan, finished)

    monkeypatch.setattr(schedule, "complete_member", broken)
    result = run(recipe, execution=Execution("cpu"))
    assert [failure.member for failure in result.failures] == ["narrow"]
    assert list(Run.open("shapes", recipe.parent / "artifacts").members) == ["wide"]


def test_a_process_that_finishes_second_finds_the_member_complete(recipe, monkeypatch):
    from ensembler.members import schedule

    real, completed = schedule.read_finished_fold, []

    def late(folder, fold):
        if not completed and folder.name == "narrow":
            completed.append(True)
            # another process completes it now
            run(recipe, members=["narrow"], execution=Execution("cpu"))
        return real(folder, fold)

    monkeypatch.setattr(schedule, "read_finished_fold", late)
    result = run(recipe, execution=Execution("cpu"))
    assert completed
    assert not result.failures
    assert set(Run.open("shapes", recipe.parent / "artifacts").members) == {
        "narrow",
        "wide",
    }


def test_scores_that_flatter_are_marked(recipe):
    result = run(
        recipe,
        "members.narrow.choose=best",
        "members.wide.patience=1",
        execution=Execution("cpu"),
    )
    assert result.evaluation.optimistic == ("narrow", "wide")
    assert (
        run(
            recipe, "name=plain", members=["narrow"], execution=Execution("cpu")
        ).evaluation.optimistic
        == ()
    )


def test_the_record_says_what_chose_the_epoch_by_which_metric_and_that_it_flatters(recipe):
    wide = "members.wide={patience: 1, choose_by: accuracy, also: [ema], epochs: 3}"
    soup = "members.soup={method: soup, of: [wide, wide-ema]}"
    means = "members.narrow={choose: best, seeds: 2, as: ensemble}"
    result = run(recipe, wide, soup, means, "blend.method=soft", execution=Execution("cpu"))
    records = {
        path.parent.name: json.loads(path.read_text())
        for path in result.folder.glob("members/*/member.json")
    }
    told = {
        name: (record["chosen_by"], record.get("chosen_by_metric"), record["flattered"])
        for name, record in records.items()
    }
    by_loss = ("best", "log_loss", True)
    by_accuracy = ("patience", "accuracy", True)
    assert told == {
        **dict.fromkeys(("narrow", "narrow-s1", "narrow-s2"), by_loss),
        **dict.fromkeys(("wide", "wide-ema", "soup"), by_accuracy),
    }
    epochs = [len(history) for history in records["wide"]["history"]]
    assert records["wide-ema"]["chosen_epochs"] == epochs
    assert all(
        chosen <= n
        for chosen, n in zip(records["wide"]["chosen_epochs"], epochs, strict=True)
    )


def test_averages_beside_a_chosen_epoch_are_not_called_chosen(recipe):
    result = run(
        recipe,
        "members.narrow={choose: best, also: [swa]}",
        "blend.method=soft",
        execution=Execution("cpu"),
    )
    assert result.evaluation.optimistic == ("narrow",)


def test_a_greedy_soup_needs_other_folds(recipe):
    soup = "members.soup={method: soup, of: [narrow], take: greedy}"
    with pytest.raises(RecipeError, match="take: uniform"):
        run(recipe, soup, "folds={scheme: single, holdout: 0.2}")


def test_an_engine_is_measured_once_for_a_run_and_used_again(recipe, monkeypatch):
    from ensembler.inference.engines import choose
    from ensembler.inference.engines.choose import EngineChoice

    measured = []

    def measure(*given, **options):
        measured.append(options["networks"])
        return EngineChoice("eager", {"eager": 0.1}, {"eager": 0.01})

    monkeypatch.setattr(choose, "fastest", measure)
    notes = Notes()
    first = run(recipe, "inference.engine=auto", progress=notes)
    assert measured == [3, 3]
    assert "narrow predicts by eager (ms a batch: eager 10)" in notes.notes
    kept = json.loads((first.folder / "recipe.lock.json").read_text())["choices"]["engine"]
    assert {name: choice["engine"] for name, choice in kept.items()} == {
        "narrow": "eager",
        "wide": "eager",
    }
    before = digests(first.folder / "members")
    run(recipe, "inference.engine=auto", "views=[identity, hflip, rot90]")
    assert measured == [3, 3]
    assert (
        run(recipe, "inference.engine=default", "views=[identity, hflip, rot90]").trained
        == 0
    )
    assert digests(run(recipe, "name=default").folder / "members") == before


def test_a_recipe_whose_engine_is_not_installed_is_refused_before_anything_is_trained(
    recipe, monkeypatch
):
    from ensembler.errors import MissingExtraError
    from ensembler.inference.engines import registry

    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="needs the extra 'openvino'"):
        run(recipe, "inference.engine=openvino")
    assert not (recipe.parent / "artifacts").exists()


def test_auto_measures_what_is_installed(recipe):
    result = run(recipe, "inference.engine=auto", members=["narrow"], folds=[0])
    kept = json.loads((result.folder / "recipe.lock.json").read_text())["choices"][
        "engine"
    ]["narrow"]
    assert kept["engine"] in kept["seconds_a_batch"]
    assert all(seconds > 0 for seconds in kept["seconds_a_batch"].values())


def test_a_fold_stopped_while_it_predicts_goes_on_with_the_chunks_that_are_missing(
    recipe, monkeypatch
):
    from ensembler.inference import one_pass
    from ensembler.predictions import chunks

    monkeypatch.setattr(chunks, "CHUNK", 8)
    run(recipe, "name=whole")
    predicted, left = [], [3]
    predict = one_pass._Pass._predict

    def stop(self, chunk, device):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        predicted.append(chunk.rows.tolist())
        predict(self, chunk, device)

    monkeypatch.setattr(one_pass._Pass, "_predict", stop)
    with pytest.raises(KeyboardInterrupt):
        run(recipe)
    artifacts = recipe.parent / "artifacts"
    assert list(artifacts.glob("shapes/.training/narrow/.fold0-narrow-*.npy"))
    left[0] = 1000
    run(recipe)
    of_first_fold = predicted[
        : next(i for i, rows in enumerate(predicted) if rows in predicted[:i])
    ]
    assert (
        len(of_first_fold) == 2 + 4
    )  # its own, once each: the next is the same fold of the other member
    assert digests(artifacts / "shapes" / "members") == digests(
        artifacts / "whole" / "members"
    )
    assert not list(artifacts.glob("shapes/.training"))


def test_a_submission_chosen_by_hand_stays_until_there_is_a_new_blend(finished):
    from ensembler.blends.submit import submit_run

    artifacts = finished.parent / "artifacts"
    first = run(finished)
    opened = Run.open("shapes", artifacts)
    opened.blend("soft", name="mine", members=["wide"])
    submit_run(opened.store, "mine", format="probs")
    chosen = first.submission.read_bytes()
    notes = Notes()
    again = run(finished, progress=notes)
    assert again.new_blend is None
    assert first.submission.read_bytes() == chosen
    assert any("chosen by hand, of blend 'mine', stays" in note for note in notes.notes)
    run(finished, "members.third={model_args: {width: 4}}", progress=notes)
    assert first.submission.read_bytes() != chosen
    assert any("gives way to the new blend 'soft'" in note for note in notes.notes)


def test_a_submission_that_is_not_the_one_its_record_names_is_written_again(finished):
    first = run(finished)
    path, wanted = first.submission, first.submission.read_bytes()
    path.write_bytes(wanted + b"one more,row\n")
    notes = Notes()
    again = run(finished, progress=notes)
    assert again.submission.read_bytes() == wanted
    assert any("is kept as submission.altered-" in note for note in notes.warnings)
    store = Run.open(first.folder).store
    submit_run(store, "soft", format="probs")
    by_hand = path.read_bytes()
    path.write_bytes(wanted)  # as when the disk was full before the new one was there
    assert run(finished).submission.read_bytes() == by_hand


def test_a_partial_submission_that_was_never_written_arrives_with_the_next_fold(recipe):
    run(recipe, members=["narrow"], folds=[0])
    path = recipe.parent / "artifacts" / "shapes" / "submission.csv"
    path.write_bytes(b"")
    train_recipe(
        Recipe.load(recipe), recipe.parent / "artifacts", members=["narrow"], folds=[1]
    )
    versions = json.loads((path.parent / "submission.json").read_text())["versions"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == versions[-1]["sha256"]


def test_the_resolved_recipe_is_written_once_and_again_only_when_it_was_altered(
    recipe, monkeypatch
):
    from ensembler.workspace import lock, workspace

    def start():
        return workspace.open_workspace(
            Recipe.load(recipe), recipe.parent / "artifacts"
        ).store

    store = start()
    written = store.recipe_path.read_bytes()
    dump, dumps = lock.yaml_of, []
    monkeypatch.setattr(lock, "yaml_of", lambda content: dumps.append(1) or dump(content))
    start()
    assert dumps == []
    store.recipe_path.write_text("name: something else")
    start()
    assert store.recipe_path.read_bytes() == written
    assert dumps == [1]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("blend.method=magic", "blend: unknown blend method 'magic'"),
        (
            "blend.method=nowhere:Blend",
            "method 'nowhere:Blend': there is no module 'nowhere'",
        ),
        (
            "blend.metric=acuracy",
            "blend: unknown metric 'acuracy'; did you mean 'accuracy'",
        ),
        (
            "blend={method: greedy, options: {runds: 3}}",
            "'runds' is not an option of the blend method 'greedy'",
        ),
    ],
)
def test_a_blend_that_cannot_be_is_refused_before_anything_is_trained(
    recipe, override, message
):
    with pytest.raises(RecipeError, match=message):
        run_recipe(Recipe.load(recipe, [override]), recipe.parent / "artifacts")
    assert not (recipe.parent / "artifacts").exists()


def test_a_device_that_is_not_there_is_a_wrong_request_and_no_members_failure(recipe):
    with pytest.raises(RequestError, match="expected auto, cpu, cuda"):
        run_recipe(
            Recipe.load(recipe), recipe.parent / "artifacts", execution=Execution("tpu")
        )
    assert list((recipe.parent / "artifacts").glob("*/members/*")) == []


def test_an_unknown_member_is_told_each_known_name_once(recipe):
    with pytest.raises(UnknownNameError) as caught:
        run_recipe(Recipe.load(recipe), recipe.parent / "artifacts", members=["zzz"])
    listed = str(caught.value).partition("choose from ")[2].split(", ")
    assert len(listed) == len(set(listed))


def test_cuda_that_is_not_there_is_refused_before_anything_is_made(recipe, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RequestError, match="--device 'cuda'"):
        run(recipe, execution=Execution("cuda"))
    assert not (recipe.parent / "artifacts").exists()
