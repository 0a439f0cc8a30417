"""Write what is made from specs and commands: recipe and commands in docs/, the guide for agents.

`--check` only says whether they are current.
"""

import dataclasses
import inspect
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel

from ensembler.agents.guide import guide
from ensembler.blending.registry import BLEND_METHODS
from ensembler.blending.spec import BlendSpec
from ensembler.cli.app import app
from ensembler.cli.tools import command_tools
from ensembler.data.augment import POLICIES
from ensembler.data.presets import PRESETS, Preset
from ensembler.data.spec import (
    ComposeSpec,
    CorrectionsSpec,
    DataSpec,
    FoldSpec,
    InputSpec,
    TargetSpec,
)
from ensembler.inference.spec import CustomView, InferenceSpec
from ensembler.inference.views import GROUPS, view_names
from ensembler.metrics import metric_names
from ensembler.metrics.registry import METRICS
from ensembler.recipe.portfolio import PORTFOLIOS, PortfolioSpec
from ensembler.recipe.schema import top_level_keys
from ensembler.recipe.spec import RecipeSpec
from ensembler.recipe.tune import DimensionSpec, TuneSpec
from ensembler.reporting.spec import SubmissionSpec
from ensembler.training.spec import (
    EnsembleSpec,
    FeaturesSpec,
    MemberSpec,
    ProbeSpec,
    SoupSpec,
    TabularSpec,
)

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RECIPE_IS_CODE = (
    "**A recipe is code.** `module:name` (a backbone, a prepare step, a view, a loss, a "
    "sampler, a metric, the estimator of a blend) imports that module and calls what it "
    "names: read a recipe that you were given, and the `recipe.yaml` of a run that you "
    "were given, as you would read a script. `ens` says in one line what it uses and from "
    "which file. The module may be installed, or be beside the recipe or in the current "
    "folder; installed modules come first, so give yours a name of its own, and import at "
    "its top what it needs. Its file (of a package all its Python files) counts as an "
    "option: when it changes, the members and prepared pixels that it made are made "
    "again; files that it imports from elsewhere are not looked at."
)
SECTIONS: list[tuple[str, type[BaseModel]]] = [
    ("The recipe", RecipeSpec),
    ("data", DataSpec),
    ("data.targets.NAME", TargetSpec),
    ("data.compose", ComposeSpec),
    ("data.corrections", CorrectionsSpec),
    ("folds", FoldSpec),
    ("input", InputSpec),
    ("portfolio", PortfolioSpec),
    ("members.NAME, and defaults", MemberSpec),
    ("members.NAME with a method of torchensemble", EnsembleSpec),
    ("members.NAME with method: soup", SoupSpec),
    ("members.NAME with method: probe", ProbeSpec),
    ("members.NAME.features of a probe", FeaturesSpec),
    ("members.NAME with method: tabular", TabularSpec),
    ("views: one of your own", CustomView),
    ("inference", InferenceSpec),
    ("blend", BlendSpec),
    ("submission", SubmissionSpec),
    ("tune", TuneSpec),
    ("tune.space.KEY", DimensionSpec),
]
# What loading a recipe fills in: required of the spec, not of the file.
FILLED_WHEN_LOADED: dict[tuple[type[BaseModel], str], str] = {
    (RecipeSpec, "name"): "the file's name"
}


def type_name(annotation: Any) -> str:
    """A type as a reader of YAML knows it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " \\| ".join(map(str, arguments))
    if origin in (Union, UnionType):
        named = [type_name(a) for a in arguments if a is not type(None)]
        return " \\| ".join(dict.fromkeys(named))
    if origin in (tuple, list):
        inside = type_name(arguments[0])
        return f"list of ({inside})" if " \\| " in inside else f"list of {inside}"
    if origin is dict:
        return "mapping"
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true \\| false",
        Any: "anything",
    }
    return names.get(annotation, "mapping")


def default_of(model: type[BaseModel], name: str) -> str:
    """The default as it would be written."""
    field = model.model_fields[name]
    if (model, name) in FILLED_WHEN_LOADED:
        return FILLED_WHEN_LOADED[model, name]
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, (BaseModel, dict)):
        return ""
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def recipe_page() -> str:
    """Every key of a recipe."""
    lines = [
        "# Every key of a recipe",
        "",
        "Written by `scripts/write_docs.py` from the specs. `ens schema` prints the same as JSON "
        "Schema, for editors.",
        "",
        "A path is relative to the recipe, an image path to its manifest (`data.root` says "
        "otherwise). `${NAME}` and",
        "`${NAME:-default}` are environment variables; their values are written out in the run's "
        "`recipe.yaml`, so keep",
        "passwords and tokens out of recipes. `extends: base.yaml` takes what this recipe leaves "
        "out from another,",
        "`defaults:` holds member options that all members share, and `--set a.b=c` overrides any "
        "value for once.",
        "",
        *wrapped(RECIPE_IS_CODE),
    ]
    for title, model in SECTIONS:
        lines += [
            "",
            f"## {title}",
            "",
            str(inspect.getdoc(model)),
            "",
            "| key | takes | default | |",
            "| --- | --- | --- | --- |",
        ]
        for name, field in model.model_fields.items():
            lines.append(
                f"| `{field.alias or name}` | {type_name(field.annotation)} | "
                f"{default_of(model, name)} | "
                f"{(field.description or '').replace('|', chr(92) + '|')} |"
            )
    lines += ["", "## Names", ""]
    lines += portfolios()
    lines += wrapped(
        f"- **Augmentation presets**: {quoted([*PRESETS, *POLICIES])}; or a list of "
        "albumentations transforms (`Name` or `Name: {arguments}`), with `torchvision: "
        "[...]` for torchvision's v2 transforms; or albumentations' own serialised form. "
        "`augment: {preset: light, on: host}`, or the same with `transforms: [...]` or "
        "`torchvision: [...]`, says where images are augmented: `host` (`cpu` is the same), `device`, "
        "or `auto`, the default ([on a GPU](speed.md#on-a-gpu))."
    )
    lines += presets_table()
    groups = "; ".join(
        f"`{name}` is {', '.join(members)}"
        for name, members in GROUPS.items()
        if name != "ten_crop"
    )
    lines += wrapped(
        f"- **Views**: {quoted(view_names())}. {groups}; `ten_crop` adds their mirror images; or "
        "`module:function` of your own ([how](extending.md#a-view)). "
        "Numbers may be any: `scale_0.8`, `shift_left_0.1`."
    )
    lines += wrapped(f"- **Blend methods**: `auto`, {quoted(BLEND_METHODS.names)}.")
    lines += metrics_table()
    return "\n".join(lines) + "\n"


def portfolios() -> list[str]:
    """Which members a portfolio makes."""
    lines = []
    for name, members in PORTFOLIOS.items():
        made = ", ".join(f"`{m}` ({options['backbone']})" for m, options in members.items())
        lines += wrapped(f"- **Portfolio `{name}`**: {made}.")
    return lines


def metrics_table() -> list[str]:
    """Which metrics there are, for which targets, and what they look at."""
    lines = [
        "- **Metrics**: those below, `top_<k>_accuracy` for any k, and `module:function` of your "
        "own",
        "  ([how](extending.md#a-metric)).",
        "",
        "  | metric | one label | multi-label | better | looks at |",
        "  | --- | --- | --- | --- | --- |",
    ]
    for name in metric_names():
        kinds = [kind for kind, metrics in METRICS.items() if name in metrics]
        metric = METRICS[kinds[0]][name]
        fits = ["yes" if kind in kinds else "" for kind in METRICS]
        better = "larger" if metric.greater_is_better else "smaller"
        lines.append(f"  | `{name}` | {' | '.join(fits)} | {better} | {metric.looks_at} |")
    return [*lines, ""]


def quoted(names: Iterable[str]) -> str:
    """Names as code, with commas between them."""
    return ", ".join(f"`{name}`" for name in names)


def wrapped(item: str) -> list[str]:
    """A paragraph, or an item of a list, in lines that can be read."""
    indent = "  " if item.startswith("- ") else ""
    return textwrap.wrap(
        item, 118, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def presets_table() -> list[str]:
    """What each preset draws for an image, with which probability and up to what strength."""
    parts = [field.name for field in dataclasses.fields(Preset)]
    lines = [
        "",
        "  What a preset draws for an image, each part by itself; the first number is its "
        "probability, the others are",
        "  limits: shares of the side, of the area, of white, or degrees. Classes that a mirror "
        "image changes (digits,",
        "  letters, left and right) want a list without a flip. `heavy` is for long training: see",
        "  [when more augmentation is better](tasks.md#more-augmentation-is-not-always-better).",
        "",
        f"  | preset | {' | '.join(parts)} |",
        f"  | {' | '.join(['---'] * (1 + len(parts)))} |",
    ]
    for name, preset in PRESETS.items():
        cells = [shown_part(getattr(preset, part)) for part in parts]
        lines.append(f"  | `{name}` | {' | '.join(cells)} |")
    return [*lines, ""]


def shown_part(part: Any) -> str:
    """A part of a preset as it is read: its probability, then its limits by name."""
    if not part:
        return ""
    if isinstance(part, float):
        return f"{part:g}"
    limits = {
        field.name: getattr(part, field.name)
        for field in dataclasses.fields(part)
        if field.name != "p"
    }
    return f"{part.p:g}: " + ", ".join(
        f"{name} {shown_limit(limit)}" for name, limit in limits.items()
    )


def shown_limit(limit: Any) -> str:
    """A number, or two of them as a range."""
    return f"{limit[0]:g} to {limit[1]:g}" if isinstance(limit, tuple) else f"{limit:g}"


def shown_option(information: Any, name: str) -> str:
    """An option as it is typed; an argument by its name for the value."""
    # Inside Annotated, Typer keeps the first name of an option where a default would stand.
    flags = [
        d
        for d in (information.default, *(information.param_decls or ()))
        if isinstance(d, str) and d[:1] == "-"
    ]
    value = information.metavar or ""
    return f"{', '.join(flags)} {value}".strip() if flags else value or name.upper()


def commands_page() -> str:
    """Every command with its options."""
    lines = [
        "# Every command",
        "",
        "Written by `scripts/write_docs.py` from the commands. Exit codes: 0 done, 1 the work "
        "failed, 2 the request was wrong.",
        "With `--json` a command prints exactly one JSON object on standard output; everything "
        "else goes to standard error.",
    ]
    for command in app.registered_commands:
        if command.hidden:  # another name of a command that is here
            continue
        assert command.callback is not None
        lines += [
            "",
            f"## ens {command.name}",
            "",
            str(inspect.getdoc(command.callback)),
            "",
            "| option | |",
            "| --- | --- |",
        ]
        hints = inspect.get_annotations(command.callback, eval_str=True)
        for name in inspect.signature(command.callback).parameters:
            if hints[name] is typer.Context:
                continue
            information = get_args(hints[name])[-1]
            text = information.help.replace("[", "\\[")  # or it is read as a link
            lines.append(f"| `{shown_option(information, name)}` | {text} |")
    return "\n".join(lines) + "\n"


def agents_pages() -> dict[Path, str]:
    """The guide for agents, in the two forms that tools look for."""
    group: Any = typer.main.get_command(app)
    tools = command_tools(group)
    keys = top_level_keys()
    return {
        ROOT / "AGENTS.md": guide(tools, keys),
        ROOT / "skills" / "ensembler" / "SKILL.md": guide(tools, keys, "skill"),
    }


def main() -> int:
    """Write the pages, or compare them."""
    pages = {
        DOCS / "recipe.md": recipe_page(),
        DOCS / "commands.md": commands_page(),
        **agents_pages(),
    }
    if "--check" in sys.argv:
        stale = [
            path.name
            for path, text in pages.items()
            if not path.is_file() or path.read_text() != text
        ]
        print(
            f"stale: {', '.join(stale)}; run scripts/write_docs.py"
            if stale
            else "docs are current"
        )
        return 1 if stale else 0
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
