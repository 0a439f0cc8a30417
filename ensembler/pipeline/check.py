"""Checks of a recipe that need the training half, all problems at once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from ensembler.blending.registry import accepts, method_class
from ensembler.blending.spec import BlendSpec
from ensembler.data.spec import FoldSpec, InputSpec
from ensembler.errors import DataError, MissingExtraError, RecipeError, RequestError
from ensembler.execution.executors import executor_of
from ensembler.inference.engines.registry import check_installed
from ensembler.machine.execution import Execution
from ensembler.metrics.registry import check_metric
from ensembler.progress import Progress
from ensembler.recipe.load import Recipe
from ensembler.recipe.members import planned_members
from ensembler.recipe.spec import RecipeSpec
from ensembler.training.spec import FittedSpec, ProbeSpec, SoupSpec

Check = tuple[
    str, Callable[[], object]
]  # a place in the recipe, and what is looked at there


def check_training_installed(what: str) -> None:
    """Raise MissingExtraError when the extra `train` is not installed."""
    if any(
        find_spec(package) is None for package in ("torch", "timm", "albumentations", "cv2")
    ):
        raise MissingExtraError(what, "train")


def check_needs(recipe: Recipe) -> None:
    """Raise MissingExtraError when a recipe needs more than is installed.

    That is the extra `train`, or what reads images where no member looks at them by a network.
    """
    packages = ("torch", "timm", "albumentations") if recipe.spec.has_networks else ()
    if any(find_spec(package) is None for package in (*packages, "cv2", "PIL")):
        raise MissingExtraError(f"recipe {recipe.path.name}", "train")


def check_device(device: str, progress: Progress) -> None:
    """Raise RequestError for a device that cannot compute, before anything is read or decoded.

    With `auto`, a card that is here and that torch cannot use is a warning with its fix.
    """
    from ensembler.networks.devices import pick_device
    from ensembler.networks.unused_cards import why_no_card

    picked = pick_device(device)
    unused = why_no_card() if device == "auto" and picked.type == "cpu" else None
    if unused is not None:
        progress.warn(f"{unused}; until then the CPU computes")


def check_execution(execution: Execution, progress: Progress) -> None:
    """Raise RequestError for devices that cannot compute and clusters that are not to be used.

    MissingExtraError without what an executor needs.
    """
    check_device(execution.device, progress)
    executor_of(execution).check()


def check_recipe(recipe: Recipe) -> None:
    """Raise RecipeError with every name that torch, timm or albumentations do not know."""
    check_needs(recipe)
    check_installed(recipe.spec.inference.engine)
    from ensembler.data.prepare import build_steps

    problems = []
    spec = recipe.spec
    checks: list[Check] = [
        ("views", partial(_check_views, spec)),
        ("blend", partial(_check_blend, spec.blend)),
        ("input.prepare", partial(build_steps, spec.input.prepare)),
        ("members", partial(planned_members, spec.members)),
    ]
    for name, member in spec.members.items():
        if isinstance(member, SoupSpec):
            checks.append((f"members.{name}", partial(_check_soup, member, spec.folds)))
        elif isinstance(member, FittedSpec):
            fitted = partial(_check_fitted, member, spec.input)
            checks.append((f"members.{name}", fitted))
    if spec.has_networks:
        checks = [*_checks_of_networks(spec), *checks]
    for place, check in checks:
        try:
            check()
        except RequestError as error:
            problems.append(f"{recipe.path.name}: {place}: {error}")
    if problems:
        raise RecipeError(problems)


def _checks_of_networks(spec: RecipeSpec) -> list[Check]:
    """What only matters where networks are trained, and needs torch to know."""
    from ensembler.data.augment import check_augment
    from ensembler.training.check import check_member

    checks: list[Check] = [("augment", partial(check_augment, spec.augment))]
    for name, member in spec.members.items():
        if isinstance(member, SoupSpec | FittedSpec):
            continue
        checks.append((f"members.{name}", partial(check_member, member, spec.input)))
        if member.augment is not None:
            own = partial(check_augment, member.augment)
            checks.append((f"members.{name}.augment", own))
    return checks


def _check_views(spec: RecipeSpec) -> None:
    """Views that nobody knows, and those that need square images, where some are not."""
    from ensembler.inference.views import check_views_fit, expand_views

    views = expand_views(spec.views)
    for seen in spec.inputs:
        check_views_fit(views, seen.size)


def _check_blend(spec: BlendSpec) -> None:
    """What the blend is named after, before hours are spent on members to blend."""
    check_metric(spec.metric)
    if spec.method == "auto":
        return
    method_class(spec.method)
    for option in spec.options:
        if not accepts(spec.method, option):
            raise RequestError(
                f"{option!r} is not an option of the blend method {spec.method!r}"
            )


def _check_fitted(spec: FittedSpec, seen: InputSpec) -> None:
    """The arguments of a head, and the network or file that its features come from."""
    from ensembler.estimators.target_head import new_head

    new_head(spec.head, spec.head_args)
    if not isinstance(spec, ProbeSpec):
        return
    features = spec.features
    if features.file is not None and features.ids is not None:
        from ensembler.members.imported_features import open_features, read_ids

        open_features(Path(features.file))
        read_ids(Path(features.ids))
        return
    from ensembler.data.prepare import build_steps
    from ensembler.inference.views import expand_views
    from ensembler.networks.build import check_network

    expand_views(features.views)
    own = spec.base.seen_input(seen)
    build_steps(own.prepare)
    check_network(features.network, size=own.size, channels=own.channels)
    if features.checkpoint is not None and not Path(features.checkpoint).is_file():
        raise DataError(f"checkpoint {features.checkpoint} does not exist")


def _check_soup(spec: SoupSpec, folds: FoldSpec) -> None:
    if spec.take == "greedy" and folds.scheme == "single":
        raise RequestError(
            "take: greedy chooses by the rows of other folds, and there is one; take: uniform "
            "averages all"
        )
