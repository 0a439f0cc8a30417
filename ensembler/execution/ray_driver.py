"""The driver of a Ray cluster: a process of its own, for a cluster that dies takes it with it.

It reads orders as lines of JSON on standard input, and says what happens on the file descriptor
that is its argument. It ends when its input does, and so does a cluster that it has started.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from ensembler.execution.orders import Answer, Look, Node, Order, Start, described, line

_ASK_EVERY = 1.0  # seconds between two questions of a node whether the job should end
_LOOK_SECONDS = 180.0  # until a node has to have answered; it imports torch before that
_RETRIES = 2
_STORE_BYTES = 1 << 30


def main() -> None:
    """Do what standard input says until it ends."""
    out = os.fdopen(int(sys.argv[1]), "wb", buffering=0)
    orders: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    Thread(target=_read, args=(orders,), daemon=True).start()
    first = orders.get()
    if first is None:
        return
    start = Start.model_validate(first["content"])
    ray = _ray()

    try:
        _connect(start)
    # whatever Ray raises, it is said in one line
    except Exception as error:
        out.write(line("unusable", {"message": _first_line(error)}))
        return
    driver = _Driver(start, out.write)
    out.write(line("ready"))
    try:
        driver.work(orders)
    finally:
        driver.end()
        ray.shutdown()
    # the run has said all that it had to, or is no more
    shutil.rmtree(start.folder, ignore_errors=True)


def _read(orders: SimpleQueue[dict[str, Any] | None]) -> None:
    for text in sys.stdin.buffer:
        orders.put(json.loads(text))
    orders.put(None)


def _connect(start: Start) -> None:
    ray = _ray()

    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": "ERROR",
        "include_dashboard": False,
    }
    if start.address is not None:
        del quiet["include_dashboard"]
        shipped = {} if start.package is None else {"py_modules": [start.package]}
        ray.init(address=start.address, runtime_env=shipped, **quiet)
        return
    ray.init(
        num_cpus=start.cpus,
        object_store_memory=_STORE_BYTES,
        _temp_dir=start.folder,
        **quiet,
    )


class _Board:
    """An actor beside the driver: what nodes say, and whether the job should end."""

    def __init__(self) -> None:
        self._said: list[dict[str, Any]] = []
        self._is_asked = False

    def say(self, content: dict[str, Any]) -> None:
        """Something happened on a node."""
        self._said.append(content)

    def take(self) -> list[dict[str, Any]]:
        """What nodes have said since the last time."""
        said, self._said = self._said, []
        return said

    def ask(self) -> None:
        """The job should end after the epoch at hand."""
        self._is_asked = True

    def is_asked(self) -> bool:
        """Whether it should."""
        return self._is_asked


def _fold(order: dict[str, Any], board: Any) -> tuple[dict[str, Any], Any]:
    """The task of a node: one fold."""
    from ensembler.execution.fold_on_node import do_fold

    def send(message: Any) -> None:
        content = described(message)
        if content is not None:
            board.say.remote(content)

    answer, files = do_fold(Order.model_validate(order), send, _asking(board))
    return answer.model_dump(mode="json"), files


def _asking(board: Any) -> Callable[[], bool]:
    """A question to the board that is asked once a second at most."""
    ray = _ray()

    asked, answer = time.monotonic(), False

    def is_asked() -> bool:
        nonlocal asked, answer
        if not answer and time.monotonic() - asked > _ASK_EVERY:
            answer = bool(ray.get(board.is_asked.remote()))
            asked = time.monotonic()
        return answer

    return is_asked


def _look(asked: dict[str, Any]) -> dict[str, Any]:
    """The task of a node before the first fold."""
    from ensembler.execution.fold_on_node import look

    return look(Look.model_validate(asked))


def _forget(run: str, files: dict[str, str]) -> None:
    """The task of a node after the last fold."""
    from ensembler.execution.fold_on_node import forget

    forget(run, files)


class _Driver:
    """Hands orders to the nodes, and says what comes of them by `say`."""

    def __init__(self, start: Start, say: Callable[[bytes], object]) -> None:
        ray = _ray()

        self._start, self._say = start, say
        here = ray.get_runtime_context().get_node_id()
        actor = ray.remote(num_cpus=0, scheduling_strategy=_on(here))(_Board)
        self._board: Any = actor.remote()
        self._at_work: dict[Any, int] = {}
        self._copied: Order | None = None
        self._gpus = start.gpus

    def work(self, orders: SimpleQueue[dict[str, Any] | None]) -> None:
        """Do the orders until there are no more."""
        while True:
            try:
                given = orders.get(timeout=0.0 if self._at_work else 1.0)
            except Empty:
                given = {"kind": "wait"}
            if given is None:
                return
            self._do(given)
            self._collect()

    def _do(self, given: dict[str, Any]) -> None:
        match given["kind"]:
            case "look":
                self._say(line("nodes", {"nodes": self._nodes(given["content"])}))
            case "fold":
                self._begin(Order.model_validate(given["content"]))
            case "ask":
                self._board.ask.remote()

    def _nodes(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        ray = _ray()

        alive = _alive()
        if self._gpus is None:
            has_gpus = any(node["Resources"].get("GPU") for node in alive)
            self._gpus = 1.0 if has_gpus else 0.0
        task = ray.remote(num_cpus=0, max_retries=_RETRIES)(_look)
        looks = [
            task.options(scheduling_strategy=_on(node["NodeID"])).remote(asked)
            for node in alive
        ]
        return [self._node(node, ref) for node, ref in zip(alive, looks, strict=True)]

    def _node(self, node: dict[str, Any], ref: Any) -> dict[str, Any]:
        ray = _ray()

        name, has = node["NodeManagerHostname"], node["Resources"]
        slots = int(has.get("CPU", 0) // self._start.threads)
        if self._gpus:
            slots = min(slots, int(has.get("GPU", 0) / self._gpus))
        try:
            found = ray.get(ref, timeout=_LOOK_SECONDS)
        # whatever Ray raises: the node is of no use
        except Exception as error:
            found = {"versions": {}, "sees_run": False, "problem": _first_line(error)}
        return Node(name=name, slots=slots, **found).model_dump(mode="json")

    def _begin(self, order: Order) -> None:
        ray = _ray()

        if order.folder is None:
            self._copied = order
        task = ray.remote(
            num_cpus=order.threads,
            num_gpus=self._gpus or 0,
            max_retries=_RETRIES,
            retry_exceptions=False,
        )(_fold)
        ref = task.remote(order.model_dump(mode="json"), self._board)
        self._at_work[ref] = order.number

    def _collect(self) -> None:
        """Say what nodes have said, and which folds are done."""
        ray = _ray()

        done: list[Any] = []
        if self._at_work:
            # what is done is fetched at once, so that a node that dies then takes nothing with it
            refs = list(self._at_work)
            done, _ = ray.wait(refs, timeout=0.3, fetch_local=True)
        for content in ray.get(self._board.take.remote()):
            self._say(line("message", content))
        for ref in done:
            number = self._at_work.pop(ref)
            try:
                answer, files = ray.get(ref)
            # whatever Ray or the task raises: the run decides what becomes of the fold
            except Exception as error:
                self._say(line("lost", {"number": number, "message": _first_line(error)}))
                continue
            content = Answer.model_validate({**answer, "files": self._put(number, files)})
            self._say(line("answer", {"number": number, **content.model_dump(mode="json")}))

    def _put(self, number: int, files: dict[str, dict[str, bytes]]) -> dict[str, Any]:
        """Write the files of a fold where the run finds them."""
        paths: dict[str, dict[str, str]] = {}
        for nth, (member, contents) in enumerate(files.items()):
            for name, content in contents.items():
                # names come from a node: of a path only its end counts
                path = Path(self._start.folder) / f"{number}-{nth}-{Path(name).name}"
                path.write_bytes(content)
                paths.setdefault(member, {})[name] = str(path)
        return paths

    def end(self) -> None:
        """Stop what is at work, and remove the copies of the run when nothing was."""
        ray = _ray()

        for ref in self._at_work:
            ray.cancel(ref, force=True)
        order = self._copied
        if order is None or self._at_work:
            return
        task = ray.remote(num_cpus=0)(_forget)
        alive = [node["NodeID"] for node in _alive()]
        refs = [
            task.options(scheduling_strategy=_on(node)).remote(order.run, order.files)
            for node in alive
        ]
        ray.wait(refs, num_returns=len(refs), timeout=10.0)


def _ray() -> Any:
    """Ray, whose functions have no types; imported by the driver and by nodes alone."""
    return import_module("ray")


def _alive() -> list[dict[str, Any]]:
    """The nodes of the cluster that answer."""
    return [node for node in _ray().nodes() if node["Alive"]]


def _on(node: str) -> Any:
    """What lets a task run on one node."""
    strategies = import_module("ray.util.scheduling_strategies")
    return strategies.NodeAffinitySchedulingStrategy(node, soft=False)


def _first_line(error: Exception) -> str:
    """What an error says, in one line; of one in a task, its own words."""
    cause = getattr(error, "cause", None) or error
    lines = [text.strip() for text in str(cause).splitlines() if text.strip()]
    return f"{type(cause).__name__}: {lines[0] if lines else 'no reason given'}"


if __name__ == "__main__":
    main()
