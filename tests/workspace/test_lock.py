from ensembler.predictions.lock import RunLock
from ensembler.predictions.records import write_record
from ensembler.predictions.store import RunStore
from ensembler.workspace.lock import keep_choice, kept_choice


def test_the_first_choice_that_is_kept_counts(tmp_path):
    store = RunStore(tmp_path)
    assert kept_choice(store, "engine", "cnn", "this") is None
    assert keep_choice(store, "engine", "cnn", "this", {"engine": "eager"}) == {
        "engine": "eager"
    }
    assert keep_choice(store, "engine", "cnn", "this", {"engine": "onnx"}) == {
        "engine": "eager"
    }
    assert keep_choice(store, "engine", "cnn", "that", {"engine": "onnx"}) == {
        "engine": "onnx"
    }


def test_a_choice_leaves_the_rest_of_the_lock_as_it_is(tmp_path):
    store = RunStore(tmp_path)
    write_record(
        store.recipe_lock_path, RunLock.model_validate({"seed": 3, "of_later": [1]})
    )
    keep_choice(store, "compile", "cnn", "this", {"compiled": True})
    lock = RunStore(tmp_path).lock
    assert lock.seed == 3
    assert lock.to_json()["of_later"] == [1]
    assert lock.to_json()["choices"] == {
        "compile": {"cnn": {"compiled": True, "for": "this"}}
    }
