import pytest

from ensembler.predictions.testing import write_fake_run


@pytest.fixture
def team(tmp_path):
    """Two people with the same rows and folds: ann has members a and b, bob has b (another) and c."""
    folders = {name: tmp_path / name / "artifacts" / "masks" for name in ("ann", "bob")}
    ann = write_fake_run(folders["ann"], {"a": 1.5, "b": 1.0})
    write_fake_run(folders["bob"], {"a": 1.5, "b": 1.0}, n_train=60)
    from ensembler.predictions.store import RunStore

    bob = add_members(RunStore(folders["bob"]), {"b": 0.7, "c": 1.2}, only=True)
    return ann, bob


def add_members(store, strengths, *, only=False, seed=7):
    """Add members of these strengths to an invented run; `only` removes those that are there."""
    import shutil

    import numpy as np

    from ensembler.predictions.store import RunStore
    from ensembler.predictions.testing import invented_logits, write_fake_member

    classes, rng = store.classes("label"), np.random.default_rng(seed)
    train, test = (store.labels("label", part, classes) for part in ("train", "test"))
    if only:
        shutil.rmtree(store.folder / "members")
    for name, strength in strengths.items():
        oof = invented_logits(train, len(classes), strength, rng)[None]
        tests = [invented_logits(test, len(classes), strength, rng)[None] for _ in range(3)]
        write_fake_member(store.folder, name, oof, np.array(tests), classes)
    return RunStore(store.folder)
