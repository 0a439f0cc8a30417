"""A YAML file as plain data, with the line of every key; no object tags, no surprises.

Keys that stand twice, tags, tabs and documents that expand without end are refused with their line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, composer
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ensembler.errors import RecipeError, RequestError

Place = tuple[str | int, ...]  # the keys and positions that lead to a value

_MAX_NODES = 100_000
MAX_DEPTH = 50
# older versions lack it
_TOO_DEEP = (RecursionError, getattr(composer, "MaxDepthExceededError", RecursionError))
_PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge")
}


@dataclass(frozen=True)
class Document:
    """A parsed YAML mapping.

    `content`, the `path` it came from, the `origins` ("file line 7") of each place in it, and
    `notes` on what was read otherwise than it is written.
    """

    content: dict[str, Any]
    path: Path
    origins: Mapping[Place, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def where(self, place: Place) -> str:
        """The file and line of a place, or of the nearest one above it."""
        for end in range(len(place), -1, -1):
            if place[:end] in self.origins:
                return self.origins[place[:end]]
        return self.path.name


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings as one: mappings in them are merged, of other values that `above` counts."""
    both = dict(below)
    for key, value in above.items():
        old = both.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            value = merged(old, value)
        both[key] = value
    return both


def read_document(path: Path) -> Document:
    """Read a YAML mapping from a file; RecipeError names file, line and fault."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise _missing(path) from error
    except IsADirectoryError as error:
        raise RequestError(
            f"{path} is a folder, expected a recipe file; `ens init {path}` writes one"
        ) from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            [f"{path.name} is not a UTF-8 text file; a recipe is YAML"]
        ) from error
    return parse_document(text, path)


def _missing(path: Path) -> RequestError:
    others = (
        sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    )
    hint = (
        f"; recipes there: {', '.join(others[:5])}"
        if others
        else "; `ens init DATA` writes one"
    )
    return RequestError(f"recipe {path} does not exist{hint}")


def parse_document(text: str, path: Path) -> Document:
    """Parse the text of a YAML mapping."""
    yaml = _plain_yaml()
    try:
        root = yaml.compose(text)
    except _TOO_DEEP:
        raise RecipeError([f"{path.name} is nested too deeply to be a recipe"]) from None
    except MarkedYAMLError as error:
        raise RecipeError([_explain(error, text, path)]) from error
    except (YAMLError, ValueError) as error:
        raise RecipeError([f"{path.name} is not YAML: {error}"]) from error
    if root is None:
        raise RecipeError(
            [
                f"{path.name} is empty; a recipe needs at least data and members (`ens init DATA`)"
            ]
        )
    if not isinstance(root, MappingNode):
        raise RecipeError(
            [f"{path.name} holds a {root.id}, expected keys such as data: and members:"]
        )
    builder = _Builder(path, yaml)
    content = builder.build(root, ())
    return Document(content, path, builder.origins)


def typed_options(texts: Sequence[str]) -> dict[str, Any]:
    """The options in "key=value", their values as YAML; RequestError for what is none."""
    found = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise RequestError(f"--option {text!r}: expected key=value")
        found[key] = parse_value(value)
    return found


def parse_value(text: str) -> Any:
    """Parse one YAML value, as given on the command line."""
    if text in ("|", ">"):  # the head of a block that has no lines here
        return text
    shown = text if len(text) <= 80 else f"{text[:80]}..."
    yaml = _plain_yaml()
    try:
        root = yaml.compose(text)
    except _TOO_DEEP:
        raise RequestError(f"--set value {shown!r} is nested too deeply") from None
    except (YAMLError, ValueError) as error:
        raise RequestError(
            f"--set value {shown!r} is not YAML; text that begins with {{ or holds ': ' stands in "
            "quotes"
        ) from error
    return None if root is None else _Builder(Path("--set"), yaml).build(root, ())


def _plain_yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    return yaml


def _explain(error: MarkedYAMLError, text: str, path: Path) -> str:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    lines = text.splitlines()
    shown = lines[line - 1] if line <= len(lines) else ""
    if "\t" in shown[: len(shown) - len(shown.lstrip())] or "\\t" in str(error.problem):
        return (
            f"{path.name} line {line}: a tab stands in the indentation; YAML wants spaces"
        )
    return f"{path.name} line {line}: {error.problem or 'not YAML'}: {shown.strip()[:80]!r}"


class _Builder:
    def __init__(self, path: Path, yaml: YAML) -> None:
        self.path = path
        self.origins: dict[Place, str] = {}
        self.n_nodes = 0
        self.constructor = SafeConstructor(loader=yaml)

    def build(self, node: Node, place: Place) -> Any:
        self.n_nodes += 1
        line = node.start_mark.line + 1
        self.origins.setdefault(place, f"{self.path.name} line {line}")
        if self.n_nodes > _MAX_NODES or len(place) > MAX_DEPTH:
            raise RecipeError(
                [f"{self.path.name} line {line}: the file expands to too many values"]
            )
        tag = str(node.tag)
        if tag not in _PLAIN_TAGS:
            raise RecipeError(
                [
                    f"{self.path.name} line {line}: tag {tag!r}: a recipe holds plain values only"
                ]
            )
        if isinstance(node, MappingNode):
            return self._mapping(node, place)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*place, i)) for i, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: MappingNode, place: Place) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if str(key_node.tag).endswith(":merge"):
                merged |= self._merge(value_node, place, line)
                continue
            key = str(key_node.value)
            if not isinstance(key_node, ScalarNode):
                raise RecipeError(
                    [f"{self.path.name} line {line}: a key must be a plain word"]
                )
            if key in own:
                raise RecipeError([f"{self.path.name} line {line}: {key!r} is given twice"])
            self.origins[(*place, key)] = f"{self.path.name} line {line}"
            own[key] = self.build(value_node, (*place, key))
        return merged | own

    def _merge(self, node: Node, place: Place, line: int) -> dict[str, Any]:
        value = self.build(node, place)
        parts = value if isinstance(value, list) else [value]
        result: dict[str, Any] = {}
        for part in parts:
            if not isinstance(part, dict):
                raise RecipeError([f"{self.path.name} line {line}: << takes a mapping"])
            result = part | result
        return result

    def _scalar(self, node: ScalarNode) -> Any:
        if str(node.tag).endswith(":timestamp"):
            return node.value
        try:
            return self.constructor.construct_object(node)
        except (YAMLError, ValueError) as error:
            line = node.start_mark.line + 1
            raise RecipeError(
                [f"{self.path.name} line {line}: {node.value!r} is not a value"]
            ) from error
