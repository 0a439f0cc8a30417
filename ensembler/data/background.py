"""Backgrounds removed by rembg, from weights on disk.

Nothing is downloaded, and no image leaves the machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembler.errors import MissingExtraError, RequestError, UnknownNameError
from ensembler.files import sha256_by_stat


def rembg_step(model: str) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """A step that turns what the model takes for background grey.

    Raises RequestError when the model's weights are not on disk or cannot be read,
    MissingExtraError without rembg.
    """
    weights = _weights_on_disk(model)
    if weights is None:
        looked = " or ".join(str(folder) for folder in _homes())
        raise RequestError(
            f"prepare step rembg: there is no {model}.onnx under {looked}; put the file "
            "there: nothing is downloaded during a run"
        )
    session, remove = _session(model, weights)

    def step(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        colour = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
        cut = np.asarray(remove(np.ascontiguousarray(colour), session=session))
        alpha = cut[:, :, 3:].astype(np.float32) / 255
        return np.asarray(np.round(alpha * cut[:, :, :3] + (1 - alpha) * 127), np.uint8)

    return step


def weights_digest(model: str) -> str | None:
    """The sha256 of the model's weights on disk; None when there are none."""
    weights = _weights_on_disk(model)
    return None if weights is None else sha256_by_stat(weights)


def _homes() -> list[Path]:
    """The folders where rembg keeps weights.

    `U2NET_HOME` if it is set, else its present folder and that of older versions.
    """
    if os.environ.get("U2NET_HOME"):
        return [Path(os.environ["U2NET_HOME"]).expanduser()]
    data = os.environ.get("XDG_DATA_HOME")
    present = os.environ.get("REMBG_HOME") or (f"{data}/rembg" if data else "~/.rembg")
    return [Path(present).expanduser(), Path(f"{data or '~'}/.u2net").expanduser()]


def _weights_on_disk(model: str) -> Path | None:
    below = (f"models/{model}/{model}.onnx", f"{model}.onnx")
    places = [home / path for home, path in product(_homes(), below)]
    return next((place for place in places if place.is_file()), None)


def _session(model: str, weights: Path) -> tuple[Any, Callable[..., Any]]:
    try:
        import onnxruntime
        from rembg import remove
        from rembg.sessions import sessions_class
    except ImportError as error:
        raise MissingExtraError("prepare step rembg", "rembg") from error
    # Some of rembg's models run on a server that images would be sent to: only those with weights
    # on disk count.
    local = {
        kind.name(): kind
        for kind in sessions_class
        if getattr(kind, "is_local", lambda: True)()
    }
    if model not in local:
        raise UnknownNameError("rembg model", model, local)
    found: Any = local[model]

    class OnDisk(found):  # type: ignore[misc]
        @classmethod
        def download_models(cls, *_: Any, **__: Any) -> str:
            # rembg itself would fetch the file again when its checksum is another
            return str(weights)

    try:
        session = OnDisk(
            model, onnxruntime.SessionOptions(), providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors share no class with a public name
        raise RequestError(
            f"prepare step rembg: {weights} cannot be read: {str(error)[:200]}"
        ) from error
    return session, remove
