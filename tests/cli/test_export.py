import json

import numpy as np

from ensembler.predictions.testing import write_fake_run


def test_a_member_is_exported_into_the_folder_that_is_named(ens_here, tmp_path):
    run = write_fake_run(tmp_path / "artifacts" / "fake")
    asked = (
        "export",
        "fake",
        "--member",
        "a",
        "--format",
        "npy",
        "--out",
        "here",
        "--json",
    )
    told = json.loads(ens_here(*asked).stdout)
    assert (told["run"], told["name"]) == ("fake", "a")
    arrays = [np.load(tmp_path / file) for file in told["files"]]
    shapes = {array.shape for array in arrays}
    n_classes = len(run.classes("label"))
    assert (60, n_classes) in shapes
