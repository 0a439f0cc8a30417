"""Which members of a pool may be blended, and what to say about them."""

from __future__ import annotations

from collections.abc import Sequence

from ensembler.blending.judging.guards import PoolFinding, look_at, suspected
from ensembler.blending.judging.remarks import remarks_on
from ensembler.blending.pool import Pool
from ensembler.blending.registry import BLEND_METHODS, method_class
from ensembler.blending.spec import BlendSpec
from ensembler.errors import RequestError, UnknownNameError


def admitted(
    pool: Pool, spec: BlendSpec, trust: Sequence[str]
) -> tuple[Pool, list[PoolFinding]]:
    """The pool of the members that may be blended, and the findings about all of them.

    Members that only vote are for methods that take votes. `auto` leaves out what looks leaked,
    unless it is in `trust`.
    """
    pool, findings = _with_probabilities(pool, spec)
    findings += look_at(pool)
    if pool.rows_each == 1:
        findings += remarks_on(pool, spec)
    if spec.method == "auto":
        pool = _without_leaks(pool, findings, trust)
    return pool, findings


def _with_probabilities(pool: Pool, spec: BlendSpec) -> tuple[Pool, list[PoolFinding]]:
    """The pool without members that only vote, unless the method takes votes."""
    voters = [name for name in pool.names if name in pool.votes_only]
    if not voters or _takes_votes(spec.method):
        return pool, []
    wanted = [name for name in voters if name in _named_by(spec)]
    kept = [name for name in pool.names if name not in voters]
    takers = " or ".join(name for name in BLEND_METHODS.names if _takes_votes(name))
    if wanted or not kept:
        raise RequestError(
            f"member {(wanted or voters)[0]!r} only votes and has no probabilities; "
            f"--method {takers} takes it"
        )
    message = (
        f"only votes: it has no probabilities and is left out; --method {takers} takes it"
    )
    findings = [
        PoolFinding("votes_only", name, f"member {name!r} {message}") for name in voters
    ]
    return pool.choose(kept), findings


def _takes_votes(method: str) -> bool:
    return method != "auto" and method_class(method).takes_votes


def _named_by(spec: BlendSpec) -> set[str]:
    """The members that a spec asks for by name."""
    named = set(spec.members or ())
    if isinstance(spec.weights, dict):
        named |= {name for name, weight in spec.weights.items() if weight > 0}
    return named


def _without_leaks(
    pool: Pool, findings: Sequence[PoolFinding], trust: Sequence[str]
) -> Pool:
    unknown = [name for name in trust if name not in pool.names]
    if unknown:
        raise UnknownNameError("member to trust", unknown[0], pool.names)
    leaked = set(suspected(findings)) - set(trust)
    kept = [name for name in pool.names if name not in leaked]
    return pool.choose(kept) if leaked and kept else pool
