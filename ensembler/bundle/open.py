"""Opening an ensemble: a bundle (a file that ends in .ens), or a run."""

from __future__ import annotations

from pathlib import Path

from ensembler.bundle.archive import SUFFIX, open_archive
from ensembler.bundle.code import check_trusted, import_code
from ensembler.bundle.ensemble import Ensemble
from ensembler.bundle.of_run import ensemble_of_run
from ensembler.predictions.store import RunStore


def open_ensemble(
    source: str | Path,
    *,
    blend: str | None = None,
    artifacts: Path | None = None,
    trust_code: bool = False,
) -> Ensemble:
    """The ensemble of a bundle (`name.ens`), or of a run by its name or folder.

    `blend` names a blend of the run (default: the submitted one). The code that a bundle brings
    along is run only with `trust_code`.
    """
    path = Path(source)
    if path.suffix == SUFFIX:
        return open_bundle(path, trust_code=trust_code)
    return ensemble_of_run(RunStore.open(source, artifacts), blend)


def open_bundle(path: Path, *, trust_code: bool = False) -> Ensemble:
    """The ensemble of a bundle, whose parts were found to fit each other.

    Raises BundleError for a file that is none, was cut short or altered, or is of another version,
    and RequestError where its own code would have to be run and is not trusted.
    """
    archive = open_archive(path)
    check_trusted(archive, trust_code=trust_code)
    if archive.record.code_files:
        import_code(archive)
    ensemble = Ensemble(
        archive.record, str(path), archive.read, frozenset(archive.record.code)
    )
    ensemble.check()
    return ensemble
