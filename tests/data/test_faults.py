"""Places of a fault are named up to a limit, and counted beyond it."""

from ensembler.data.faults import MOST_NAMED, Fault, faults_at


def test_no_place_is_no_fault():
    assert faults_at("a row is empty in", []) == []


def test_the_first_places_are_named_and_the_others_counted():
    places = [f"row {i}" for i in range(2, 2 + MOST_NAMED + 3)]
    (fault,) = faults_at("empty in", places, "missing")
    assert fault.code == "missing"
    assert fault.message == f"empty in {', '.join(places[:MOST_NAMED])} and 3 more"
    assert faults_at("empty in", ["row 2"]) == [Fault("data", "empty in row 2")]
