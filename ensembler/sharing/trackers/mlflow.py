"""A run in MLflow: one parent run, with a run for each member and for each fold below it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensembler.errors import MissingExtraError
from ensembler.progress import Epoch
from ensembler.sharing.trackers.facts import Curve, MemberFacts, RunFacts

EXPERIMENT = "ensembler"  # unless MLFLOW_EXPERIMENT_NAME says otherwise
_MOST_METRICS = 1000  # in one request
_MOST_PARAMS = 100
_MOST_LETTERS = 500  # of a parameter
# how long a server that does not answer is waited for, and nothing told to anybody else; the user's
# own settings stand
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class MlflowTracker:
    """A mirror by MLflow's client; the server is the one of MLFLOW_TRACKING_URI.

    What was made there is noted in `kept`: the parent's id, and for each fold its run and how many
    epochs it has. Runs of members carry the tag `ens.digest`, by which they are found again.
    """

    def __init__(self, run: str, folder: Path, kept: dict[str, Any]) -> None:
        for name, value in _SETTINGS.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise MissingExtraError("track: mlflow", "mlflow") from error
        self.client = MlflowClient()
        self.name = run
        self.kept = kept
        uri = str(self.client.tracking_uri)
        if kept.get("server") != uri:
            kept.clear()
            kept.update(server=uri, folds={})
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
        self.experiment = self._experiment(experiment)
        self.parent = self._parent(folder)

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self.client.create_experiment(name))
        except MlflowException:
            found = self.client.get_experiment_by_name(name)  # somebody made it just now
            if found is None:
                raise
            return str(found.experiment_id)

    def _parent(self, folder: Path) -> str:
        from mlflow.exceptions import MlflowException

        noted = self.kept.get("parent")
        if noted is not None:
            try:
                return str(self.client.get_run(noted).info.run_id)
            except MlflowException:
                self.kept["folds"] = {}  # the server was emptied
        tags = {
            "mlflow.runName": self.name,
            "ens.run": self.name,
            "ens.folder": folder.name,
        }
        made = self.client.create_run(self.experiment, tags=tags)
        self.kept["parent"] = made.info.run_id
        return str(made.info.run_id)

    def _below(self, name: str, tags: Mapping[str, str]) -> str:
        """A new run below the parent."""
        said = {"mlflow.runName": name, "mlflow.parentRunId": self.parent, **tags}
        return str(self.client.create_run(self.experiment, tags=said).info.run_id)

    def epoch(self, epoch: Epoch) -> None:
        """Add an epoch to its fold's run."""
        figures = {"loss": epoch.loss, "score": epoch.score, "seconds": epoch.seconds}
        known = {key: value for key, value in figures.items() if value is not None}
        known["epoch"] = epoch.epoch
        self._add(Curve(epoch.training, epoch.fold, (known,)))

    def _add(self, curve: Curve) -> None:
        """Log the epochs of a fold that its run does not have."""
        if not curve.epochs:
            return
        folds = self.kept["folds"]
        key = f"{curve.training}/{curve.fold}"
        if key not in folds:
            tags = {"ens.training": curve.training, "ens.fold": str(curve.fold)}
            run = self._below(f"{curve.training} fold {curve.fold}", tags)
            folds[key] = {"run": run, "epochs": 0}
        fold = folds[key]
        new = [epoch for epoch in curve.epochs if epoch.get("epoch", 0) > fold["epochs"]]
        for epoch in new:
            figures = {key: value for key, value in epoch.items() if key != "epoch"}
            self._log(fold["run"], figures, step=int(epoch["epoch"]))
        fold["epochs"] = max(int(epoch.get("epoch", 0)) for epoch in curve.epochs)

    def member(self, member: MemberFacts) -> None:
        """A run for the member, unless one with its digest is there, and its curves."""
        for curve in member.curves:
            self._add(curve)
            fold = self.kept["folds"].get(f"{curve.training}/{curve.fold}")
            if fold is not None and not fold.get("ended"):
                self.client.set_terminated(fold["run"])
                fold["ended"] = True
        there = self.client.search_runs(
            [self.experiment],
            filter_string=f"tags.`ens.digest` = '{member.digest}' and "
            f"tags.`mlflow.parentRunId` = '{self.parent}'",
            max_results=1,
        )
        if there:
            return
        tags = {f"ens.{key}": value for key, value in member.tags.items()}
        run = self._below(member.name, {"ens.member": member.name, **tags})
        self._log(run, member.metrics, params=member.params)
        # last: a run without its digest was not finished, and is made again
        self.client.set_tag(run, "ens.digest", member.digest)
        self.client.set_terminated(run)

    def run(self, run: RunFacts) -> None:
        """The blends' scores, tables and files, in the parent run."""
        params = {} if self.kept.get("has_params") else run.params
        self._log(self.parent, run.metrics, params=params)
        self.kept["has_params"] = True
        for name, table in run.tables.items():
            self.client.log_dict(self.parent, table, name)
        for path in run.files:
            self.client.log_artifact(self.parent, str(path))
        self.client.set_tag(self.parent, "ens.digest", run.digest)

    def close(self) -> None:
        """Mark the parent run as finished for now."""
        self.client.set_terminated(self.parent)

    def _log(
        self,
        run: str,
        metrics: Mapping[str, float],
        *,
        step: int = 0,
        params: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        figures = [Metric(_key(name), value, now, step) for name, value in metrics.items()]
        options = [
            Param(_key(name), value[:_MOST_LETTERS])
            for name, value in (params or {}).items()
        ]
        rounds = max(-(-len(figures) // _MOST_METRICS), -(-len(options) // _MOST_PARAMS))
        for k in range(rounds):
            self.client.log_batch(
                run,
                metrics=figures[k * _MOST_METRICS : (k + 1) * _MOST_METRICS],
                params=options[k * _MOST_PARAMS : (k + 1) * _MOST_PARAMS],
            )


def _key(name: str) -> str:
    """A name that MLflow takes: letters, digits and a few signs."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)[:250]
