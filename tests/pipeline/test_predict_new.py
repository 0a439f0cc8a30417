import numpy as np
import pandas as pd
import pytest

from ensembler.blending.spec import BlendSpec
from ensembler.blends.apply import ViewMerging, merging_below
from ensembler.blends.blend import blend_run
from ensembler.blends.submit import submission_spec, submit_blend
from ensembler.errors import RequestError
from ensembler.pipeline.predict_new import predict_new
from ensembler.predictions.store import RunStore
from ensembler.reporting.spec import SubmissionSpec
from ensembler.workspace.workspace import workspace_of_run


@pytest.mark.slow
@pytest.mark.parametrize(("merge", "views"), [("max", None), ("mean", ("hflip",))])
def test_views_of_new_images_are_merged_as_the_blend_merges_them(finished, merge, views):
    store = RunStore(finished.parent / "artifacts" / "shapes")
    spec = BlendSpec(method="soft", name="other", merge=merge, views=views)
    made = blend_run(store, spec)
    submit_blend(RunStore(store.folder), "other", submission_spec(store), by_hand=True)
    new = predict_new(
        workspace_of_run(RunStore(store.folder)),
        finished.parent / "shapes" / "test.csv",
        spec=SubmissionSpec(format="probs", columns=("id",)),
    )
    found = pd.read_csv(new.out, dtype={"id": str}).set_index("id")
    ids = store.samples.test["id"]
    asked = ids.isin(found.index).to_numpy()
    assert asked.any()
    wanted = made.result.test[asked]
    assert np.allclose(found.loc[ids[asked]].to_numpy(), wanted, atol=1e-4)


def test_merging_is_that_of_each_blend_that_is_inside(fake_run):
    blend_run(fake_run, BlendSpec(method="soft", name="inner", merge="max", members=("a",)))
    spec = BlendSpec(method="soft", name="outer", members=("blend:inner", "b"))
    blend_run(RunStore(fake_run.folder), spec)
    assert merging_below(RunStore(fake_run.folder), "outer") == {
        ("a", "label"): ViewMerging("max"),
        ("b", "label"): ViewMerging("mean"),
    }


def test_a_member_merged_in_two_ways_is_refused(fake_run):
    blend_run(fake_run, BlendSpec(method="soft", name="inner", merge="max", members=("a",)))
    spec = BlendSpec(method="soft", name="outer", members=("blend:inner", "a"))
    blend_run(RunStore(fake_run.folder), spec)
    with pytest.raises(
        RequestError, match="merge the views of member 'a' in different ways"
    ):
        merging_below(RunStore(fake_run.folder), "outer")
