"""Which executor trains the folds of a job."""

from __future__ import annotations

from ensembler.execution.here import Here
from ensembler.execution.processes import Processes
from ensembler.machine.execution import Execution
from ensembler.members.executor import Executor


def executor_of(execution: Execution) -> Executor:
    """What trains folds as `execution` says."""
    return Processes(execution) if execution.processes > 1 else Here(execution)
