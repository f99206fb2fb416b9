"""The tutorial's program for its own networks, as close as Keras 3 on TensorFlow still runs it."""

import os
from typing import Any

import numpy as np

# Filters of the four convolutions.
FILTERS = {"tutorial-basic": (6, 16, 16, 32), "tutorial-wide": (32, 32, 64, 128)}


def layers_of(keras: Any, recipe: str) -> list[Any]:
    """The tutorial's layers for one of its own networks."""
    layers = keras.layers
    kind = "tutorial-basic" if recipe.startswith("tutorial-basic") else "tutorial-wide"
    first, second, third, fourth = FILTERS[kind]
    return [
        keras.Input((32, 32, 3)),
        layers.Conv2D(first, 3, padding="same", activation="relu"),
        layers.Conv2D(second, 3, activation="relu"),
        *([layers.BatchNormalization()] if recipe == "tutorial-wide-bn" else []),
        layers.MaxPooling2D(),
        layers.Conv2D(third, 3, padding="same", activation="relu"),
        layers.Conv2D(fourth, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(512, activation="relu"),
        layers.Dropout(0.5),
        layers.Dense(10, activation="softmax"),
    ]


def network(recipe: str) -> Any:
    """The compiled network: softmax at the end, cross-entropy, Adam with Keras's defaults."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras as k

    net = k.Sequential(layers_of(k, recipe))
    net.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    return net


def program(
    images: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    batch_size: int,
    recipe: str = "tutorial-wide",
) -> tuple[Any, Any]:
    """The network and ImageDataGenerator's endless flow of batches; images uint8 (n, 3, h, w)."""
    net = network(recipe)
    import keras as k
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    generator = ImageDataGenerator(
        rotation_range=15, width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True
    )
    inputs = prepared(images, images, recipe)
    return net, generator.flow(inputs, k.utils.to_categorical(labels, 10), batch_size=batch_size)


def prepared(
    images: np.ndarray[Any, Any], training_images: np.ndarray[Any, Any], recipe: str
) -> np.ndarray[Any, Any]:
    """float32 (n, h, w, 3): 0..1, for the wide network standardised by one mean and deviation."""
    inputs: np.ndarray[Any, Any] = images.transpose(0, 2, 3, 1).astype("float32") / 255
    if recipe == "tutorial-basic":
        return inputs
    known = training_images.astype("float32") / 255
    return (inputs - known.mean(dtype="float64").astype("float32")) / (
        known.std(dtype="float64").astype("float32") + 1e-7
    )
