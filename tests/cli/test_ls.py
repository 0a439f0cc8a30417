import json

from ensembler.predictions.testing import write_fake_run


def test_a_folder_without_runs_says_how_one_is_made(ens_here):
    assert "`ens run RECIPE` makes one" in ens_here("ls").stdout
    assert json.loads(ens_here("ls", "--json").stdout)["runs"] == []


def test_an_altered_array_is_named_when_a_run_is_listed_and_not_in_the_list_of_runs(
    ens_here, tmp_path
):
    run = write_fake_run(tmp_path / "artifacts" / "fake")
    path = run.folder / "members" / "a" / "oof.npy"
    path.write_bytes(path.read_bytes()[:-8] + bytes(8))
    assert "fake" in ens_here("ls").stdout
    assert "oof.npy" in ens_here("ls", "fake", expect=1).stderr
