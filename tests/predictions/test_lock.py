import json

import pytest

from ensembler.errors import StoreError
from ensembler.predictions.lock import KeptChoice, RunLock, read_lock
from ensembler.targets.label_sets import SetFormat


def test_a_run_without_a_lock_says_nothing(tmp_path):
    lock = read_lock(tmp_path / "recipe.lock.json")
    assert lock == RunLock()
    assert lock.to_json() == {}
    assert lock.section("blend") == {}


def test_a_choice_counts_for_what_it_was_made_for():
    choice = KeptChoice.model_validate({"for": "this", "compiled": True})
    lock = RunLock().with_choice("compile", "cnn", choice)
    assert lock.choice("compile", "cnn", "this").chosen == {"compiled": True}
    assert lock.choice("compile", "cnn", "that") is None
    assert lock.choice("engine", "cnn", "this") is None
    more = lock.with_choice("compile", "other", choice)
    assert set(more.choices["compile"]) == {"cnn", "other"}
    assert lock.to_json() == {
        "choices": {"compile": {"cnn": {"for": "this", "compiled": True}}}
    }


def test_formats_of_label_sets_are_read_and_written():
    content = {"multi_label": {"tags": {"separator": " ", "no_label": "-"}}}
    lock = RunLock.model_validate(content)
    assert lock.multi_label == {"tags": SetFormat(" ", "-")}
    assert lock.to_json() == content


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ({"classes": ["a"]}, "classes: input should be"),
        ({"classes": {"label": "ab"}}, "classes.label: input should be"),
        ({"choices": {"engine": {"cnn": {}}}}, "choices.engine.cnn.for: field required"),
        ({"recipe": [1]}, "recipe: input should be"),
        ({"composition": {"name": "x"}}, "composition.tasks: field required"),
    ],
)
def test_an_altered_lock_is_one_clear_error(tmp_path, content, where):
    path = tmp_path / "recipe.lock.json"
    path.write_text(json.dumps(content))
    with pytest.raises(StoreError) as caught:
        read_lock(path)
    key = where.partition(":")[0].partition(".")[0]
    assert f"recipe.lock.json: {key} is not what `ens` writes ({where}" in str(caught.value)
