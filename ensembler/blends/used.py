"""What a blend uses of its members.

What it does not use is not read, and no message mentions it.
"""

from __future__ import annotations

from collections.abc import Sequence

from ensembler.blending.spec import BlendSpec
from ensembler.errors import UnknownNameError


def used_members(spec: BlendSpec, names: Sequence[str]) -> tuple[BlendSpec, Sequence[str]]:
    """The spec and the names, out of `names`, of the members that get a weight by hand.

    All of them where no weights are given. UnknownNameError for a weight of another member.
    """
    if spec.weights is None:
        return spec, names
    weights = _by_name(spec.weights, names)
    if weights is None:
        # too few or too many weights: an error that `make_blend` explains
        return spec, names
    used = {name: weight for name, weight in weights.items() if weight > 0}
    return spec.model_copy(update={"weights": used}), [
        name for name in names if name in used
    ]


def _by_name(
    given: dict[str, float] | tuple[float, ...], names: Sequence[str]
) -> dict[str, float] | None:
    if not isinstance(given, dict):
        return dict(zip(names, given, strict=True)) if len(given) == len(names) else None
    unknown = [name for name in given if name not in names]
    if unknown:
        raise UnknownNameError("member in weights", unknown[0], names)
    return given
