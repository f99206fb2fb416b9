"""The settings of augmentation, which are the keys of augment in a recipe."""

from typing import Annotated, Literal

from pydantic import Field

from glasshouse.net_settings import Fraction, Settings


class AugmentSettings(Settings):
    """Random changes of the training images, drawn for each image separately."""

    rotation_range: Annotated[float, Field(ge=0, le=180)] = Field(
        default=0.0, description="rotate by up to this many degrees in either direction"
    )
    width_shift_range: Fraction = Field(
        default=0.0, description="shift sideways by up to this fraction of the width"
    )
    height_shift_range: Fraction = Field(
        default=0.0, description="shift up or down by up to this fraction of the height"
    )
    zoom_range: Fraction = Field(default=0.0, description="zoom in or out; 0.1: 90 to 110 %")
    horizontal_flip: bool | Literal["alternating"] = Field(
        default=False,
        description="mirror half of the images, at random; alternating: mirror each image in every "
        "second epoch, so that two epochs show both views of all images",
    )
    random_crop: Annotated[int, Field(ge=0)] = Field(
        default=0, description="shift by up to this many whole pixels in each direction"
    )
    fill_mode: Literal["nearest", "reflect", "constant"] = Field(
        default="nearest",
        description="how the gap behind a shifted or rotated image is filled (constant: black)",
    )
    brightness_range: Fraction = Field(
        default=0.0, description="brighter or darker; 0.1: 90 to 110 %"
    )
    contrast_range: Fraction = Field(
        default=0.0, description="more or less contrast; 0.1: 90 to 110 %"
    )
    saturation_range: Fraction = Field(
        default=0.0, description="more or less colour; 0.1: 90 to 110 %"
    )
    cutout: Fraction = Field(
        default=0.0,
        description="side of a grey square laid over the image, as a fraction of the image side",
    )
    pixel_dropout: Fraction = Field(
        default=0.0,
        description="in half of the images, up to this share of the pixels, scattered at random, "
        "become grey",
    )
    mixup: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="blend each image and its label with another image; 0: never, 0.2: slightly, "
        "1: in any proportion (alpha of Beta(alpha, alpha))",
    )
    cutmix: Annotated[float, Field(ge=0)] = Field(
        default=0.0,
        description="paste a rectangle of another image and mix the labels in proportion; "
        "0: never, 1: of any size (alpha of Beta(alpha, alpha))",
    )
