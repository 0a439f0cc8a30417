"""`ens frontier`: what fewer networks cost and are worth, and the best that a budget buys."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ensembler.blending.judging.absolute import ScoreInterval, score_interval
from ensembler.blending.make import make_blend
from ensembler.blending.pool import Pool
from ensembler.blending.result import BlendResult
from ensembler.blending.spec import BlendSpec
from ensembler.blends.apply import check_code_is_named, members_below
from ensembler.blends.blend import blend_run
from ensembler.blends.composed import COMPOSED
from ensembler.blends.origin import cross_fitted_score, metric_of
from ensembler.blends.pool import BLEND_PREFIX, StorePool, read_pool
from ensembler.blends.request import seconds
from ensembler.blends.submit import default_blend
from ensembler.errors import RequestError, StoreError
from ensembler.members.cost import Costs, MemberCost, total
from ensembler.metrics import check_metric, score
from ensembler.metrics.renamed import with_names_of_today
from ensembler.predictions.blends import Blend
from ensembler.predictions.store import RunStore
from ensembler.progress import QUIET, Progress
from ensembler.recipe.load import Recipe
from ensembler.recipe.own_code import code_named_by, introduce_code
from ensembler.reporting.scatter import Mark, scatter
from ensembler.reporting.tables import Cell, Table, number
from ensembler.workspace.workspace import check_run_is_trainable

Kind = Literal["member", "soup", "student", "pruned", "blend"]
_SHARES = (0.5, 0.25, 0.125)  # of the full blend's cost, for blends of fewer members
_BESIDE = 500_000  # bytes of a bundle that are no weights, at most
_SIZE = re.compile(r"^(?P<number>\d+(\.\d+)?)\s*(?P<unit>[kmg]?b)$", re.IGNORECASE)
_UNITS = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9}
PACKED = "packed"  # what a blend is called that was made to be packed


@dataclass(frozen=True)
class Point:
    """One way to predict: what it is worth out of fold, and what it costs.

    `blend` is its name among the blends of the store; None: it is made by `spec` where it is
    wanted. A `flattered` score is of a student whose teachers have seen the labels.
    """

    kind: Kind
    name: str
    members: tuple[str, ...]
    score: ScoreInterval | None
    cost: MemberCost
    blend: str | None
    spec: BlendSpec | None = None
    flattered: bool = False

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        found = self.score
        return {
            "kind": self.kind,
            "name": self.name,
            "blend": self.blend,
            "members": list(self.members),
            "networks": self.cost.networks,
            "score": None if found is None else found.value,
            "low": None if found is None else found.low,
            "high": None if found is None else found.high,
            "milliseconds": 1000 * self.cost.seconds,
            "bytes": self.cost.bytes,
            "flattered": self.flattered,
        }


@dataclass(frozen=True)
class Frontier:
    """The ways to predict that a run has, the cheapest first."""

    run: str
    metric: str
    points: tuple[Point, ...]

    def to_json(self) -> dict[str, Any]:
        """As the object that `ens frontier --json` prints."""
        rows = [point.to_json() for point in self.points]
        return {"run": self.run, "metric": self.metric, "rows": rows}

    def table(self) -> Table:
        """As the terminal and a notebook show it."""
        columns = (
            "",
            "name",
            "networks",
            "ms an image",
            "MB",
            self.metric,
            "95 % interval",
        )
        notes: tuple[str, ...] = (
            "Out of fold, blends cross-fitted, those of fewer members with their choice. Times "
            "were measured here, on one device and in batches; views and folds count.",
            "The best member is the best of several by the score that is shown.",
        )
        flattered = ", ".join(point.name for point in self.points if point.flattered)
        if flattered:
            notes += (f"The score of {flattered} is flattered, and chooses nothing.",)
        rows = tuple(_row(point) for point in self.points)
        return Table(f"{self.run}: cost and score", columns, rows, notes, _best(self))

    def figure(self) -> str:
        """As an SVG picture: milliseconds an image against the score with its interval."""
        marks = [
            Mark(
                max(1000 * point.cost.seconds, 1e-6),
                point.score.value,
                point.score.low,
                point.score.high,
                point.name,
                point.kind,
            )
            for point in self.points
            if point.score is not None
        ]
        title = f"{self.run}: cost and score"
        return scatter(title, "milliseconds an image", self.metric, marks)

    def affordable(self, most: Callable[[MemberCost], bool]) -> Point:
        """The best that `most` allows; RequestError when nothing is."""
        sign = check_metric(self.metric).sign
        honest = [p for p in self.points if not p.flattered]
        found = [p for p in honest if most(p.cost) and p.score is not None]
        if not found:
            cheapest, smallest = (
                min(p.cost.seconds for p in self.points),
                min(p.cost.bytes for p in self.points),
            )
            raise RequestError(
                f"nothing in run {self.run!r} fits: the quickest takes {1000 * cheapest:.3g} ms an "
                f"image, the smallest {smallest / 1e6:.3g} MB; `ens distill` makes "
                "a smaller one, which --blend names"
            )
        return max(found, key=lambda p: sign * p.score.value if p.score else -np.inf)


def _row(point: Point) -> tuple[Cell, ...]:
    found, cost = point.score, point.cost
    interval = None if found is None else f"{number(found.low)} to {number(found.high)}"
    return (
        point.kind,
        point.name,
        cost.networks,
        f"{1000 * cost.seconds:.3g}",
        f"{cost.bytes / 1e6:.3g}",
        None if found is None else found.value,
        interval,
    )


def _best(found: Frontier) -> tuple[int, ...]:
    """The rows to which none is cheaper and better."""
    sign, best, rows = check_metric(found.metric).sign, -np.inf, []
    for i, point in enumerate(found.points):
        value = -np.inf if point.score is None else sign * point.score.value
        if value > best and not point.flattered:
            best = value
            rows.append(i)
    return tuple(rows)


def frontier(
    store: RunStore,
    blend: str | None = None,
    *,
    device: str = "auto",
    within: Mapping[Literal["seconds", "bytes"], float] | None = None,
    progress: Progress = QUIET,
) -> Frontier:
    """Cost and score of a blend (the submitted one), and of what takes fewer networks.

    That is the best member, soups, students, other blends of the store, and the blend made of fewer
    members, once for each share of its cost and once for each limit in `within`.
    """
    check_run_is_trainable(store)
    recipe = Recipe.load_recorded(store.recipe_path)
    introduce_code(code_named_by(recipe.spec), progress, [Path.cwd()])
    name = blend or default_blend(store)
    full = store.blend(name)
    check_code_is_named(store, full.record)
    made = _Points(store, full, Costs(store, recipe, device), {})
    points = [*made.kept(), *made.members(), *made.pruned(within or {})]
    ordered = sorted(points, key=lambda p: (p.cost.seconds, p.name))
    return Frontier(store.name, metric_of(full), tuple(ordered))


@dataclass(frozen=True)
class _Points:
    """Makes the points of a run beside the blend `full`; `known` are costs by member."""

    store: RunStore
    full: Blend
    costs: Costs
    known: dict[str, MemberCost]

    def cost(self, name: str) -> MemberCost:
        if name not in self.known:
            self.known[name] = self.costs.of(name)
        return self.known[name]

    def kept(self) -> list[Point]:
        """The blends of the store that are of the same target."""
        store, points = self.store, []
        flattered = store.flattered_students
        for name in store.blends:
            blend = store.blend(name)
            record = blend.record
            if record.target != self.full.record.target:
                continue
            used = _used(store, name)
            if any(not _has_networks(store, member) for member in used):
                continue
            is_student = set(used) <= set(store.lock.students)
            found = cross_fitted_score(store, _in_metric(blend, metric_of(self.full)))
            score_ = None
            if found is not None and found.value is not None:
                low, high = found.low, found.high
                assert low is not None
                assert high is not None
                score_ = ScoreInterval(found.metric, found.value, low, high)
            cost = total(self.cost(member) for member in used)
            kind: Kind = "student" if is_student else "blend"
            is_flattered = not flattered.isdisjoint(used)
            point = Point(
                kind, name, tuple(used), score_, cost, name, flattered=is_flattered
            )
            points.append(point)
        return points

    def members(self) -> list[Point]:
        """The best member alone, and every soup."""
        found = self._pool()
        if found is None:
            return []
        pool, metric = found.pool, metric_of(self.full)
        scores = {
            name: score_interval(metric, pool.oof[m], pool.y, pool.groups)
            for m, name in enumerate(pool.names)
            if _has_networks(self.store, name)
        }
        sign = check_metric(metric).sign
        best = max(scores, key=lambda name: sign * scores[name].value, default=None)
        points = []
        for name, interval in scores.items():
            is_soup = bool(self.store.member(name).record.weights_of)
            if not is_soup and name != best:
                continue
            spec = BlendSpec(method="single", members=(name,), metric=metric, name=PACKED)
            kind: Kind = "soup" if is_soup else "member"
            cost = self.cost(name)
            points.append(Point(kind, name, (name,), interval, cost, None, spec))
        return points

    def pruned(self, within: Mapping[Literal["seconds", "bytes"], float]) -> list[Point]:
        """The full blend made of fewer members, whose choice is cross-fitted with it."""
        found = self._pool()
        if found is None:
            return []
        pool = found.pool.choose(
            [name for name in found.pool.names if _has_networks(self.store, name)]
        )
        full = total(self.cost(name) for name in pool.names)
        limits = [("seconds", full.seconds * share) for share in _SHARES]
        limits += [(unit, most) for unit, most in within.items()]
        points: dict[tuple[str, ...], Point] = {}
        for unit, most in limits:
            point = self._of_budget(pool, unit, most)
            if point is not None:
                points.setdefault(point.members, point)
        return list(points.values())

    def _of_budget(self, pool: Pool, unit: str, most: float) -> Point | None:
        costs = {name: float(getattr(self.cost(name), unit)) for name in pool.names}
        if min(costs.values()) > most or sum(costs.values()) <= most:
            return None
        said = with_names_of_today(self.full.record.spec or {})
        options = {
            key: value
            for key, value in said.items()
            if key not in ("members", "weights", "name")
        }
        if options.get("method") == "weights":
            options["method"] = "auto"
        spec = BlendSpec.model_validate({**options, "max_cost": most, "name": PACKED})
        result = make_blend(replace(pool, costs=costs), spec, trust=pool.names)
        idle = () if result.blend is None else result.blend.idle
        used = tuple(name for name in result.members if name not in idle)
        kept = spec.model_copy(update={"members": used, "max_cost": None})
        interval = _score_of(pool, spec.metric, result)
        cost = total(self.cost(name) for name in used)
        name = f"{self.full.record.name} of {len(used)}"
        return Point("pruned", name, used, interval, cost, None, kept)

    def _pool(self) -> StorePool | None:
        """The members that the full blend chose from; None of a composed blend."""
        record = self.full.record
        if record.method == COMPOSED or any(
            name.startswith(BLEND_PREFIX) for name in record.members
        ):
            return None
        spec = record.spec or {}
        return read_pool(
            self.store,
            record.members,
            target=record.target,
            merge=spec.get("merge", "mean"),
            views=record.views,
            common_rows=True,
        )


def _score_of(pool: Pool, metric: str, result: BlendResult) -> ScoreInterval:
    """The cross-fitted score with what the choice adds by chance taken off."""
    found = score_interval(metric, np.asarray(result.oof), pool.y, pool.groups)
    honest = (result.scores.get("cross_fitted") or {}).get(metric)
    if honest is None:
        return found
    return found.moved(honest - score(metric, np.asarray(result.oof), pool.y))


def _in_metric(blend: Blend, metric: str) -> Blend:
    """The blend as one that was made for a metric."""
    spec = {**(blend.record.spec or {}), "metric": metric}
    return replace(blend, record=blend.record.model_copy(update={"spec": spec}))


def _used(store: RunStore, name: str) -> list[str]:
    """The members that a blend cannot do without: those below it, less those of weight zero."""
    record = store.blend(name).record
    idle = {member for member, weight in (record.weights or {}).items() if weight == 0}
    return [member for member in members_below(store, name) if member not in idle]


def _has_networks(store: RunStore, name: str) -> bool:
    return not store.member(name).record.imported


@dataclass(frozen=True)
class Limits:
    """What a bundle may cost: seconds for an image, and bytes; None: as it comes."""

    seconds: float | None = None
    bytes: float | None = None
    bytes_of_weights: float | None = None

    @classmethod
    def parse(cls, cost: str | None, size: str | None, precision: str) -> Limits:
        """The limits in "5ms" and "50MB", for a bundle whose weights have a precision."""
        time = None if cost is None else seconds(cost)
        if size is None:
            return cls(time)
        most = _bytes(size)
        share = 1.0 if precision == "float32" else 0.5
        return cls(time, most, max(0.0, most - _BESIDE) / share)

    def allow(self, cost: MemberCost) -> bool:
        """Whether something of that cost fits."""
        is_quick = self.seconds is None or cost.seconds <= self.seconds
        most = self.bytes_of_weights
        return is_quick and (most is None or cost.bytes <= most)

    def check(self, bundle: Path) -> None:
        """Remove a bundle that is too large after all, and raise StoreError."""
        found = bundle.stat().st_size
        if self.bytes is not None and found > self.bytes:
            bundle.unlink()
            raise StoreError(
                f"{bundle} would have {found / 1e6:.3g} MB, above --max-size: allow a little more"
            )


def _bytes(text: str) -> float:
    match = _SIZE.match(text.strip())
    if match is None:
        raise RequestError(f"{text!r} is not a size; write it like 50MB, 800kB or 1.5GB")
    return float(match["number"]) * _UNITS[match["unit"].lower()]


def blend_within(
    store: RunStore,
    limits: Limits,
    blend: str | None = None,
    *,
    device: str = "auto",
    progress: Progress = QUIET,
) -> str:
    """The name of the best blend that the limits allow.

    What is no blend yet is kept as blend `packed`.
    """
    within: dict[Literal["seconds", "bytes"], float] = {}
    if limits.seconds is not None:
        within["seconds"] = limits.seconds
    if limits.bytes_of_weights is not None:
        within["bytes"] = limits.bytes_of_weights
    found = frontier(store, blend, device=device, within=within, progress=progress)
    point = found.affordable(limits.allow)
    progress.note(
        f"{point.kind} {point.name!r} is the best that fits: {1000 * point.cost.seconds:.3g} ms an "
        f"image, {point.cost.bytes / 1e6:.3g} MB"
    )
    if point.blend is not None:
        return point.blend
    assert point.spec is not None
    target = store.blend(blend or default_blend(store)).record.target
    blend_run(store, point.spec, target=target, common_rows=True)
    return PACKED
