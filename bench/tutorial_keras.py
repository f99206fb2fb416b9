"""The tutorial's program for its wide net, as close as Keras 3 on TensorFlow still runs it."""

import os
from typing import Any

import numpy as np


def program(
    images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], batch_size: int
) -> tuple[Any, Any]:
    """The compiled net and ImageDataGenerator's endless flow of batches, images as uint8."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras as k
    from keras.src.legacy.preprocessing.image import ImageDataGenerator

    layers = k.layers
    net = k.Sequential(
        [
            k.Input((32, 32, 3)),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Conv2D(128, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(512, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    net.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    generator = ImageDataGenerator(
        rotation_range=15, width_shift_range=0.1, height_shift_range=0.1, horizontal_flip=True
    )
    inputs = images.transpose(0, 2, 3, 1).astype("float32") / 255
    inputs = (inputs - inputs.mean()) / (inputs.std() + 1e-7)
    targets = k.utils.to_categorical(labels, 10)
    return net, generator.flow(inputs, targets, batch_size=batch_size)
