"""The settings of learning-rate schedules, which are the keys of train.schedule in a recipe."""

from typing import Annotated, Literal

from pydantic import Field

from glasshouse.net_settings import Settings


class Constant(Settings):
    """The learning rate does not change."""

    type: Literal["constant"] = "constant"


class StepDecay(Settings):
    """The learning rate is multiplied by factor after every `every` epochs."""

    type: Literal["step"] = "step"
    every: Annotated[float, Field(gt=0)] = Field(description="epochs")
    factor: Annotated[float, Field(gt=0, le=1)] = 0.5


class Exponential(Settings):
    """The learning rate falls exponentially to final times its initial value."""

    type: Literal["exponential"] = "exponential"
    final: Annotated[float, Field(gt=0, le=1)] = 0.01


class Cosine(Settings):
    """Half a cosine from the learning rate to final times it (Loshchilov and Hutter 2017)."""

    type: Literal["cosine"] = "cosine"
    final: Annotated[float, Field(ge=0, le=1)] = 0.0


class OneCycle(Settings):
    """A cosine rise for a share of the run, then a fall to nearly zero (Smith and Topin 2017)."""

    type: Literal["one_cycle"] = "one_cycle"
    rise: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.3, description="share of the run that rises"
    )
    start: Annotated[float, Field(gt=0, le=1)] = Field(default=0.04, description="of the peak rate")
    final: Annotated[float, Field(ge=0, le=1)] = Field(default=4e-6, description="of the peak rate")


class Triangular(Settings):
    """Linear rise and fall between base and the peak (cyclical learning rates, Smith 2015)."""

    type: Literal["triangular"] = "triangular"
    cycle: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="epochs per cycle; unset: one cycle spans the whole run"
    )
    base: Annotated[float, Field(ge=0, le=1)] = Field(default=0.1, description="of the peak rate")
    rise: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.5, description="share of a cycle that rises"
    )
    halve: bool = Field(default=False, description="halve the height in each cycle (triangular2)")
    end: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="of the peak rate, at the end of the last cycle; unset: base"
    )


class PerEpoch(Settings):
    """An explicit learning rate per epoch; the last one is kept for all later epochs."""

    type: Literal["per_epoch"] = "per_epoch"
    rates: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]


Schedule = Annotated[
    Constant | StepDecay | Exponential | Cosine | OneCycle | Triangular | PerEpoch,
    Field(discriminator="type"),
]
