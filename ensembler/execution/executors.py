"""Which executor trains the folds of a job."""

from __future__ import annotations

from ensembler.execution.here import Here
from ensembler.execution.processes import Processes
from ensembler.execution.together import Together
from ensembler.machine.execution import Execution
from ensembler.members.executor import Executor


def executor_of(execution: Execution) -> Executor:
    """What trains folds as `execution` says."""
    if execution.cluster is not None:
        from ensembler.execution.on_ray import OnRay

        return OnRay(execution)
    if execution.processes == 1:
        return Here(execution)
    from ensembler.networks.devices import cards

    is_one_card = len(execution.devices or cards(execution.device)) == 1
    return Together(execution) if is_one_card else Processes(execution)
