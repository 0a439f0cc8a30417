"""`portfolio:`, different backbones with their options, to start from without a search.

It stands beside `members` and becomes some of them before anything else is looked at: the recipe
that a run keeps names each one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from ensembler.errors import RecipeError, nearest
from ensembler.recipe.document import Document, Place, merged

PortfolioName = Literal["small", "strong"]
Options = dict[str, Any]
_HINT = "such as {name: small, count: 6}"

# From scratch, at 32 to 128 px, on a CPU: kinds of network first that differ most.
_SMALL: dict[str, Options] = {
    "resnet": {"backbone": "resnet18", "lr": 1e-3},
    "convnext": {"backbone": "convnext_atto", "lr": 1e-3, "warmup_epochs": 1},
    "efficientnet": {"backbone": "tf_efficientnet_lite0", "lr": 2e-3},
    "regnet": {"backbone": "regnetx_002", "lr": 2e-3},
    "edgenext": {"backbone": "edgenext_xx_small", "lr": 1e-3, "warmup_epochs": 1},
    "mobilenet": {"backbone": "mobilenetv4_conv_small", "lr": 2e-3},
    "starnet": {"backbone": "starnet_s1", "lr": 1e-3},
    "mobilevit": {"backbone": "mobilevit_xxs", "lr": 1e-3, "warmup_epochs": 1},
}
# Pretrained, at 224 px and more, on a GPU: timm's own tags, learning rates of fine-tuning.
_FINE: Options = {"pretrained": True, "weight_decay": 0.05, "warmup_epochs": 1}
_STRONG: dict[str, Options] = {
    "convnext": {
        **_FINE,
        "backbone": "convnext_tiny.in12k_ft_in1k",
        "lr": 2e-4,
        "layer_decay": 0.8,
        "drop_path_rate": 0.1,
    },
    "vit": {
        **_FINE,
        "backbone": "vit_base_patch16_224.augreg2_in21k_ft_in1k",
        "lr": 1e-4,
        "layer_decay": 0.75,
        "drop_path_rate": 0.1,
    },
    "efficientnet": {
        **_FINE,
        "backbone": "tf_efficientnetv2_s.in21k_ft_in1k",
        "lr": 4e-4,
        "weight_decay": 0.01,
        "drop_rate": 0.2,
    },
    "caformer": {
        **_FINE,
        "backbone": "caformer_s18.sail_in22k_ft_in1k",
        "lr": 2e-4,
        "drop_path_rate": 0.1,
    },
    "resnet": {
        **_FINE,
        "backbone": "seresnext50_32x4d.racm_in1k",
        "lr": 4e-4,
        "weight_decay": 0.01,
        "mixup": 0.2,
    },
    "deit": {
        **_FINE,
        "backbone": "deit3_small_patch16_224.fb_in22k_ft_in1k",
        "lr": 1e-4,
        "layer_decay": 0.75,
    },
    "regnet": {
        **_FINE,
        "backbone": "regnety_032.ra_in1k",
        "lr": 4e-4,
        "weight_decay": 0.01,
        "cutmix": 0.5,
    },
    "nfnet": {**_FINE, "backbone": "eca_nfnet_l0.ra2_in1k", "lr": 2e-4, "clip_grad": 1.0},
}
PORTFOLIOS: dict[str, dict[str, Options]] = {"small": _SMALL, "strong": _STRONG}


class PortfolioSpec(BaseModel):
    """Members to start from: different backbones, each with options that suit it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: PortfolioName = Field(
        description="small: trained from scratch, 32 to 128 px, a CPU will do. strong: pretrained, "
        "224 px and more, for a GPU."
    )
    count: int = Field(
        6, ge=1, le=8, description="How many of them, those first that differ most."
    )


def is_of_portfolio(override: str) -> bool:
    """Whether `--set` changes the portfolio, which members are made of before others are set."""
    return override.partition("=")[0].partition(".")[0] == "portfolio"


def with_portfolio(document: Document) -> Document:
    """The document whose members are those of its portfolio, and its own.

    An entry of the same name adds its options to the portfolio's, and `defaults` come before these,
    save for the backbone.
    """
    content = dict(document.content)
    given = content.pop("portfolio", None)
    if given is None:
        return document
    asked = _checked(given, document)
    defaults, own = content.get("defaults"), content.get("members")
    said = set(defaults) - {"backbone"} if isinstance(defaults, dict) else set()
    chosen = list(PORTFOLIOS[asked.name].items())[: asked.count]
    members: dict[str, Any] = {
        name: {key: value for key, value in options.items() if key not in said}
        for name, options in chosen
    }
    own = {} if own is None else own
    if isinstance(own, dict):
        own = {name: {} if options is None else options for name, options in own.items()}
        content["members"] = merged(members, own)
    where = document.where(("portfolio",))
    added: dict[Place, str] = {
        ("members", name): where
        for name in members
        if ("members", name) not in document.origins
    }
    return replace(document, content=content, origins={**added, **document.origins})


def _checked(given: Any, document: Document) -> PortfolioSpec:
    """What a recipe says of its portfolio; RecipeError with everything that is wrong with it."""
    if not isinstance(given, dict):
        where = document.where(("portfolio",))
        raise RecipeError([f"{where}: portfolio: expected a mapping, {_HINT}"])
    problems, options = [], PortfolioSpec.model_fields
    for key in given:
        if key not in options:
            where = document.where(("portfolio", key))
            known = nearest(str(key), options)
            problems.append(f"{where}: portfolio.{key} is not an option; {known}")
    name, count = given.get("name"), given.get("count", options["count"].default)
    if name not in get_args(PortfolioName):
        where = document.where(("portfolio", "name"))
        known = nearest(str(name), get_args(PortfolioName))
        problems.append(f"{where}: portfolio.name is {name!r}; {known}")
    most = len(PORTFOLIOS.get(str(name), _SMALL))
    is_number = isinstance(count, int) and not isinstance(count, bool)
    if not is_number or not 1 <= count <= most:
        where = document.where(("portfolio", "count"))
        problems.append(f"{where}: portfolio.count is {count!r}, expected 1 to {most}")
    if problems:
        raise RecipeError(problems)
    return PortfolioSpec(name=name, count=count)
