"""Predict photographs with an exported graph, by onnxruntime, numpy and Pillow alone.

python predict_onnx.py MODEL.onnx IMAGE...
"""

import json
import sys

import numpy as np
from PIL import Image, ImageOps


def main(model, paths):
    """Print each image's class and how probable it is."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model)
    about = json.loads(session.get_modelmeta().custom_metadata_map["ensembler"])
    batches = {
        one["name"]: np.stack([pixels(path, one) for path in paths])
        for one in about["inputs"]
    }
    probs = session.run(None, batches)[0]
    for path, row in zip(paths, probs, strict=True):
        print(path, about["outputs"][0]["classes"][row.argmax()], f"{row.max():.7f}")


def pixels(path, wanted):
    """An image file as the graph takes it: uint8 `[size, size, channels]`."""
    size, _, channels = wanted["shape"]
    with Image.open(path) as file:
        if wanted["decode"] == "reduced":
            file.draft(None, (2 * size, 2 * size))
        image = ImageOps.exif_transpose(file)
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = np.asarray(image.convert("RGB"))
    for step in wanted["prepare"]:
        image = prepared(image, step)
    if channels == 1:
        image = grey(image)
    return fitted(image, size, wanted["resize"])[:, :, :channels]


def prepared(image, step):
    """An image after one of the steps center_crop, crop and grey."""
    name, argument = (step, None) if isinstance(step, str) else next(iter(step.items()))
    if name == "grey":
        return grey(image)
    if name == "center_crop":
        share = 0.8 if argument is None else argument
        argument = [(1 - share) / 2] * 2 + [(1 + share) / 2] * 2
    (height, width), (left, top, right, bottom) = image.shape[:2], argument
    rows = slice(int(top * height), max(int(top * height) + 1, round(bottom * height)))
    columns = slice(int(left * width), max(int(left * width) + 1, round(right * width)))
    return image[rows, columns]


def grey(image):
    """An image without its colours, still with three channels."""
    value = (image.astype(np.int64) @ [9798, 19235, 3735] + 16384) >> 15
    return np.repeat(value.astype(np.uint8)[:, :, None], 3, axis=2)


def fitted(image, size, resize):
    """An image scaled to a square: stretched, cropped, or fitted with a border."""
    height, width = image.shape[:2]
    if resize == "stretch":
        return scaled(image, size, size)
    if resize == "crop":
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return scaled(image[top : top + side, left : left + side], size, size)
    inner = [max(1, round(side * size / max(height, width))) for side in (height, width)]
    image = scaled(image, *inner)
    before = [(size - side) // 2 for side in inner]
    around = [(a, size - side - a) for a, side in zip(before, inner, strict=True)] + [
        (0, 0)
    ]
    return np.pad(image, around, mode="edge" if resize == "pad" else "constant")


def scaled(image, height, width):
    """Areas are averaged along an axis that shrinks, neighbours mixed along one that grows."""
    shrunk = min(height, image.shape[0]), min(width, image.shape[1])
    return along(along(image, *shrunk, areas), height, width, neighbours)


def along(image, height, width, weights):
    """An image scaled along both axes by the weights of its rows and columns."""
    if image.shape[:2] == (height, width):
        return image
    columns = np.matmul(weights(width, image.shape[1]), image.astype(np.float32))
    rows = np.tensordot(weights(height, image.shape[0]), columns, axes=1)
    return np.rint(rows).astype(np.uint8)


def areas(size, before):
    """The share of each of `before` pixels in each of `size` larger ones."""
    at, step = np.arange(before), before / size
    start = np.arange(size)[:, None] * step
    covered = np.clip(np.minimum(start + step, at + 1) - np.maximum(start, at), 0, None)
    return (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)


def neighbours(size, before):
    """The shares of the two of `before` pixels that each of `size` smaller ones lies between."""
    place = np.clip((np.arange(size) + 0.5) * before / size - 0.5, 0, before - 1)
    return np.clip(1 - np.abs(place[:, None] - np.arange(before)), 0, None).astype(
        np.float32
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
