"""Folds trained in this process, one after the other."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from ensembler.machine.execution import Execution
from ensembler.members.executor import FoldResult
from ensembler.members.fold import FoldTrainer
from ensembler.members.training import Training
from ensembler.progress import FoldTask
from ensembler.stop import Stop, Stopped
from ensembler.workspace.workspace import Workspace


@dataclass(frozen=True)
class Here:
    """Trains folds in this process."""

    execution: Execution

    @property
    def at_once(self) -> int:
        """One fold at a time."""
        return 1

    def check(self) -> None:
        """Raise RequestError for a device that is not there."""
        from ensembler.networks.devices import pick_device, use_available_cores

        use_available_cores()
        for device in self.execution.devices or (self.execution.device,):
            pick_device(device)

    def run(
        self,
        workspace: Workspace,
        trainings: Sequence[Training],
        tasks: Sequence[FoldTask],
        stop: Stop,
    ) -> Generator[FoldResult, None, None]:
        """Do the tasks: first those that nobody else works on, then what other processes leave."""
        trainer = FoldTrainer(
            workspace, {t.name: t for t in trainings}, self.execution, stop
        )
        for wait in (False, True):
            for task in tasks:
                if stop:
                    return
                try:
                    result = trainer.finish(task, wait=wait)
                except Stopped:
                    return
                if result is not None:
                    yield result
