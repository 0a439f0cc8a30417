"""Which files of a folder are images, and what is to be said of the others."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ensembler.data.faults import Remark
from ensembler.data.formats import looks_like_image
from ensembler.data.images import IMAGE_SUFFIXES
from ensembler.errors import DataError
from ensembler.plain_text import check_plain_text
from ensembler.targets.natural_order import natural


def sub_folders(folder: Path) -> list[Path]:
    """The folders in a folder of images, sorted by name.

    Hidden folders are left out, and so is `artifacts`, where runs are kept.
    """
    folders = (path for path in folder.iterdir() if path.is_dir())
    return sorted(p for p in folders if not p.name.startswith(".") and not _holds_runs(p))


def _holds_runs(folder: Path) -> bool:
    return any(folder.glob("*/recipe.lock.json")) or any(folder.glob(".cache/contents-*"))


def find_images(folder: Path, *, recursive: bool = True) -> tuple[list[Path], list[Path]]:
    """The images of a folder, and the other files.

    Hidden files and those of runs count as neither. A name that ends as those of images do is
    enough, and so is content that begins as an image does.
    """
    found = list(folder.iterdir())
    if recursive:
        runs = [path for path in found if path.is_dir() and _holds_runs(path)]
        found = [
            p for p in folder.rglob("*") if not any(p.is_relative_to(run) for run in runs)
        ]
    shown_files = (
        path for path in found if path.is_file() and not _is_hidden(path, folder)
    )
    # Natural order, so that 2.jpg comes before 10.jpg.
    files = sorted(shown_files, key=lambda path: natural(str(path)))
    images = [path for path in files if is_image_file(path)]
    kept = set(images)
    return images, [path for path in files if path not in kept]


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether a path below a folder is hidden.

    It is if its name, or that of a folder on the way to it, begins with a dot.
    """
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def is_image_file(path: Path) -> bool:
    """Whether a file is called, or begins, as an image."""
    return path.is_file() and (
        path.suffix.lower() in IMAGE_SUFFIXES or looks_like_image(path)
    )


def left_out(folder: Path, files: Sequence[Path]) -> tuple[Remark, ...]:
    """The remark on files in a folder of images that are not images."""
    if not files:
        return ()
    names = tuple(shown(str(path.relative_to(folder))) for path in files)
    message = f"1 file is not an image and is left out: {names[0]}"
    if len(files) > 1:
        message = (
            f"{len(files)} files are not images and are left out, such as {min(names)}"
        )
    return (Remark("left_out", f"{folder}: {message}", names),)


def shown(name: str) -> str:
    """A name as a message shows it.

    Bytes that are not text, and control characters, are written out.
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def check_image_files(files: Sequence[Path], folder: Path, root: Path) -> None:
    """Raise DataError when there is no image, or one whose name no table of samples could hold."""
    if not files:
        raise DataError(f"{folder} has no images ({', '.join(IMAGE_SUFFIXES)})")
    names = [str(path.relative_to(root)) for path in files]
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{shown(str(root))}: the name {os.fsencode(name)!r} is not UTF-8; rename the file "
                "or its folder"
            ) from error
    check_plain_text(names, "the name", str(root))
