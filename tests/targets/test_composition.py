import numpy as np
import pytest

from ensembler.targets.composition import Composition

CLASSES = {"mask": ("none", "worn"), "age": ("child", "adult", "old")}


@pytest.fixture
def composition():
    return Composition.build("label", CLASSES)


def probs(rng, n=7):
    return {task: rng.dirichlet(np.ones(len(names)), n) for task, names in CLASSES.items()}


def test_the_product_of_tasks_is_the_outer_product(composition):
    given = probs(np.random.default_rng(0))
    expected = np.einsum("na,nb->nab", given["mask"], given["age"]).reshape(7, 6)
    np.testing.assert_allclose(composition.compose(given, CLASSES), expected, atol=1e-9)


def test_without_impossible_combinations_the_rest_is_renormalised():
    composition = Composition.build(
        "label", CLASSES, impossible=[{"mask": "worn", "age": "child"}]
    )
    given = probs(np.random.default_rng(1))
    found = composition.compose(given, CLASSES)
    assert composition.classes == (
        "none-child",
        "none-adult",
        "none-old",
        "worn-adult",
        "worn-old",
    )
    np.testing.assert_allclose(found.sum(axis=1), 1)
    full = np.einsum("na,nb->nab", given["mask"], given["age"]).reshape(7, 6)[
        :, [0, 1, 2, 4, 5]
    ]
    np.testing.assert_allclose(found, full / full.sum(axis=1, keepdims=True), atol=1e-9)


def test_co_occurrence_turns_marginals_into_the_observed_joint(composition):
    rng = np.random.default_rng(2)
    mask = rng.integers(0, 2, 50_000)
    age = np.where(rng.random(50_000) < 0.7, mask, rng.integers(0, 3, 50_000))
    factors = composition.co_occurrence({"mask": mask, "age": age}, CLASSES)
    marginals = {
        "mask": np.bincount(mask, minlength=2)[None] / 50_000,
        "age": np.bincount(age, minlength=3)[None] / 50_000,
    }
    joint = np.bincount(mask * 3 + age, minlength=6) / 50_000
    np.testing.assert_allclose(
        composition.compose(marginals, CLASSES, factors)[0], joint, atol=1e-4
    )


def test_independent_tasks_have_factors_near_one_and_unknown_rows_do_not_count(composition):
    rng = np.random.default_rng(3)
    labels = {"mask": rng.integers(0, 2, 20_000), "age": rng.integers(0, 3, 20_000)}
    np.testing.assert_allclose(composition.co_occurrence(labels, CLASSES), 1, atol=0.06)
    more = {task: np.append(values, -1) for task, values in labels.items()}
    assert (
        composition.co_occurrence(more, CLASSES)
        == composition.co_occurrence(labels, CLASSES)
    ).all()


def test_names_that_would_coincide_are_refused():
    with pytest.raises(ValueError, match="would both be called 'a-b-c'"):
        Composition.build("label", {"x": ("a", "a-b"), "y": ("b-c", "c")})


def test_a_composition_survives_json(composition):
    assert Composition.from_json(composition.to_json()) == composition
