from ensembler.machine.environment import differences, environment


def test_nothing_differs_from_itself():
    here = environment("cpu", 2)
    assert differences(here, environment("cpu", 2)) == {}
    assert here["versions"]["numpy"]
    assert here["processor"]


def test_what_differs_is_named_with_both():
    here = environment("cpu", 2)
    then = {
        **here,
        "threads": 1,
        "versions": {**here["versions"], "numpy": "1.0", "old": "3"},
    }
    found = differences(then, here)
    assert found["threads"] == (1, 2)
    assert found["numpy"] == ("1.0", here["versions"]["numpy"])
    assert found["old"] == ("3", None)
    assert len(found) == 3
