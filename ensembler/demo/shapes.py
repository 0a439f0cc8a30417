"""Drawn data sets: files of every kind for docs, tests and newcomers, without a download."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensembler.data.augment import sample_seed

SHAPES = ("circle", "cross", "ring", "square", "triangle")
SIZE = 48
PER_GROUP = 6

_RECIPE = """\
# Drawn shapes, made by `ens demo-data shapes`. Run it with: ens run {place}/recipe.yaml
name: {name}
data:
  source: train.csv
  targets: label
{group}  test: test.csv
{broken}folds: {{count: 3, seed: 0}}
input: {{size: 32}}
augment: light
views: [identity, hflip]
defaults: {{epochs: 12, lr: 3e-3, batch_size: 32}}
members:
  resnet: {{backbone: test_resnet}}
  byobnet: {{backbone: test_byobnet}}
blend: {{method: auto, metric: log_loss}}
submission: {{format: labels, columns: [id, label], template: sample_submission.csv}}
"""


def write_shapes(
    out: Path, *, n: int = 2000, seed: int = 0, groups: bool = False, odd: bool = False
) -> int:
    """Draw `n` labelled images and a quarter as many test images into `out`.

    Tables and a recipe are written as well. With `groups` six images share an origin (its colours
    and texture) and `train.csv` names it. With `odd` there are also files of every format and mode,
    and a few that are broken; the recipe then leaves broken files out. The same arguments write the
    same bytes. Returns the number of files written under `images/`.
    """
    n_test = max(10, n // 4)
    rows = [_row(i, seed, groups) for i in range(n + n_test)]
    (out / "images").mkdir(parents=True, exist_ok=True)
    for row in rows:
        _save(out / row["path"], _draw(row["label"], row["seed"], row["look"]))
    train, test = rows[:n], rows[n:]
    written = len(rows)
    if odd:
        extra = _write_odd(out, seed)
        train, written = [*train, *extra], written + len(extra)
    columns = ["path", "label", *(["origin"] if groups else [])]
    pd.DataFrame(train)[columns].to_csv(out / "train.csv", index=False, lineterminator="\n")
    answers = pd.DataFrame(
        {"id": [row["path"] for row in test], "label": [row["label"] for row in test]}
    )
    pd.DataFrame({"path": answers["id"]}).to_csv(
        out / "test.csv", index=False, lineterminator="\n"
    )
    answers.to_csv(out / "answers.csv", index=False, lineterminator="\n")
    answers.assign(label=SHAPES[0]).to_csv(
        out / "sample_submission.csv", index=False, lineterminator="\n"
    )
    recipe = _RECIPE.format(
        name=out.resolve().name,
        place=out,
        group="  group: origin\n" if groups else "",
        broken="  on_broken: skip\n" if odd else "",
    )
    (out / "recipe.yaml").write_text(recipe)
    return written


def _row(i: int, seed: int, groups: bool) -> dict[str, Any]:
    own = sample_seed(seed, "shape", i)
    origin = i // PER_GROUP
    look = sample_seed(seed, "origin", origin) if groups else own
    label = SHAPES[own % len(SHAPES)]
    return {
        "path": f"images/{i:05d}.png",
        "label": label,
        "seed": own,
        "look": look,
        "origin": f"o{origin:04d}",
    }


def _draw(label: str, seed: int, look: int) -> NDArray[np.uint8]:
    """One shape with a place, size and rotation of its own.

    Its colours and texture are those of its origin.
    """
    import cv2

    of_origin, own = np.random.default_rng(look), np.random.default_rng(seed)
    ground, ink = of_origin.integers(0, 256, (2, 3))
    if np.abs(ground - ink).sum() < 120:
        ink = (ground + 128) % 256
    texture = cv2.resize(
        of_origin.normal(0, 12, (6, 6, 3)).astype(np.float32), (SIZE, SIZE)
    )
    mask = np.zeros((SIZE, SIZE), np.uint8)
    centre, radius = own.uniform(16, SIZE - 16, 2), own.uniform(9, 15)
    _stroke(mask, label, centre, radius, own.uniform(0, 2 * np.pi))
    image = (
        np.where(mask[:, :, None] > 0, ink, ground)
        + texture
        + own.normal(0, 14, (SIZE, SIZE, 3))
    )
    return np.clip(image, 0, 255).astype(np.uint8)


def _stroke(
    mask: NDArray[np.uint8],
    label: str,
    centre: NDArray[np.float64],
    radius: float,
    turn: float,
) -> None:
    import cv2

    middle = (round(centre[0]), round(centre[1]))
    if label == "circle":
        cv2.circle(mask, middle, round(radius), 255, -1)
    elif label == "ring":
        cv2.circle(mask, middle, round(radius), 255, 3)
    elif label == "cross":
        for angle in (turn, turn + np.pi / 2):
            arm = radius * np.array([np.cos(angle), np.sin(angle)])
            ends = [tuple(np.round(centre + s * arm).astype(int).tolist()) for s in (-1, 1)]
            cv2.line(mask, ends[0], ends[1], 255, 4)
    else:
        corners = turn + 2 * np.pi * np.arange(4 if label == "square" else 3) / (
            4 if label == "square" else 3
        )
        points = centre + radius * np.stack([np.cos(corners), np.sin(corners)], axis=1)
        cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255)


def _save(path: Path, image: NDArray[np.uint8]) -> None:
    from PIL import Image

    Image.fromarray(image).save(path, format="PNG")


def _write_odd(out: Path, seed: int) -> list[dict[str, Any]]:
    """Write good files of every kind and a few broken ones; return their rows."""
    rows = []
    for i, (name, content) in enumerate(
        {**_good_files(seed), **_broken_files(seed)}.items()
    ):
        path = f"images/odd-{name}"
        (out / path).write_bytes(content)
        rows.append(
            {"path": path, "label": SHAPES[i % len(SHAPES)], "origin": f"odd{i:02d}"}
        )
    return rows


def _good_files(seed: int) -> dict[str, bytes]:
    from PIL import Image

    names = ("rgb.jpg", "rgb.webp", "rgb.bmp", "rgb.tif", "animated.gif", "grey.png", "palette.png",
             "rgba.png", "16bit.png", "cmyk.jpg", "rotated.jpg", "grey.jpg")  # fmt: skip
    makers: dict[str, Callable[[Any], bytes]] = {
        "animated.gif": lambda im: _bytes(
            im, "GIF", save_all=True, append_images=[im.rotate(90)]
        ),
        "grey.png": lambda im: _bytes(im.convert("L"), "PNG"),
        "grey.jpg": lambda im: _bytes(im.convert("L"), "JPEG"),
        "palette.png": lambda im: _bytes(im.convert("P"), "PNG"),
        "rgba.png": lambda im: _bytes(im.convert("RGBA"), "PNG"),
        "16bit.png": lambda im: _bytes(
            Image.fromarray(np.asarray(im.convert("L")).astype(np.uint16) * 257), "PNG"
        ),
        "cmyk.jpg": lambda im: _bytes(im.convert("CMYK"), "JPEG"),
        "rotated.jpg": lambda im: _bytes(im.rotate(90), "JPEG", exif=_orientation(6)),
        "rgb.tif": lambda im: _bytes(im, "TIFF"),
    }
    files = {}
    for i, name in enumerate(names):
        own = sample_seed(seed, "odd", i)
        image = Image.fromarray(_draw(SHAPES[i % len(SHAPES)], own, own))
        kind = {"jpg": "JPEG", "webp": "WEBP", "bmp": "BMP"}.get(
            name.rpartition(".")[2], "PNG"
        )
        files[name] = makers[name](image) if name in makers else _bytes(image, kind)
    return files


def _broken_files(seed: int) -> dict[str, bytes]:
    from PIL import Image

    whole = _bytes(Image.fromarray(_draw("circle", seed, seed)), "JPEG")
    return {
        "truncated.jpg": whole[: len(whole) // 2],
        "empty.jpg": b"",
        "text.png": b"this is not an image\n",
    }


def _orientation(value: int) -> Any:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def _bytes(image: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()
