"""Print the figures that say whether the code can be read and changed.

    python scripts/code_figures.py [ROOT] [--junit report.xml] [--no-startup] [--list] [--json]

Circles of imports, the share of the code in each room, how much stands on a line, how many modules
have a test file of their name, and how many processor seconds the command line takes to start.
ROOT is a checkout (default: this one), so that two states can be compared. The report of
`scripts/test --junit-xml=report.xml` adds the number of tests and their seconds.
"""

import argparse
import ast
import io
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from xml.etree import ElementTree

PACKAGE = "ensembler"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
BRANCHES = (ast.If, ast.For, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension)
WORDS = (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)
STARTS = 5

Graph = dict[str, set[str]]


@dataclass(frozen=True)
class Module:
    """A Python file of the package."""

    path: Path
    parts: tuple[str, ...]  # ("ensembler", "blending", "methods", "greedy")

    @property
    def name(self) -> str:
        """The name that imports it."""
        named = self.parts[:-1] if self.parts[-1] == "__init__" else self.parts
        return ".".join(named)

    @property
    def room(self) -> str:
        """The folder directly under the package, or the module itself where there is none."""
        return self.parts[1]

    @cached_property
    def source(self) -> str:
        """Its text."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.source)

    @cached_property
    def docstrings(self) -> set[int]:
        """The numbers of the lines that docstrings take."""
        lines: set[int] = set()
        for node in ast.walk(self.tree):
            docstring = docstring_of(node)
            if docstring is not None:
                lines.update(lines_of(docstring))
        return lines

    @cached_property
    def code(self) -> set[int]:
        """The numbers of the lines that are neither blank nor comment nor docstring."""
        lines = enumerate(self.source.splitlines(), start=1)
        written = {number for number, line in lines if is_code(line)}
        return written - self.docstrings

    @property
    def tokens(self) -> int:
        """How many names, operators, numbers and strings its code holds."""
        tokens = tokenize.generate_tokens(io.StringIO(self.source).readline)
        words = [token for token in tokens if token.type in WORDS]
        return sum(word.start[0] not in self.docstrings for word in words)

    def imports(self, known: set[str]) -> set[str]:
        """The modules of the package that it imports, also inside functions."""
        found: set[str] = set()
        for node in ast.walk(self.tree):
            found |= {name for name in imported_by(node, known) if name in known}
        return found - {self.name}


def docstring_of(node: ast.AST) -> ast.Expr | None:
    """The statement that is the docstring of a module, class or function."""
    if not isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)) or not node.body:
        return None
    first = node.body[0]
    if not isinstance(first, ast.Expr) or not isinstance(first.value, ast.Constant):
        return None
    return first if isinstance(first.value.value, str) else None


def lines_of(node: ast.stmt) -> range:
    """The numbers of the lines that a statement takes."""
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def is_code(line: str) -> bool:
    """Whether a line is neither blank nor a comment."""
    stripped = line.strip()
    return bool(stripped) and not stripped.startswith("#")


def imported_by(node: ast.AST, known: set[str]) -> list[str]:
    """The names that an import statement loads; `from room import file` loads the file."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    origin = node.module or ""
    inner = [f"{origin}.{alias.name}" for alias in node.names]
    files = [name for name in inner if name in known]
    return files or [origin]


def modules_of(root: Path) -> list[Module]:
    """The modules of the package in a checkout."""
    paths = sorted((root / PACKAGE).rglob("*.py"))
    return [Module(path, path.relative_to(root).with_suffix("").parts) for path in paths]


def circles(graph: Graph) -> list[list[str]]:
    """Circles of a graph, one at a time: the edge that closes the last one is taken out."""
    graph = {name: set(others) for name, others in graph.items()}
    found: list[list[str]] = []
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = list(error.args[1])
            graph[circle[1]].discard(circle[0])
            found.append(circle)
        else:
            return found


def graphs_of(modules: list[Module]) -> tuple[Graph, Graph]:
    """Which module imports which, and which room imports which other room."""
    by_name = {module.name: module for module in modules}
    known = set(by_name)
    of_modules = {module.name: module.imports(known) for module in modules}
    of_rooms: Graph = {module.room: set() for module in modules}
    for name, others in of_modules.items():
        room = by_name[name].room
        of_rooms[room] |= {by_name[other].room for other in others} - {room}
    return of_modules, of_rooms


def room_shares(modules: list[Module]) -> dict[str, float]:
    """The share of the code in each room, in per cent, the largest first."""
    lines: dict[str, int] = {}
    for module in modules:
        lines[module.room] = lines.get(module.room, 0) + len(module.code)
    total = sum(lines.values())
    ordered = sorted(lines, key=lambda room: -lines[room])
    return {room: round(100 * lines[room] / total, 1) for room in ordered}


def nodes_of(modules: list[Module]) -> Iterator[ast.AST]:
    """Every node of every module."""
    for module in modules:
        yield from ast.walk(module.tree)


def is_nested(comprehension: ast.AST) -> bool:
    """Whether a comprehension runs over two sources, or holds another one."""
    inside = [node for node in ast.walk(comprehension) if node is not comprehension]
    loops = sum(isinstance(node, ast.comprehension) for node in inside)
    return loops > 1


def branches_in(function: ast.AST) -> int:
    """How many ways lead through a function, counted from one."""
    nodes = list(ast.walk(function))
    choices = sum(isinstance(node, BRANCHES) for node in nodes)
    operators = [node for node in nodes if isinstance(node, ast.BoolOp)]
    return 1 + choices + sum(len(operator.values) - 1 for operator in operators)


def density(modules: list[Module]) -> dict[str, float]:
    """How much stands on a line, and how long and how forked functions are."""
    lines = sum(len(module.code) for module in modules)
    nodes = list(nodes_of(modules))
    nested = [
        node for node in nodes if isinstance(node, COMPREHENSIONS) and is_nested(node)
    ]
    conditionals = sum(isinstance(node, ast.IfExp) for node in nodes)
    functions = [node for node in nodes if isinstance(node, FUNCTIONS)]
    wide = sum(len(line) > 100 for module in modules for line in module.source.splitlines())
    return {
        "modules": len(modules),
        "code lines": lines,
        "tokens a line": round(sum(module.tokens for module in modules) / lines, 2),
        "conditional expressions per 100 lines": round(100 * conditionals / lines, 2),
        "nested comprehensions per 100 lines": round(100 * len(nested) / lines, 2),
        "lines over 100 columns": wide,
        "functions with over 10 branches": sum(branches_in(f) > 10 for f in functions),
        "functions": len(functions),
    }


def needs_test(module: Module) -> bool:
    """Whether a module holds logic of its own: not a spec, and not the door of a folder."""
    return module.parts[-1] not in ("__init__", "__main__", "spec")


def has_test(module: Module, root: Path) -> bool:
    """Whether the tests of its room have a file of its name."""
    *folders, stem = module.parts[1:]
    room = root.joinpath("tests", *folders[:1])
    name = f"test_{stem.strip('_')}.py"
    files = room.rglob(name) if folders else room.glob(name)
    return any(files)


def tested(modules: list[Module], root: Path) -> tuple[int, list[str]]:
    """How many modules with logic have a test file of their name, and which have none."""
    wanted = [module for module in modules if needs_test(module)]
    without = [module.name for module in wanted if not has_test(module, root)]
    return len(wanted) - len(without), without


def processor_seconds(command: list[str], root: Path, folder: Path) -> float:
    """The median of the processor seconds that a process takes, its first start left out."""
    environment = {**os.environ, "PYTHONPATH": str(root), "ENS_ARTIFACTS": str(folder)}
    seconds = []
    for _ in range(STARTS + 1):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            command, env=environment, check=True, capture_output=True, cwd=folder
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return round(statistics.median(seconds[1:]), 3)


def startup(root: Path) -> dict[str, float]:
    """How long Python, the imports that no command can spare, and two commands take."""
    write_run = (
        "from pathlib import Path; from ensembler.predictions.testing import write_fake_run; "
        "write_fake_run(Path('fake'))"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "PYTHONPATH": str(root)}
        subprocess.run(
            [sys.executable, "-c", write_run], cwd=folder, env=environment, check=True
        )
        commands = {
            "python -c pass": ["-c", "pass"],
            "import numpy, pandas, typer": ["-c", "import numpy, pandas, typer"],
            "import ensembler": ["-c", "import ensembler"],
            "ens --help": ["-m", PACKAGE, "--help"],
            "ens ls": ["-m", PACKAGE, "ls", "fake"],
            "ens blend --weights": ["-m", PACKAGE, "blend", "fake", "--weights", "a=1,b=1"],
        }
        return {
            title: processor_seconds([sys.executable, *arguments], root, folder)
            for title, arguments in commands.items()
        }


def suite(report: Path) -> dict[str, float]:
    """The number of tests in a JUnit report, their seconds, and those of the ten slowest."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    seconds = sorted((float(case.get("time", 0)) for case in cases), reverse=True)
    return {
        "tests": len(cases),
        "seconds, all tests together": round(sum(seconds), 1),
        "seconds, the ten slowest": round(sum(seconds[:10]), 1),
    }


def figures(root: Path, junit: Path | None, with_startup: bool) -> dict[str, object]:
    """Everything that is printed."""
    modules = modules_of(root)
    of_modules, of_rooms = graphs_of(modules)
    n_tested, without = tested(modules, root)
    share = round(100 * n_tested / (n_tested + len(without)), 1)
    found: dict[str, object] = {
        "circles between modules": circles(of_modules),
        "circles between rooms": circles(of_rooms),
        "share of the code by room, %": room_shares(modules),
        "density": density(modules),
        "modules with a test file of their name, %": share,
        "modules without one": without,
    }
    if with_startup:
        found["start-up, processor seconds"] = startup(root)
    if junit is not None:
        found["suite"] = suite(junit)
    return found


def shown(value: object) -> Iterator[str]:
    """A figure as lines of text."""
    if isinstance(value, dict):
        for name, number in value.items():
            yield f"  {name:<42} {number}"
    elif isinstance(value, list):
        yield f"  {len(value)}"
        for item in value:
            yield f"  {' -> '.join(item) if isinstance(item, list) else item}"
    else:
        yield f"  {value}"


def main() -> None:
    """Print the figures of a checkout."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parents[1])
    parser.add_argument(
        "--junit", type=Path, metavar="FILE", help="a JUnit report of the tests"
    )
    parser.add_argument("--no-startup", action="store_true", help="start no process")
    parser.add_argument(
        "--list", action="store_true", help="name the modules without tests"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found = figures(options.root.resolve(), options.junit, not options.no_startup)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    if not options.list:
        del found["modules without one"]
    for title, value in found.items():
        print(title)
        print("\n".join(shown(value)))


if __name__ == "__main__":
    main()
