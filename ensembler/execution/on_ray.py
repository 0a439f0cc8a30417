"""Folds trained on a Ray cluster: on all nodes of one there is, or on one of this machine alone.

Ray places each fold and repeats one whose process or node died; nothing here schedules. What comes
back is written into the run by this process. The cluster is spoken to by a driver of its own
process (`ray_driver.py`), which a cluster that dies may take with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from ensembler.errors import EnsemblerError, MissingExtraError, RequestError
from ensembler.execution.grace import Grace
from ensembler.execution.here import Here
from ensembler.execution.orders import Answer, Look, Node, Order, Start, line, message_of
from ensembler.files import claim, write_bytes
from ensembler.machine.cores import available_cores
from ensembler.machine.environment import versions
from ensembler.machine.execution import Cluster, Execution
from ensembler.members.executor import Failure, FinishedTask, FoldResult, LeftOut
from ensembler.members.fold import FoldTrainer, failure_of, keep_failure
from ensembler.members.short_folds import is_short
from ensembler.members.training import Training
from ensembler.predictions.finished_folds import fold_path, read_finished_fold, weights_path
from ensembler.progress import FoldTask, Progress
from ensembler.stop import Stop, Stopped
from ensembler.training.spec import WITHOUT_EPOCHS
from ensembler.workspace.workspace import Workspace

_STARTS = 3  # tries to start a cluster: a busy machine may be too slow for Ray's own limits
_LOOK_EVERY = 1.0  # seconds between two looks at the stop signal
_IMAGES = 3  # that each node opens before the first fold
_FILES = ("recipe.yaml", "recipe.lock.json", "samples.csv")
_COUNTED = (
    "python",
    "ensembler-toolkit",
    "torch",
    "timm",
)  # versions that must be the same
LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class OnRay:
    """Trains folds on the cluster of `execution`."""

    execution: Execution

    @property
    def cluster(self) -> Cluster:
        """Where folds are trained."""
        return self.execution.cluster or Cluster()

    @property
    def local(self) -> Execution:
        """How this process does what is not for the cluster."""
        return replace(self.execution, cluster=None, processes=1)

    @property
    def threads(self) -> int:
        """With how many threads a fold is trained: with as many as by a run without a cluster."""
        import torch

        share = max(1, available_cores() // self.execution.processes)
        return min(share, torch.get_num_threads())

    @property
    def at_once(self) -> int:
        """How many folds are trained at the same time, as far as this machine tells."""
        return max(1, available_cores() // self.threads)

    def check(self) -> None:
        """Raise MissingExtraError without Ray, RequestError for a cluster open to anybody."""
        if find_spec("ray") is None:
            raise MissingExtraError("--executor ray", "ray")
        Here(self.local).check()
        check_token(self.cluster, os.environ)

    def run(
        self,
        workspace: Workspace,
        trainings: Sequence[Training],
        tasks: Sequence[FoldTask],
        stop: Stop,
    ) -> Generator[FoldResult, None, None]:
        """Do the tasks on the cluster, and here what it left and what needs the run itself."""
        by_name = {training.name: training for training in trainings}
        sent = [task for task in tasks if is_for_cluster(by_name[task.training])]
        try:
            if sent:
                stop.check()
                yield from self._run_there(workspace, by_name, sent, stop)
        except Stopped:
            return
        yield from Here(self.local).run(workspace, trainings, tasks, stop)

    def _run_there(
        self,
        workspace: Workspace,
        trainings: Mapping[str, Training],
        tasks: Sequence[FoldTask],
        stop: Stop,
    ) -> Generator[FoldResult, None, None]:
        """Do the tasks on the cluster; Stopped when `stop` says so before it has begun."""
        with _driver(self.cluster, self.threads, stop) as driver:
            dispatch = _Dispatch(
                self, driver, workspace, trainings, stop, deque(tasks), Grace(stop)
            )
            yield from dispatch.results()


def is_for_cluster(training: Training) -> bool:
    """Whether a node can train it with the recipe alone.

    Soups need other members' weights, probes have no training, and shortened folds are trained
    where time is judged.
    """
    spec = training.all_plans[0].member.spec
    return not isinstance(spec, WITHOUT_EPOCHS) and not is_short(training.name)


def check_token(cluster: Cluster, environment: Mapping[str, str]) -> None:
    """Raise RequestError for a cluster of others that asks for no token, unless that is allowed.

    Whoever reaches the port of such a cluster runs programs on it.
    """
    if cluster.address is None or cluster.may_be_open:
        return
    has_token = any(environment.get(f"RAY_AUTH_TOKEN{end}") for end in ("", "_PATH"))
    if has_token and environment.get("RAY_AUTH_MODE") == "token":
        return
    raise RequestError(
        f"--address {cluster.address}: without a token anybody who reaches a Ray port runs "
        "programs there; start the cluster with RAY_AUTH_MODE=token and set that and "
        "RAY_AUTH_TOKEN here, or add --insecure-cluster"
    )


def driver_environment(cluster: Cluster, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a driver: no telemetry, and a cluster of ours on loopback with a token."""
    ours = {
        **environment,
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TASK_MAX_RETRIES": "2",
        "RAY_worker_niceness": "0",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    host = (cluster.address or "127.0.0.1").partition(":")[0]
    if host in LOOPBACK:
        # otherwise five of its sockets listen on all interfaces
        ours["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    if cluster.address is None:
        ours |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return ours


@dataclass
class _Driver:
    """A driver at work: orders go in, lines come out."""

    process: subprocess.Popen[bytes]
    out: int  # the file descriptor of its lines
    log: Path
    _begun: bytes = b""

    def send(self, kind: str, content: Any = None) -> None:
        """Give it something to do."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line(kind, content))
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._gone() from None

    def receive(self, seconds: float) -> list[dict[str, Any]]:
        """The lines of the next `seconds`, as soon as there are any."""
        ready, _, _ = select.select([self.out], [], [], seconds)
        if not ready:
            return []
        read = os.read(self.out, 1 << 20)
        if not read:
            raise self._gone()
        *whole, self._begun = (self._begun + read).split(b"\n")
        return [json.loads(text) for text in whole if text]

    def next(self, kind: str, stop: Stop) -> dict[str, Any]:
        """The content of the next line, which is of a `kind`, or says why there is none.

        Raises Stopped when `stop` says so first.
        """
        while True:
            stop.check()
            for said in self.receive(_LOOK_EVERY):
                if said["kind"] == "unusable":
                    raise EnsemblerError(str(said["content"]["message"]))
                if said["kind"] == kind:
                    return dict(said["content"])

    def _gone(self) -> EnsemblerError:
        said = self.log.read_text(errors="replace").strip().splitlines()
        last = said[-1][-200:] if said else "its driver ended without a word"
        return EnsemblerError(
            f"the cluster is gone ({last}); what is finished is kept, and the same "
            "command resumes"
        )


@contextmanager
def _driver(cluster: Cluster, threads: int, stop: Stop) -> Iterator[_Driver]:
    """A driver that has found or started its cluster; both end with the block."""
    # short, for names of sockets are
    with tempfile.TemporaryDirectory(prefix="ens-", ignore_cleanup_errors=True) as folder:
        package = None if cluster.address is None else str(Path(__file__).parents[1])
        start = Start(
            address=cluster.address,
            cpus=available_cores(),
            threads=threads,
            gpus=cluster.gpus,
            folder=folder,
            package=package,
        )
        with ExitStack() as stack:
            yield _started(cluster, start, stack, stop)


def _started(cluster: Cluster, start: Start, stack: ExitStack, stop: Stop) -> _Driver:
    """A driver whose cluster answers, after a few tries; `stack` ends it."""
    for attempt in range(1, _STARTS + 1):
        driver = stack.enter_context(_process(cluster, Path(start.folder), attempt))
        driver.send("start", start)
        try:
            driver.next("ready", stop)
        except Stopped:
            raise
        except EnsemblerError as error:
            if attempt == _STARTS or cluster.address is not None:
                where = cluster.address or "a cluster on this machine"
                raise EnsemblerError(f"Ray: {where} does not answer: {error}") from error
        else:
            return driver
    raise AssertionError


@contextmanager
def _process(cluster: Cluster, folder: Path, attempt: int) -> Iterator[_Driver]:
    out, theirs = os.pipe()
    log = folder / f"driver-{attempt}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "ensembler.execution.ray_driver", str(theirs)],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            pass_fds=[theirs],
            env=driver_environment(cluster, os.environ),
            start_new_session=True,  # Ctrl-C is for the run, which tells it what to do
        )
    os.close(theirs)
    try:
        yield _Driver(process, out, log)
    finally:
        _end(process)
        os.close(out)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let a driver end its cluster, and end it when it does not."""
    stdin: IO[bytes] | None = process.stdin
    if stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            stdin.close()
    try:
        process.wait(timeout=20.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass
class _Dispatch:
    """Gives tasks to nodes while there are some, and writes what comes back into the run."""

    executor: OnRay
    driver: _Driver
    workspace: Workspace
    trainings: Mapping[str, Training]
    stop: Stop
    waiting: deque[FoldTask]
    grace: Grace
    at_work: dict[int, tuple[FoldTask, ExitStack]] = field(default_factory=dict)
    n_sent: int = 0
    is_asked: bool = False
    sees_run: bool = True

    @property
    def progress(self) -> Progress:
        return self.workspace.progress

    def results(self) -> Generator[FoldResult, None, None]:
        """What became of the folds, until all are done or `stop` says so."""
        nodes = self._nodes()
        slots = sum(node.slots for node in nodes)
        self.progress.note(
            f"{len(nodes)} nodes train {slots} folds at once, with {self.executor.threads} threads "
            "each"
        )
        try:
            while self.at_work or (self.waiting and not self.stop):
                yield from self._send(slots)
                if self.stop and self._has_waited_enough():
                    return
                for said in self.driver.receive(_LOOK_EVERY) if self.at_work else ():
                    yield from self._heard(said["kind"], said["content"])
        finally:
            for _, claimed in self.at_work.values():
                claimed.close()

    def _nodes(self) -> list[Node]:
        """The nodes that train folds; RequestError when one of them cannot."""
        token, images = secrets.token_hex(16), self.workspace.samples.images
        paths = [Path(images.name(i)) for i in range(min(_IMAGES, len(images)))]
        probe = self.workspace.store.folder / f".seen-{token}"
        probe.write_text(token)
        try:
            look = Look(
                probe=str(probe.resolve()),
                token=token,
                images=tuple(str(path.resolve()) for path in paths if path.is_file()),
            )
            self.driver.send("look", look)
            found = self.driver.next("nodes", self.stop)["nodes"]
        finally:
            probe.unlink(missing_ok=True)
        nodes = [Node.model_validate(node) for node in found]
        nodes = [node for node in nodes if node.slots]
        if not nodes:
            gpus = self.executor.cluster.gpus
            asked = f"{self.executor.threads} CPUs" + (f" and {gpus} GPUs" if gpus else "")
            raise RequestError(
                f"no node of the cluster has the {asked} that a fold takes; OMP_NUM_THREADS, "
                "--jobs and --gpus say how many"
            )
        for node in nodes:
            check_node(node)
        given = self.executor.cluster.sees_run
        self.sees_run = all(n.sees_run for n in nodes) if given is None else given
        return nodes

    def _send(self, slots: int) -> Iterator[FoldResult]:
        """Give tasks to nodes that are free; those for which there is no time are left out."""
        trainer = FoldTrainer(
            self.workspace, self.trainings, self.executor.local, self.stop
        )
        while self.waiting and len(self.at_work) < slots and not self.stop:
            task = self.waiting.popleft()
            training = self.trainings[task.training]
            if failure_of(training) is not None or not training.unfinished(task.fold):
                continue
            reason = trainer.why_no_time(training, task)
            if reason is not None:
                yield LeftOut(task, reason)
                continue
            claimed = ExitStack()
            if not self.sees_run:
                lock = training.folder / f".fold{task.fold}.lock"
                if not claimed.enter_context(claim(lock)):
                    continue  # another process trains it
            self.n_sent += 1
            self.at_work[self.n_sent] = task, claimed
            self.driver.send("fold", self._order(self.n_sent, task))

    def _order(self, number: int, task: FoldTask) -> Order:
        store, execution = self.workspace.store, self.executor.execution
        training = self.trainings[task.training]
        paths = [store.folder / name for name in _FILES]
        files = {p.name: p.read_text(encoding="utf-8") for p in paths if not self.sees_run}
        code = self.workspace.recipe.path.resolve().parent
        return Order(
            number=number,
            run=store.name,
            training=task.training,
            fold=task.fold,
            members=tuple(plan.member.name for plan in training.plans),
            folder=str(store.folder.resolve()) if self.sees_run else None,
            files=files,
            code=(str(code), str(Path.cwd())),
            threads=self.executor.threads,
            device=execution.device,
            workers=execution.workers,
            engine=execution.engine,
            seconds_left=self.stop.seconds_left,
        )

    def _has_waited_enough(self) -> bool:
        """Ask the nodes to end the epoch at hand; whether time is over, too."""
        if not self.is_asked:
            self.is_asked = True
            self.driver.send("ask")
        return self.grace.is_over

    def _heard(self, kind: str, content: dict[str, Any]) -> Iterator[FoldResult]:
        match kind:
            case "message":
                message_of(content).show(self.progress)
            case "lost":
                task, claimed = self.at_work.pop(content["number"])
                claimed.close()
                self.progress.warn(
                    f"{task.training} fold {task.fold} was lost on the cluster "
                    f"({content['message']}); it is left to this process"
                )
            case "answer":
                number = content.pop("number")
                task, claimed = self.at_work.pop(number)
                with claimed:
                    result = self._result(task, Answer.model_validate(content))
                if result is not None:
                    yield result

    def _result(self, task: FoldTask, answer: Answer) -> FoldResult | None:
        training = self.trainings[task.training]
        match answer.outcome:
            case "left_out":
                return LeftOut(task, answer.message)
            case "failed":
                return self._failed(training, answer)
            case "nothing":
                return None
        self._write(training, task.fold, answer)
        plan = training.plans[-1]
        if not answer.is_short and plan.on_disk.is_finished(task.fold):
            finished = read_finished_fold(plan.on_disk.folder, task.fold)
            self.progress.fold_done(task, plan.output.describe(finished))
        return FinishedTask(task, answer.was_trained, answer.is_short)

    def _failed(self, training: Training, answer: Answer) -> Failure:
        if self.sees_run:
            return Failure(training.name, answer.fold, answer.message)
        prefix = f"member {training.name!r} fold {answer.fold}: "
        return keep_failure(training, answer.fold, answer.message.removeprefix(prefix))

    def _write(self, training: Training, fold: int, answer: Answer) -> None:
        """Write the files of a fold into the run, the one that makes it finished last."""
        for plan in training.plans:
            contents = answer.files.get(plan.member.name, {})
            folder = plan.on_disk.folder
            for path in (weights_path(folder, fold), fold_path(folder, fold)):
                if path.name in contents:
                    received = Path(contents[path.name])
                    folder.mkdir(parents=True, exist_ok=True)
                    write_bytes(path, received.read_bytes())
                    received.unlink()


def check_node(node: Node) -> None:
    """Raise RequestError for a node that cannot read the images or has other versions."""
    if node.problem is not None:
        raise RequestError(f"node {node.name} cannot train: {node.problem}")
    ours = versions()
    for name in _COUNTED:
        theirs = node.versions.get(name)
        if theirs != ours.get(name):
            raise RequestError(
                f"node {node.name} has {name} {theirs}, and here it is {ours.get(name)}: equal "
                "versions are needed for equal results"
            )
