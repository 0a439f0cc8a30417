"""A run's folder: where everything lies, and what of it is there."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from ensembler.arguments import check_is
from ensembler.errors import (
    MissingFileError,
    MissingRunError,
    RequestError,
    UnknownNameError,
    nearest,
)
from ensembler.files import check_name, sha256_of
from ensembler.predictions.blends import BLEND_RECORD, Blend, open_blend
from ensembler.predictions.lock import LOCK_RECORD, RunLock, read_lock
from ensembler.predictions.members import MEMBER_RECORD, Member, open_member
from ensembler.predictions.samples import SampleTable, read_samples_csv
from ensembler.predictions.settled import has_record
from ensembler.targets.composition import Composition
from ensembler.targets.kinds import Labels, TargetKind, kind_written_as
from ensembler.targets.label_sets import SetFormat
from ensembler.targets.target import Target


def artifacts_folder(given: Path | None = None) -> Path:
    """The folder of all runs: `given`, else `$ENS_ARTIFACTS`, else `./artifacts`."""
    return given or Path(os.environ.get("ENS_ARTIFACTS") or "artifacts")


def cache_folder(artifacts: Path) -> Path:
    """The folder of prepared pixels: `ENS_CACHE`, else `.cache` among the runs."""
    return Path(os.environ.get("ENS_CACHE") or artifacts / ".cache")


def run_names(artifacts: Path) -> list[str]:
    """Names of the runs in `artifacts`."""
    if not artifacts.is_dir():
        return []
    return sorted(p.name for p in artifacts.iterdir() if (p / "samples.csv").is_file())


@dataclass(frozen=True)
class RunStore:
    """Everything a run keeps on disk, by name. Opening and reading never writes."""

    folder: Path

    @classmethod
    def open(cls, run: str | Path, artifacts: Path | None = None) -> RunStore:
        """Open a run by its folder or by its name under the folder of all runs.

        RequestError for the name of something else: a recipe, a bundle, a pool.
        """
        check_is(run, "run")
        given = Path(run)
        if (given / "samples.csv").is_file():
            return cls(given)
        root = artifacts_folder(artifacts)
        if len(given.parts) == 1 and (root / given / "samples.csv").is_file():
            return cls(root / given)
        known = run_names(root)
        if given.is_dir() or (len(given.parts) == 1 and (root / given).is_dir()):
            place = given if given.is_dir() else root / given
            raise MissingRunError(
                f"{place} is not a run: it has no samples.csv; start one with `ens run RECIPE`"
            )
        hint = (
            nearest(str(run), known)
            if known
            else f"there are no runs in {root}; start one with `ens run RECIPE`"
        )
        raise MissingRunError(f"unknown run {str(run)!r}; {hint}")

    def again(self) -> RunStore:
        """The run as it is now, with the rows that were read already: those stay as they are."""
        now = RunStore(self.folder)
        now.__dict__["samples"] = self.samples
        return now

    @property
    def name(self) -> str:
        """The run's name, which is its folder's."""
        return self.folder.resolve().name

    @property
    def lock_path(self) -> Path:
        """The lock held while something complete is put in its place."""
        return self.folder / ".lock"

    @property
    def samples_path(self) -> Path:
        """Where the rows and their order lie."""
        return self.folder / "samples.csv"

    @property
    def corrections_path(self) -> Path:
        """Where the corrections of labels lie that the run was made with, if there were any."""
        return self.folder / "corrections.csv"

    @property
    def recipe_path(self) -> Path:
        """Where the resolved recipe lies."""
        return self.folder / "recipe.yaml"

    @property
    def recipe_lock_path(self) -> Path:
        """Where versions, seeds and fingerprints lie."""
        return self.folder / LOCK_RECORD

    @property
    def submission_path(self) -> Path:
        """Where the best valid blend so far lies, ready to submit."""
        return self.folder / "submission.csv"

    @cached_property
    def samples(self) -> SampleTable:
        """The rows of the run."""
        return read_samples_csv(self.samples_path)

    @cached_property
    def samples_sha256(self) -> str:
        """The checksum every record of this run carries."""
        return sha256_of(self.samples_path)

    def member_folder(self, name: str) -> Path:
        """Where a member's files lie."""
        return self.folder / "members" / check_name("member", name)

    def blend_folder(self, name: str) -> Path:
        """Where a blend's files lie."""
        return self.folder / "blends" / check_name("blend", name)

    @property
    def complete_members(self) -> list[str]:
        """Names of the members that have a `member.json`, in the recipe's order, then by name."""
        return self._in_order(self._complete("members", MEMBER_RECORD))

    @property
    def pool_members(self) -> list[str]:
        """The complete members that are blended unless others are named.

        Those that a complete member of the recipe is the mean of are in it already, and students
        have learned from the labels of all folds, through the blend that taught them. Members of
        other folds have no out-of-fold predictions.
        """
        complete, lock = self.complete_members, self.lock
        left_out = {*lock.students, *_parts_of(self._joined)}
        candidates = [name for name in complete if name not in left_out]
        whole = [name for name in candidates if lock.part_of.get(name) not in complete]
        return [name for name in whole if not self.member(name).record.holdout_only]

    @property
    def flattered_students(self) -> set[str]:
        """Names of the complete students whose teachers have seen the labels they are scored by."""
        students = set(self.complete_members) & set(self.lock.students)
        return {name for name in students if self.member(name).record.flattered}

    @property
    def joined_members(self) -> list[str]:
        """The complete members that count as named though the recipe does not name them.

        Those are trials of a search, and members of the team's pool whose folds are the run's.
        """
        joined = self._joined
        parts = _parts_of(joined)
        return [member.name for member in joined if member.name not in parts]

    @property
    def _joined(self) -> list[Member]:
        named = set(self.lock.members)
        others = [name for name in self.complete_members if name not in named]
        opened = [self.member(name) for name in others]
        # what lacks rows would leave them out of the blend of all
        whole = [m for m in opened if not (m.record.holdout_only or m.record.partial)]
        return [member for member in whole if member.record.origin]

    @property
    def begun_members(self) -> list[str]:
        """Names of the members that have a folder but are not complete."""
        done = set(self.complete_members)
        folders = (self.folder / "members").glob("*")
        return self._in_order(p.name for p in folders if p.is_dir() and p.name not in done)

    @property
    def blends(self) -> list[str]:
        """Names of the blends."""
        return sorted(self._complete("blends", BLEND_RECORD))

    def _complete(self, kind: str, record: str) -> list[str]:
        return [
            entry.name
            for entry in self.folder.glob(f"{kind}/*")
            if has_record(entry, record)
        ]

    def member(self, name: str) -> Member:
        """Open a complete member; the error tells an unknown name from one that is not finished."""
        folder = self.folder / "members" / name
        if name == folder.name and has_record(folder, MEMBER_RECORD):
            return open_member(self.member_folder(name), self.samples, self.samples_sha256)
        if name in self.begun_members:
            raise MissingFileError(
                f"member {name!r} is not complete yet; `ens run {self.recipe_hint}` resumes it"
            )
        raise UnknownNameError("member", name, self.complete_members)

    def blend(self, name: str) -> Blend:
        """Open a blend."""
        if name not in self.blends and name in self.complete_members:
            raise RequestError(
                f"{name!r} is a member, not a blend; `ens blend {self.name} --method "
                f"single --members {name} --name {name}` makes one of it"
            )
        if name not in self.blends:
            raise UnknownNameError("blend", name, self.blends)
        return open_blend(self.blend_folder(name), self.samples)

    @property
    def recipe_hint(self) -> Path:
        """The recipe to name in advice."""
        return self.recipe_path

    @cached_property
    def lock(self) -> RunLock:
        """What `recipe.lock.json` says; nothing for a run that another tool wrote."""
        return read_lock(self.recipe_lock_path)

    def classes(self, target: str) -> tuple[str, ...]:
        """Class names of a target, in the run's order: as locked, else its first member's."""
        if target in self.lock.classes:
            return self.lock.classes[target]
        for name in self.complete_members:
            member = self.member(name)
            if target in member.targets:
                return member.for_target(target).record.classes
        raise MissingFileError(
            f"run {self.name!r} has no complete member of target {target!r} yet"
        )

    @cached_property
    def _set_formats(self) -> dict[str, SetFormat]:
        """The multi-label targets, and how a submission writes sets of labels.

        As locked, else as the members say.
        """
        if self.lock.multi_label is not None:
            return self.lock.multi_label
        named = list(
            chain.from_iterable(
                self.member(name).record.multi_label for name in self.complete_members
            )
        )
        return dict.fromkeys(named, SetFormat(" "))

    def target(self, name: str, classes: Sequence[str] | None = None) -> Target:
        """A target of the run, with its classes in the run's order or in that of `classes`."""
        names = self.classes(name) if classes is None else tuple(classes)
        return Target(name, names, self.set_format(name))

    def set_format(self, target: str) -> SetFormat | None:
        """How a submission writes the labels of a multi-label target; None of another."""
        return self._set_formats.get(target)

    def kind(self, target: str) -> TargetKind:
        """Whether rows have one label of a target, or several at once."""
        return kind_written_as(self.set_format(target))

    @property
    def targets(self) -> tuple[Target, ...]:
        """All targets of the run, in the order of `samples.csv`."""
        return tuple(self.target(name) for name in self.samples.targets)

    def labels(
        self, target: str, split: str, classes: Sequence[str] | None = None
    ) -> Labels:
        """Labels of one split ("train", "test") as `Target.encode` gives them."""
        return self.samples.labels(self.target(target, classes), split)

    @property
    def composition(self) -> Composition | None:
        """How the label is composed of tasks; None when it is not."""
        return self.lock.composition

    def members_of(self, target: str, names: Iterable[str] | None = None) -> list[Member]:
        """The members of the pool (or those of `names`) that predict `target`.

        Each is opened for that target alone.
        """
        opened = (
            self.member(name) for name in (self.pool_members if names is None else names)
        )
        return [member.for_target(target) for member in opened if target in member.targets]

    def _in_order(self, names: Iterable[str]) -> list[str]:
        order = {name: i for i, name in enumerate(self.lock.members)}
        return sorted(names, key=lambda name: (order.get(name, len(order)), name))


def _parts_of(members: Iterable[Member]) -> set[str]:
    """The members that some of `members` are the mean of."""
    return set(chain.from_iterable(member.record.made_of for member in members))
