import json

import numpy as np
import pytest

from ensembler.blending.spec import BlendSpec
from ensembler.blends.blend import blend_run
from ensembler.errors import RequestError, UnknownNameError
from ensembler.evaluation.gains import gains_over
from ensembler.predictions.store import RunStore


def test_every_member_and_blend_is_compared_with_the_one_named(fake_run):
    blend_run(fake_run, BlendSpec(method="soft"))
    first, *others = fake_run.complete_members
    found = gains_over(fake_run, first, metrics=("log_loss",))
    assert [name for name, _ in found.rows] == [*others, "blend soft"]
    assert found.n_comparisons == len(others) + 1
    labels = fake_run.labels("label", "train")
    losses = {
        name: -np.log(
            fake_run.member(name).oof(fake_run.classes("label"))[
                np.arange(len(labels)), labels
            ]
        ).mean()
        for name in fake_run.complete_members
    }
    for name, difference in found.rows[:-1]:
        assert difference.value == pytest.approx(losses[first] - losses[name], abs=1e-5)
    back = gains_over(fake_run, "soft", metrics=("log_loss",))
    assert back.over == "blend soft"
    assert dict(back.rows)[first].value == pytest.approx(
        -dict(found.rows)["blend soft"].value
    )


def test_what_cannot_be_compared_is_refused(fake_run):
    first = fake_run.complete_members[0]
    with pytest.raises(UnknownNameError, match="member or blend 'none'"):
        gains_over(fake_run, "none")
    with pytest.raises(RequestError, match="does not predict 'age'"):
        gains_over(fake_run, first, target="age")
    with pytest.raises(RequestError, match="nothing else predicts"):
        gains_over(fake_run, first, members=[first])


def test_the_command_prints_gains_and_puts_them_into_its_object(ens_here, fake_run):
    first, second, *_ = fake_run.complete_members
    done = ens_here(
        "evaluate", "fake", "--over", first, "--metrics", "accuracy,f1_macro", "--json"
    )
    gains = json.loads(done.stdout)["gains"]
    assert {(row["name"], row["metric"]) for row in gains["rows"]} >= {
        (second, "accuracy"),
        (second, "f1_macro"),
    }
    assert "gain over" in ens_here("evaluate", "fake", "--over", first).stdout
    ens_here("evaluate", "fake", "--over", first, "--per", "group", expect=2)


def test_few_groups_are_a_warning_with_a_code(fake_run):
    first = fake_run.complete_members[0]
    assert gains_over(fake_run, first).warnings == ()
    store = RunStore(fake_run.folder)
    store.samples.table["group"] = "g" + (np.arange(len(store.samples.table)) % 7).astype(
        str
    )
    store.samples.__dict__.pop("train", None)
    found = gains_over(store, first)
    assert found.n_groups == 7
    assert [warning["code"] for warning in found.to_json()["warnings"]] == ["few_groups"]
