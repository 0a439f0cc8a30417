"""`ens demo-data`: a drawn data set of a kind, with tables and a recipe that runs as it is."""

from __future__ import annotations

from pathlib import Path

from ensembler.errors import RequestError, UnknownNameError

KINDS = ("shapes", "masks")


def check_demo_data(kind: str, out: Path) -> None:
    """Raise RequestError for an unknown kind, or a folder with something in it."""
    if kind not in KINDS:
        raise UnknownNameError("kind of demo data", kind, KINDS)
    is_free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not is_free:
        raise RequestError(
            f"{out} is not an empty folder; name a new one, nothing is overwritten"
        )


def write_demo_data(
    kind: str, out: Path, *, n: int, persons: int, seed: int, groups: bool, odd: bool
) -> int:
    """Draw a data set into `out`, a new or empty folder, and return how many images it has.

    `n`, `groups` and `odd` are those of shapes, `persons` that of masks.
    """
    check_demo_data(kind, out)
    if kind == "masks":
        from ensembler.demo.masks import write_masks

        return write_masks(out, persons=persons, seed=seed)
    from ensembler.demo.shapes import write_shapes

    return write_shapes(out, n=n, seed=seed, groups=groups, odd=odd)
