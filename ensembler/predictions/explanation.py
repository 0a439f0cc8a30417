"""What a blend says about how it was found: `details` in `blend.json` and in `ens blend --json`."""

from __future__ import annotations

from pydantic import Field

from ensembler.predictions.records import Record


class BlendWarning(Record):
    """A warning about one member, or about the pool when `member` is None."""

    code: str
    member: str | None = None
    message: str


class GainRecord(Record):
    """By how much a blend is better than `over` in a metric, with a 95 % interval."""

    over: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None = None
    beyond_noise: bool | None = None


class Worth(Record):
    """A member's weight, its score alone, and the loss of the blend without it."""

    member: str
    weight: float | None = None
    solo: float | None = None
    marginal: float | None = None


class ReliabilityBin(Record):
    """The rows whose confidence lies between `low` and `high`."""

    low: float
    high: float
    n: int
    confidence: float | None
    accuracy: float | None


class CostPoint(Record):
    """Some members, the seconds a sample takes with all of them, and their log loss."""

    members: tuple[str, ...]
    seconds: float
    log_loss: float | None


class BlendExplanation(Record):
    """How a blend was found; what does not apply to its method is not said.

    `trajectory` holds the rounds of a search: the position of the member added, and the score.
    `tasks` names the blend of each task of a composed one.
    """

    chosen: str | None = None
    candidates: dict[str, float | None] = Field(default_factory=dict)
    correction: float | None = None
    gains: tuple[GainRecord, ...] = ()
    members: tuple[Worth, ...] = ()
    gap: float | None = None
    bias: tuple[float | None, ...] | None = None
    ridge: float | None = None
    ridge_scores: dict[float, float | None] = Field(default_factory=dict)
    shrinkage: float | None = None
    shrinkage_scores: dict[float, float | None] = Field(default_factory=dict)
    class_biases: tuple[float | None, ...] | None = None
    trajectory: tuple[tuple[int, float | None], ...] = ()
    reliability: dict[str, tuple[ReliabilityBin, ...]] = Field(default_factory=dict)
    frontier: tuple[CostPoint, ...] = ()
    searched_by: str | None = None
    thresholds: dict[str, float] = Field(default_factory=dict)
    tasks: dict[str, str] = Field(default_factory=dict)
