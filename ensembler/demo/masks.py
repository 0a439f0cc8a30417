"""Drawn faces, seven photos of each person: mask worn x gender x age, strongly marked by person."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.data.augment import sample_seed

SIZE = 64
MASKS = ("worn", "wrong", "none")
GENDERS = ("male", "female")
AGE_EDGES = (30, 60)
AGES = ("young", "middle", "old")
PHOTOS = ("worn",) * 5 + ("wrong", "none")

_RECIPE = """\
# Drawn faces, made by `ens demo-data masks`. Run it with: ens run {place}/recipe.yaml
name: {name}
data:
  source: train.csv
  id: id
  group: person
  targets:
    mask: {{classes: [worn, wrong, none]}}
    gender: {{classes: [male, female]}}
    age: {{bins: [30, 60], labels: [young, middle, old]}}
  compose: [mask, gender, age]
  test: test.csv
folds: {{count: 3, seed: 0}}
input: {{size: 48}}
augment: light
views: [identity, hflip]
defaults: {{backbone: test_resnet, epochs: 8, lr: 3e-3, batch_size: 32}}
members:
  mask: {{target: mask}}
  gender: {{target: gender}}
  age: {{target: age, sampler: sqrt}}
  direct: {{}}
blend: {{method: auto, metric: log_loss}}
submission: {{format: labels, columns: [id, label], template: sample_submission.csv}}
"""


_Pair = tuple[float, float]


@dataclass(frozen=True)
class _Person:
    """What all photos of a person share; what one sees of gender and age is noisy."""

    name: str
    gender: str
    age: int
    seed: int


def write_masks(out: Path, *, persons: int = 300, seed: int = 0) -> int:
    """Draw photos of persons into `out`.

    There are `persons` persons in the train part, and a quarter as many others in the test part.
    Seven photos each (five with a mask worn, one worn wrong, one without), `train.csv`, `test.csv`,
    `answers.csv` for checks, a sample submission and a recipe. The same arguments write the same
    bytes. Returns the number of images.
    """
    n_test = max(4, persons // 4)
    people = [_person(i, seed) for i in range(persons + n_test)]
    (out / "images").mkdir(parents=True, exist_ok=True)
    train = list(chain.from_iterable(_photos(person, out) for person in people[:persons]))
    test = list(chain.from_iterable(_photos(person, out) for person in people[persons:]))
    columns = ["id", "path", "person", "mask", "gender", "age"]
    _write(pd.DataFrame(train)[columns], out / "train.csv")
    shuffled = pd.DataFrame(test).iloc[np.random.default_rng(seed).permutation(len(test))]
    _write(shuffled[["id", "path"]], out / "test.csv")
    _write(shuffled[["id", "mask", "gender", "age", "label"]], out / "answers.csv")
    _write(shuffled[["id"]].assign(label=train[0]["label"]), out / "sample_submission.csv")
    (out / "recipe.yaml").write_text(_RECIPE.format(name=out.resolve().name, place=out))
    return len(train) + len(test)


def _write(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False, lineterminator="\n")


def _person(i: int, seed: int) -> _Person:
    rng = np.random.default_rng(sample_seed(seed, "person", i))
    # Old persons are rare, as they were in the contest that this data set is shaped after.
    low, high = ((18, 30), (30, 60), (60, 75))[int(rng.choice(3, p=(0.45, 0.40, 0.15)))]
    return _Person(
        f"p{i:04d}",
        GENDERS[int(rng.random() < 0.6)],
        int(rng.integers(low, high)),
        int(rng.integers(2**31)),
    )


def _photos(person: _Person, out: Path) -> list[dict[str, Any]]:
    from PIL import Image

    rows = []
    for photo, mask in enumerate(PHOTOS):
        name = f"{person.name}-{photo}"
        Image.fromarray(_draw(person, mask, sample_seed(person.seed, photo))).save(
            out / "images" / f"{name}.png"
        )
        age = AGES[int(np.digitize(person.age, AGE_EDGES))]
        rows.append(
            {
                "id": name,
                "path": f"images/{name}.png",
                "person": person.name,
                "mask": mask,
                "gender": person.gender,
                "age": person.age,
                "label": f"{mask}-{person.gender}-{age}",
            }
        )
    return rows


def _draw(person: _Person, mask: str, seed: int) -> NDArray[np.uint8]:
    import cv2

    look, own = np.random.default_rng(person.seed), np.random.default_rng(seed)
    image = _background(look)
    skin = look.uniform((150, 105, 80), (250, 205, 180))
    centre = np.array([SIZE / 2, SIZE * 0.53]) + own.normal(0, 2, 2)
    width, height = look.uniform(13, 16), look.uniform(17, 20)
    grey = np.clip((person.age + look.normal(0, 11) - 30) / 45, 0, 1)
    hair = (1 - grey) * look.uniform((15, 10, 5), (150, 100, 60)) + grey * 205
    length = (12 if person.gender == "female" else 3) + look.normal(0, 4.5)

    def ellipse(
        at: tuple[float, float],
        axes: tuple[float, float],
        colour: Any,
        start: int = 0,
        end: int = 360,
    ) -> None:
        middle = (round(centre[0] + at[0]), round(centre[1] + at[1]))
        sizes = (max(1, round(axes[0])), max(1, round(axes[1])))
        cv2.ellipse(
            image,
            middle,
            sizes,
            0,
            start,
            end,
            tuple(float(c) for c in colour),
            -1,
            cv2.LINE_AA,
        )

    shirt = look.uniform(0, 255, 3)
    ellipse((0, height + 16), (24, 15), shirt)
    if length > 4:
        ellipse((0, length / 2 - 2), (width + 4, height + length / 2), hair)
    ellipse((0, 0), (width, height), skin)
    ellipse((0, -height * 0.45), (width + 1, height * 0.62), hair, 180, 360)
    for side in (-1, 1):
        ellipse((side * width * 0.42, -3), (2.6, 1.7), (245, 245, 245))
        ellipse((side * width * 0.42, -3), (1.2, 1.4), (30, 25, 20))
    _wrinkles(image, centre, width, skin, person.age + look.normal(0, 9), own)
    ellipse((0, 3), (1.8, 3), skin * 0.85)
    ellipse((0, height * 0.52), (5, 1.8), (170, 60, 60))
    if person.gender == "male" and look.random() < 0.55:
        ellipse((0, height * 0.80), (width * 0.55, 3), hair * 0.8)
    if mask != "none":
        cloth = own.uniform(120, 255, 3)
        top = height * (0.08 if mask == "worn" else 0.45)
        bottom = height * (0.98 if mask == "worn" else 1.12)
        corners = [(-0.85, top), (0.85, top), (0.6, bottom), (-0.6, bottom)]
        points = np.round(
            [[centre[0] + x * width, centre[1] + y] for x, y in corners]
        ).astype(np.int32)
        cv2.fillPoly(image, [points], tuple(float(c) for c in cloth), cv2.LINE_AA)
    light = own.normal(1, 0.08)
    noisy = image * light + own.normal(0, 9, image.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _background(look: np.random.Generator) -> NDArray[np.float32]:
    import cv2

    coarse = look.uniform(0, 255, (3, 3, 3)).astype(np.float32)
    return np.ascontiguousarray(
        cv2.resize(coarse, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)
    )


def _wrinkles(
    image: NDArray[np.float32],
    centre: NDArray[np.float64],
    width: float,
    skin: NDArray[np.float64],
    seen_age: float,
    own: np.random.Generator,
) -> None:
    """Lines on the forehead and beside the eyes: the older a person looks, the more."""
    import cv2

    dark = tuple(float(c) for c in skin * 0.72)
    for i in range(int(np.clip((seen_age - 22) / 11, 0, 5))):
        y = centre[1] - 6.5 - 1.7 * i + own.normal(0, 0.3)
        ends = [(round(centre[0] + side * width * 0.5), round(y)) for side in (-1, 1)]
        cv2.line(image, ends[0], ends[1], dark, 1, cv2.LINE_AA)
