"""Glasshouse: image classifiers that people can see through.

Every public name is listed here once and imported when it is first used, so that the command line
can answer without waiting for torch.
"""

from importlib import import_module

_PUBLIC = {
    "glasshouse.data.augment": ("augment",),
    "glasshouse.data.checks": ("check",),
    "glasshouse.data.findings": ("Finding",),
    "glasshouse.data.decode": ("decode",),
    "glasshouse.data.images": ("BadFile", "ImageSet", "Splits", "take"),
    "glasshouse.data.sources": ("load_splits",),
    "glasshouse.errors": (
        "BadImage",
        "DataError",
        "DivergedError",
        "GlasshouseError",
        "ModelError",
        "RecipeError",
        "StorageError",
        "UsageError",
    ),
    "glasshouse.evaluation.calibration": ("fit_temperature",),
    "glasshouse.evaluation.compare": ("Comparison", "compare"),
    "glasshouse.evaluation.evaluation": ("Evaluation", "evaluate"),
    "glasshouse.explanation.activations": ("Activations", "activations"),
    "glasshouse.explanation.maps.class_maps": ("class_maps",),
    "glasshouse.explanation.trust.checks": ("check_all",),
    "glasshouse.explanation.explain": ("explain", "explain_contrast", "explain_page"),
    "glasshouse.explanation.trust.localisation": ("score_localisation",),
    "glasshouse.explanation.methods": ("ExplainSettings",),
    "glasshouse.explanation.mistakes": ("explain_mistakes",),
    "glasshouse.explanation.nouns": ("Explanation", "load_explanation", "save_explanation"),
    "glasshouse.models.classifier": (
        "Classifier",
        "Preprocessing",
        "load_classifier",
        "save_classifier",
    ),
    "glasshouse.models.freezing": ("Freezing", "freeze", "thaw"),
    "glasshouse.models.layers": ("build",),
    "glasshouse.models.predict": ("Predictions", "predict", "probabilities"),
    "glasshouse.models.pretrained": ("ModelCard", "list_models"),
    "glasshouse.models.summary": ("Summary", "format_summary", "summarize"),
    "glasshouse.recipe": ("load_recipe", "recipe_names"),
    "glasshouse.settings": (
        "AugmentSettings",
        "DataSettings",
        "ModelSettings",
        "PretrainedSettings",
        "Recipe",
        "TrainSettings",
        "TransferSettings",
    ),
    "glasshouse.training.adapting": ("Adapted", "adapt", "with_head"),
    "glasshouse.training.features": ("Features", "extract", "make_extractor"),
    "glasshouse.training.finder": ("RangeTest", "find_lr", "with_found_rate"),
    "glasshouse.training.lr_curve": ("LrCurve",),
    "glasshouse.training.fit": ("train_classifier",),
    "glasshouse.training.heads": ("HeadSettings", "best_head", "fit_heads"),
    "glasshouse.training.loop": ("TrainingSetup", "Step", "train"),
    "glasshouse.training.state": ("Epoch", "begin", "final_net"),
    "glasshouse.training.transfer": ("begin_transfer", "train_transfer"),
    "glasshouse.workflow.use.model_names": ("classifier_by_name",),
    "glasshouse.workflow.train.experiment": ("Request",),
    "glasshouse.workflow.compare.ladder": ("climb",),
    "glasshouse.workflow.compare.reproduce": ("reproduce",),
    "glasshouse.workflow.compare.seeds": ("train_seeds",),
    "glasshouse.workflow.tune.tune": ("Search", "tune"),
}
_HOME = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_HOME)
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'glasshouse' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
