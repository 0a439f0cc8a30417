"""Fits that several candidates begin with, done once while `auto` compares them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np

from ensembler.blending.pool import Stack, Targets

Fitted = TypeVar("Fitted")

_FITS: ContextVar[dict[bytes, Any] | None] = ContextVar("_FITS", default=None)


@contextmanager
def shared_fits() -> Iterator[None]:
    """Within this block, `fitted_once` remembers what was fitted."""
    token = _FITS.set({})
    try:
        yield
    finally:
        _FITS.reset(token)


def fitted_once(
    fit: Callable[[], Fitted], stack: Stack, y: Targets, options: tuple[Any, ...]
) -> Fitted:
    """What `fit()` gives, or gave before for the same predictions, labels and options.

    Equal is what has equal bytes: a fit that depends on nothing else gives the same ones again.
    """
    fits = _FITS.get()
    if fits is None:
        return fit()
    key = _digest(stack, y, options)
    if key not in fits:
        fits[key] = fit()
    return fits[key]


def _digest(stack: Stack, y: Targets, options: tuple[Any, ...]) -> bytes:
    digest = blake2b(
        repr((stack.shape, str(stack.dtype), options)).encode(), digest_size=16
    )
    digest.update(np.ascontiguousarray(y).data)
    for member in stack:
        digest.update(np.ascontiguousarray(member).data)
    return digest.digest()
