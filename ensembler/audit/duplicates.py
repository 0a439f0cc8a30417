"""Images that show the same: byte for byte, pixel for pixel, or as good as."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from ensembler.audit.facts import ImageFacts
from ensembler.data.samples import SampleSet

# Measured on re-encoded and scaled copies of real photographs against pairs of different ones
# (docs/audit.md).
MOST_BITS = 8  # of 64 that two hashes may differ in
LEAST_CORRELATION = 0.995  # of two thumbnails
MOST_DIFFERENCE = 25.0  # mean grey levels between two thumbnails: a copy may be brighter
_BLOCK = 256


@dataclass(frozen=True)
class Duplicates:
    """Sets of images (positions) that show the same.

    `exact` are equal in bytes or pixels, `near` look alike (and include exact copies).
    """

    exact: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]


def find_duplicates(facts: ImageFacts) -> Duplicates:
    """All sets of equal and of nearly equal images.

    Blank images are left out, they all look alike.
    """
    usable = np.flatnonzero(facts.readable & ~facts.blank)
    exact = _equal(facts, usable)
    firsts = np.array(
        sorted(set(usable.tolist()) - set(chain.from_iterable(same[1:] for same in exact))),
        np.int64,
    )
    pairs = list(_near_pairs(facts, firsts))
    copies = {same[0]: same for same in exact}
    near = [_with_copies(found, copies) for found in _components(pairs)]
    return Duplicates(exact, tuple(sorted(near)))


def _with_copies(
    firsts: Iterable[int], copies: Mapping[int, tuple[int, ...]]
) -> tuple[int, ...]:
    """The images `firsts` and those that are equal to one of them."""
    return tuple(sorted(chain.from_iterable(copies.get(i, (i,)) for i in firsts)))


def _equal(facts: ImageFacts, usable: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    pairs = []
    for sums in (facts.pixels, facts.content):
        seen: dict[str, int] = {}
        for i in usable.tolist():
            if sums[i]:
                first = seen.setdefault(str(sums[i]), i)
                if first != i:
                    pairs.append((first, i))
    return tuple(sorted(tuple(sorted(found)) for found in _components(pairs)))


def _near_pairs(facts: ImageFacts, rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Pairs of `rows` whose hashes are close and whose thumbnails agree."""
    hashes = facts.phash[rows]
    small = (
        facts.thumb[rows]
        .reshape(len(rows), math.prod(facts.thumb.shape[1:]))
        .astype(np.float32)
    )
    centred = small - small.mean(axis=1, keepdims=True)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    for left, right in _close_hashes(hashes):
        correlation = np.einsum("nd,nd->n", centred[left], centred[right])
        close = np.flatnonzero(correlation >= LEAST_CORRELATION)
        for at in close.tolist():
            a, b = int(left[at]), int(right[at])
            if np.abs(small[a] - small[b]).mean() <= MOST_DIFFERENCE:
                yield int(rows[a]), int(rows[b])


def _close_hashes(
    hashes: NDArray[np.uint64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs of positions whose hashes differ in few bits, some of them several times.

    Two hashes that differ in 8 bits agree in one of 9 parts, so only those that share a part are
    compared.
    """
    edges = np.linspace(0, 64, MOST_BITS + 2).astype(int).tolist()
    for low, high in pairwise(edges):
        part = (hashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(part, kind="stable")
        for same in np.split(order, np.flatnonzero(np.diff(part[order])) + 1):
            for start in range(0, len(same), _BLOCK):
                block, others = same[start : start + _BLOCK], same[start:]
                apart = np.bitwise_count(hashes[block][:, None] ^ hashes[others][None])
                a, b = np.nonzero(apart <= MOST_BITS)
                later = b > a
                if later.any():
                    yield block[a[later]], others[b[later]]


def _components(pairs: list[tuple[int, int]]) -> list[list[int]]:
    """The sets of positions that pairs connect, each sorted."""
    if not pairs:
        return []
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    nodes, index = np.unique(np.array(pairs), return_inverse=True)
    index = index.reshape(-1, 2)
    graph = coo_array(
        (np.ones(len(index)), (index[:, 0], index[:, 1])), shape=(len(nodes), len(nodes))
    )
    _, component = connected_components(graph, directed=False)
    order = np.argsort(component, kind="stable")
    cuts = np.flatnonzero(np.diff(component[order])) + 1
    return [sorted(nodes[part].tolist()) for part in np.split(order, cuts)]


def group_duplicates(samples: SampleSet, found: Duplicates) -> SampleSet:
    """The samples with equal and nearly equal images in one group.

    Groups that share such an image become one. A sample that is alone is a group of its own when
    the recipe names no groups.
    """
    table = samples.table.copy()
    groups = table["group"] if "group" in table else table["id"]
    groups = groups.where(groups.notna(), table["id"]).astype(str)
    first_of_group: dict[str, int] = {}
    pairs = []
    for i, group in enumerate(groups):
        first = first_of_group.setdefault(group, i)
        if first != i:
            pairs.append((first, i))
    for same in (*found.exact, *found.near):
        pairs += [(same[0], other) for other in same[1:]]
    merged = groups.to_numpy(dtype=object).copy()
    for component in _components(pairs):
        merged[component] = groups[component[0]]
    table["group"] = merged
    return replace(samples, table=table)
