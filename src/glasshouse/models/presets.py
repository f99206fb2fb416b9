"""Named networks, which are data: ``presets.toml`` next to this file."""

import tomllib
from functools import cache
from importlib import resources
from typing import Any

from glasshouse.errors import ModelError, RecipeError, did_you_mean
from glasshouse.settings import Layer, ModelSettings


def preset_names() -> list[str]:
    """The names of all presets, in alphabetical order."""
    return sorted(_presets())


def preset_layers(name: str) -> tuple[Layer, ...]:
    """The layers of a preset; raises RecipeError with the nearest name when there is none."""
    layers = ModelSettings.model_validate({"layers": _preset(name)["layers"]}).layers
    assert layers is not None
    return layers


def preset_description(name: str) -> str:
    """One sentence on the purpose of a preset; raises RecipeError when there is none."""
    return str(_preset(name)["description"])


def _preset(name: str) -> dict[str, Any]:
    presets = _presets()
    if name not in presets:
        raise RecipeError(f"unknown preset '{name}'. {did_you_mean(name, presets)}")
    return presets[name]


@cache
def _presets() -> dict[str, dict[str, Any]]:
    text = (resources.files("glasshouse.models") / "presets.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def listed_layers(settings: ModelSettings) -> tuple[Layer, ...] | None:
    """The layers of settings or of their preset; raises ModelError for networks without a list."""
    if settings.code is not None:
        raise ModelError(
            f"the network is code of a user's own ({settings.code}), which runs only where the "
            "command names it: glasshouse train SOURCE --net CODE"
        )
    if settings.pretrained is not None:
        raise ModelError(
            f"the network is the pretrained {settings.pretrained.name}, which has no list of "
            "layers: glasshouse.adapt builds it from model.pretrained"
        )
    return preset_layers(settings.preset) if settings.preset is not None else settings.layers
