"""What users write, in the forms that type checkers must understand: never run as a whole."""

from dataclasses import replace
from pathlib import Path
from typing import assert_type

import numpy as np
import torch
from torch import nn

import glasshouse as gh


def train_and_evaluate(source: str) -> float:
    splits = gh.load_splits(source, gh.DataSettings(image_size=32))
    recipe = gh.load_recipe("small-cnn", ["train.epochs=3"])
    for finding in gh.check(splits):
        print(finding.level, finding.title)
    classifier, epochs = gh.train_classifier(recipe.model, splits, recipe.train)
    print([epoch.validation_accuracy for epoch in epochs])
    evaluation = assert_type(gh.evaluate(gh.predict(classifier, splits.test)), gh.Evaluation)
    interval = assert_type(evaluation.accuracy, gh.Interval)
    gh.plot_confusion(evaluation).savefig("confusion.png")
    return interval.high - interval.low


def train_a_network_of_your_own(splits: gh.Splits) -> gh.Classifier:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))
    settings = gh.TrainSettings(epochs=2, lr=1e-3, schedule=gh.Triangular(base=0.1))
    classifier, _ = gh.train_classifier(net, splits, settings, augment=gh.AugmentSettings())
    return classifier


def train_with_parts_of_your_own(splits: gh.Splits, loader: object) -> gh.Classifier:
    classifier, _ = gh.train_classifier(
        gh.ModelSettings(preset="small-cnn"),
        splits,
        batches=gh.from_dataloader(loader),
        loss=nn.CrossEntropyLoss(),
        optimizer=lambda net: torch.optim.RMSprop(net.parameters(), lr=1e-3),
    )
    return classifier


def compare_photos_with_a_run(paths: list[Path]) -> list[str]:
    found = assert_type(gh.find_similar("runs/one", paths), gh.Resemblances)
    print(found.images, assert_type(found[0].familiarity, gh.Familiarity).p_value)
    return [each.similar.labels[0] for each in found if each.similar is not None]


def take_images_from_elsewhere(dataset: object) -> gh.Splits:
    arrays = gh.ImageSet.from_arrays(np.zeros((2, 8, 8, 3), np.uint8), [0, 1], ["cat", "dog"])
    read = assert_type(gh.from_dataset(dataset, image_size=8), gh.ImageSet)
    return gh.Splits(train=read, validation=arrays, test=arrays)


def write_the_loop_yourself(splits: gh.Splits, recipe: gh.Recipe) -> gh.Classifier:
    untrained = gh.untrained_classifier(recipe.model, splits, seed=0)
    setup = gh.TrainingSetup(
        train=splits.train,
        validation=splits.validation,
        preprocessing=untrained.preprocessing,
        settings=recipe.train,
        augment=recipe.augment,
    )
    curve = assert_type(gh.find_lr(untrained.net, setup, test=gh.RangeTest(seeds=1)), gh.LrCurve)
    setup = replace(setup, settings=gh.with_found_rate(recipe.train, curve))
    state = gh.begin(untrained.net, setup.settings, torch.device("cpu"))
    for record in gh.train(state, setup):
        if isinstance(record, gh.Epoch):
            print(record.epoch, record.validation_loss)
        else:
            assert_type(record, gh.Step)
    return replace(untrained, net=gh.final_net(state))


def explain_an_image(path: Path) -> None:
    classifier = assert_type(gh.classifier_by_name("cifar10-small"), gh.Classifier)
    images = gh.read_images(path, classifier)
    explanations = gh.explain(classifier, images, methods=["saliency", "grad-cam"])
    for explanation in gh.check_all(classifier, explanations):
        print(explanation.method, [check.verdict for check in explanation.checks])
    probabilities = gh.classify(classifier, images)
    print(classifier.class_names[int(np.argmax(probabilities[0]))])


def keep_a_classifier(classifier: gh.Classifier, folder: Path) -> gh.Classifier:
    gh.save_classifier(classifier, folder)
    gh.export_onnx(classifier, folder / "model.onnx")
    return gh.load_classifier(folder)


def ask_about_files(classifier: gh.Classifier, path: Path) -> tuple[str, ...]:
    predictions = assert_type(classifier.predict([path, "cat.jpg"]), gh.Predictions)
    print(predictions.probabilities.max(), gh.classify(classifier, str(path)))
    gh.explain(classifier, path, methods="grad-cam")
    return predictions.names
