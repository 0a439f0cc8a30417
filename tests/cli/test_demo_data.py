import json


def test_a_data_set_is_drawn_once_and_never_over_another(ens_here, tmp_path):
    told = json.loads(ens_here("demo-data", "shapes", "out", "--n", "10", "--json").stdout)
    assert told["kind"] == "shapes"
    assert told["images"] == len(list((tmp_path / "out" / "images").iterdir()))
    assert (tmp_path / told["recipe"]).is_file()
    done = ens_here("demo-data", "shapes", "out", "--n", "10", expect=2)
    assert "is not an empty folder" in done.stderr
