"""What a blend was made from, and whether its members still predict the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ensembler.blending.spec import BlendSpec
from ensembler.blends.pool import BLEND_PREFIX
from ensembler.errors import MissingFileError, UnknownNameError
from ensembler.files import fingerprint
from ensembler.own_code import digest_of
from ensembler.predictions.store import RunStore

# The checksums of a member's predictions, and of the samples they are of.
Checksums = tuple[str | None, ...]


def blend_fingerprint(
    store: RunStore, spec: BlendSpec, members: Sequence[str], views: Sequence[str] | None
) -> str:
    """A digest of everything a blend is made from: its options and its members' predictions."""
    made_from: dict[str, Any] = {
        "spec": spec.model_dump(mode="json"),
        "members": predictions_of(store, members),
        "views": list(views or []),
    }
    code = {place: digest_of(place) for place in spec.code}
    if code:
        made_from["contents"] = code
    return fingerprint(made_from)


def is_current(
    store: RunStore, spec: BlendSpec, members: Sequence[str], views: Sequence[str] | None
) -> bool:
    """Whether the store holds this very blend of these very predictions."""
    name = spec.blend_name
    if name not in store.blends:
        return False
    wanted = blend_fingerprint(store, spec, members, views)
    return store.blend(name).record.fingerprint == wanted


def members_changed_since(store: RunStore, name: str) -> list[str]:
    """The members that a blend was made from and that predict otherwise now, or are gone.

    [] where it does not say.
    """
    made_from = store.blend(name).record.made_from
    return [
        member
        for member, sums in made_from.items()
        if _predictions_now(store, member) != sums
    ]


def predictions_of(store: RunStore, members: Sequence[str]) -> dict[str, Checksums]:
    """The checksums of each member's predictions, and of the samples they are of."""
    return {name: _of_predictions(_sums(store, name)) for name in members}


def _predictions_now(store: RunStore, member: str) -> Checksums | None:
    try:
        return _of_predictions(_sums(store, member))
    except (UnknownNameError, MissingFileError):
        return None


def _of_predictions(sums: Mapping[str, str]) -> Checksums:
    arrays = sorted(name for name in sums if name.startswith(("oof.", "test.")))
    return (*(sums[name] for name in arrays), sums.get("samples.csv"))


def _sums(store: RunStore, name: str) -> dict[str, str]:
    if name.startswith(BLEND_PREFIX):
        return store.blend(name.removeprefix(BLEND_PREFIX)).record.sha256
    return store.member(name).record.sha256
