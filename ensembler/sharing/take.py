"""Taking members of somebody else into a run: checked as a stranger's, named, published.

What is taken is logits and a record: nothing of it is run, no name of it becomes a path before it
is checked, and every file is compared with the digest and the shape that its record says.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ensembler.errors import RequestError, StoreError, UnknownNameError
from ensembler.files import MOST_BYTES, MOST_CHARACTERS, check_name, claim
from ensembler.predictions.members import MEMBER_RECORD, Member, MemberRecord
from ensembler.predictions.publish import clean_up, finish_replacement, prepared_replacement
from ensembler.predictions.records import write_record
from ensembler.predictions.store import RunStore
from ensembler.sharing.arrays import check_values, scores_of, write_arrays
from ensembler.sharing.authors import in_a_name
from ensembler.sharing.checks import fitting, reason_against
from ensembler.sharing.offers import PULLED, Offer
from ensembler.sharing.pool import Unusable, reasons
from ensembler.sharing.splits import Fit

_ASIDE = ".pulling"


@dataclass(frozen=True)
class Taken:
    """What `ens pull` or `ens merge` did.

    `members` are their names in the run, of which `already` were there before; `renamed` has the
    names that they had elsewhere, where those clashed.
    """

    run: str
    source: str
    members: tuple[str, ...]
    already: tuple[str, ...]
    renamed: dict[str, str]
    skipped: tuple[Unusable, ...]

    @property
    def refusal(self) -> str | None:
        """What to say when nothing could be taken though there was something."""
        if self.members or not self.skipped:
            return None
        return f"nothing of {self.source} fits run {self.run!r}: {reasons(self.skipped)}"

    def to_json(self) -> dict[str, Any]:
        """As the object that a command prints."""
        return {**self.__dict__, "skipped": [skipped.__dict__ for skipped in self.skipped]}


def take_members(
    store: RunStore,
    source: str,
    offers: Iterable[Offer | Unusable],
    *,
    holdout_only: bool = False,
) -> Taken:
    """Take every member that fits the run; the others are `skipped` with the reason.

    A member keeps its name unless the run has, or plans, another of that name: then it becomes
    `name@author`. What is there already is left as it is, so that an interrupted call is given
    again. `holdout_only` takes members of other folds for the test rows alone.
    """
    taking = _Taking(store, holdout_only)
    clean_up(store.folder, store.lock_path)
    with claim(store.folder / ".pulling.lock", wait=True):
        for offer in offers:
            taking.take(offer)
    return Taken(
        run=store.name,
        source=source,
        members=tuple(taking.members),
        already=tuple(taking.already),
        renamed=taking.renamed,
        skipped=tuple(taking.skipped),
    )


@dataclass
class _Taking:
    """The members of one call."""

    store: RunStore
    holdout_only: bool
    members: list[str] = field(default_factory=list)
    already: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    skipped: list[Unusable] = field(default_factory=list)

    def take(self, offer: Offer | Unusable) -> None:
        """Take one member, or note why not."""
        if isinstance(offer, Unusable):
            self.skipped.append(offer)
            return
        try:
            self._take(offer)
        except (StoreError, RequestError) as error:
            self.skipped.append(Unusable(offer.name, str(error)))

    def _take(self, offer: Offer) -> None:
        there = self._there(offer)
        if there is not None:
            self.members.append(there)
            self.already.append(there)
            return
        reason = reason_against(self.store, offer)
        if reason is not None:
            raise RequestError(reason)
        fit = fitting(self.store, offer, holdout_only=self.holdout_only)
        if fit.reason is not None:
            raise RequestError(fit.reason)
        with self._aside() as folder:
            record = self._prepared(offer, fit, folder)
            name = self._publish(offer, record, folder)
        self.members.append(name)
        if name != offer.name:
            self.renamed[name] = offer.name

    def _there(self, offer: Offer) -> str | None:
        """The member of the run that has these very predictions, if one has."""
        sums = {name: blob.sha256 for name, blob in offer.files.items() if _is_array(name)}
        for name in self.store.complete_members:
            record = self.store.member(name).record
            here = {file: record.sha256.get(file) for file in sums}
            is_same = here == sums and set(sums) == set(filter(_is_array, record.sha256))
            if record.pulled_from == offer.origin or is_same:
                return name
        return None

    @contextmanager
    def _aside(self) -> Iterator[Path]:
        """An empty folder to prepare a member in; `.pulling.lock` is held."""
        folder = self.store.folder / _ASIDE
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _prepared(self, offer: Offer, fit: Fit, folder: Path) -> MemberRecord:
        """Fetch a member's files into `folder`; its record here, which is not written yet."""
        sums = write_arrays(self.store, offer, fit, folder)
        record = _record_here(self.store, offer, fit, sums)
        write_record(folder / MEMBER_RECORD, record)
        member = Member(folder, record, self.store.samples)
        check_values(member)
        scores = scores_of(self.store, member)
        (folder / MEMBER_RECORD).unlink()
        return record.model_copy(update={"scores": scores})

    def _publish(self, offer: Offer, record: MemberRecord, folder: Path) -> str:
        with claim(self.store.lock_path, wait=True):
            name = _free_name(RunStore(self.store.folder), offer)
            entry = self.store.member_folder(name)
            finish_replacement(entry)
            with prepared_replacement(entry) as prepared:
                for file in sorted(folder.iterdir()):
                    file.replace(prepared / file.name)
                write_record(
                    prepared / MEMBER_RECORD, record.model_copy(update={"name": name})
                )
        return name


def _is_array(file: str) -> bool:
    return file.endswith(".npy")


def _record_here(
    store: RunStore, offer: Offer, fit: Fit, sums: dict[str, str]
) -> MemberRecord:
    """What `member.json` says here: what is known of it, and nothing that other tools added."""
    said = {
        key: getattr(offer.record, key)
        for key in offer.record.model_fields_set & MemberRecord.model_fields.keys()
    }
    here = {
        "scores": {},
        "sha256": {**sums, "samples.csv": store.samples_sha256},
        "origin": PULLED,
        "author": offer.author,
        "pulled_from": offer.origin,
        "imported": True,  # its networks are elsewhere
    }
    if fit.train is None:
        here |= {"holdout_only": True, "partial": True, "fold_column": "fold"}
    return MemberRecord.model_validate({**said, **here})


def _free_name(store: RunStore, offer: Offer) -> str:
    """The member's own name, or one with its author where another has it or will have it."""
    taken = {*store.complete_members, *store.begun_members, *store.lock.members}
    taken |= set(store.lock.section("members"))
    with_author = f"@{in_a_name(offer.author)}"
    numbered = (f"{with_author}-{number}" for number in itertools.count(2))
    endings = itertools.chain(["", with_author], numbered)
    names = (_shortened(offer.name, ending) + ending for ending in endings)
    return check_name("member", next(name for name in names if name not in taken))


def _shortened(name: str, ending: str) -> str:
    """As much of a name as leaves room for an ending."""
    while (
        len((name + ending).encode()) > MOST_BYTES or len(name + ending) > MOST_CHARACTERS
    ):
        name = name[:-1]
    return name


def selected(
    offers: Sequence[Offer | Unusable], names: Sequence[str] | None, source: str
) -> list[Offer | Unusable]:
    """Those of `names`, each a member's or `member@author`; UnknownNameError for one of none."""
    if names is None:
        return list(offers)
    called = [(offer, _called(offer)) for offer in offers]
    known = sorted(set(itertools.chain.from_iterable(words for _, words in called)))
    for name in names:
        if name not in known:
            raise UnknownNameError("member", name, known, of=source)
    return [offer for offer, words in called if set(words) & set(names)]


def _called(offer: Offer | Unusable) -> list[str]:
    if isinstance(offer, Unusable):
        return [offer.member]
    return [offer.name, f"{offer.name}@{in_a_name(offer.author)}"]
