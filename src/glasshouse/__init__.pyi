# The public names, once. Type checkers read this file; at run time lazy_loader imports from it
# each name when it is first used.

from .data.augment import augment as augment
from .data.datasets import from_dataset as from_dataset
from .data.decode import decode as decode
from .data.findings import Finding as Finding
from .data.image_checks import check as check
from .data.images import BadFile as BadFile, ImageSet as ImageSet, Splits as Splits, take as take
from .data.sources import load_splits as load_splits
from .errors import (
    BadImage as BadImage,
    DataError as DataError,
    DivergedError as DivergedError,
    GlasshouseError as GlasshouseError,
    GpuMemoryError as GpuMemoryError,
    Interrupted as Interrupted,
    ModelError as ModelError,
    RecipeError as RecipeError,
    StorageError as StorageError,
    UsageError as UsageError,
)
from .evaluation.calibration import fit_temperature as fit_temperature
from .evaluation.compare import Comparison as Comparison, compare as compare
from .evaluation.compare_labels import LabelComparison as LabelComparison
from .evaluation.evaluation import Evaluation as Evaluation, evaluate as evaluate
from .evaluation.failing_groups import (
    FailingGroup as FailingGroup,
    find_failing_groups as find_failing_groups,
)
from .evaluation.intervals import Interval as Interval
from .evaluation.label_calibration import choose_thresholds as choose_thresholds
from .evaluation.multi_label import (
    MultiLabelEvaluation as MultiLabelEvaluation,
    evaluate_labels as evaluate_labels,
)
from .evaluation.set_coverage import SetMetrics as SetMetrics, measure_sets as measure_sets
from .explanation.activations import activations as activations
from .explanation.draw.rows import draw_explanation as draw_explanation
from .explanation.draw.sheet import draw_sheet as draw_sheet
from .explanation.explain import (
    ExplanationWarning as ExplanationWarning,
    explain as explain,
    explain_contrast as explain_contrast,
    explain_page as explain_page,
)
from .explanation.graph.layer_choice import shallow_and_deep_layers as shallow_and_deep_layers
from .explanation.maps.class_maps import class_maps as class_maps
from .explanation.methods import ExplainSettings as ExplainSettings
from .explanation.mistakes import explain_mistakes as explain_mistakes
from .explanation.nouns import (
    Activations as Activations,
    Check as Check,
    Explanation as Explanation,
    ExplanationPage as ExplanationPage,
    LayerInfo as LayerInfo,
    Mistakes as Mistakes,
)
from .explanation.shortcuts.find import (
    Shortcuts as Shortcuts,
    find_shortcuts as find_shortcuts,
)
from .explanation.store import (
    load_explanation as load_explanation,
    load_page as load_page,
    save_page as save_page,
)
from .explanation.tensors import explain_tensors as explain_tensors
from .explanation.trust.checks import check_all as check_all
from .explanation.trust.localisation import (
    Localisation as Localisation,
    score_localisation as score_localisation,
)
from .export.onnx import export_onnx as export_onnx
from .models.classifier import (
    Classifier as Classifier,
    load_classifier as load_classifier,
    save_classifier as save_classifier,
)
from .models.conformity import (
    ConformityScores as ConformityScores,
    SetRule as SetRule,
    conformity_scores as conformity_scores,
)
from .models.freezing import Freezing as Freezing, freeze as freeze, unfreeze as unfreeze
from .models.known_names import example_photo as example_photo
from .models.layers import build as build
from .models.predict import (
    Predictions as Predictions,
    classify as classify,
    predict as predict,
    probabilities as probabilities,
    read_images as read_images,
)
from .models.prediction_sets import PredictionSets as PredictionSets
from .models.preprocessing import Preprocessing as Preprocessing
from .models.pretrained import ModelCard as ModelCard, list_models as list_models
from .models.summary import (
    Summary as Summary,
    format_summary as format_summary,
    summarize as summarize,
)
from .models.unusual_scores import UnknownMeasure as UnknownMeasure
from .net_settings import (
    ActivationLayer as ActivationLayer,
    BatchNorm as BatchNorm,
    Conv as Conv,
    Dense as Dense,
    Dropout as Dropout,
    Flatten as Flatten,
    GlobalPool as GlobalPool,
    Pool as Pool,
    Rescaling as Rescaling,
    Residual as Residual,
    Settings as Settings,
    TorchLayer as TorchLayer,
    Whitening as Whitening,
)
from .recipe import load_recipe as load_recipe, recipe_names as recipe_names
from .report.finder_plots import plot_lr_curve as plot_lr_curve
from .report.image_plots import (
    plot_augmentation as plot_augmentation,
    plot_images as plot_images,
    plot_mistakes as plot_mistakes,
)
from .report.inline_report import InlineReport as InlineReport, show as show
from .report.ladder_report import Ladder as Ladder
from .report.plots import (
    plot_class_differences as plot_class_differences,
    plot_classes as plot_classes,
    plot_confusion as plot_confusion,
    plot_curves as plot_curves,
    plot_reliability as plot_reliability,
)
from .schedule_settings import (
    Constant as Constant,
    Cosine as Cosine,
    Exponential as Exponential,
    OneCycle as OneCycle,
    PerEpoch as PerEpoch,
    StepDecay as StepDecay,
)
from .serving.inline_workbench import InlineWorkbench as InlineWorkbench, ui as ui
from .settings import (
    AugmentSettings as AugmentSettings,
    DataSettings as DataSettings,
    ModelSettings as ModelSettings,
    PretrainedSettings as PretrainedSettings,
    Recipe as Recipe,
    TrainSettings as TrainSettings,
    TransferSettings as TransferSettings,
    Triangular as Triangular,
)
from .training.adapting import Adapted as Adapted, adapt as adapt, with_head as with_head
from .training.dataloaders import from_dataloader as from_dataloader
from .training.features import (
    Extractor as Extractor,
    Features as Features,
    extract as extract,
    make_extractor as make_extractor,
)
from .training.finder import (
    RangeTest as RangeTest,
    find_lr as find_lr,
    with_found_rate as with_found_rate,
)
from .training.fit import (
    train_classifier as train_classifier,
    untrained_classifier as untrained_classifier,
)
from .training.head_choice import HeadChoice as HeadChoice
from .training.heads import (
    HeadFit as HeadFit,
    HeadSettings as HeadSettings,
    best_head as best_head,
    fit_heads as fit_heads,
)
from .training.loop import Step as Step, train as train
from .training.lr_curve import LrCurve as LrCurve
from .training.own_parts import OwnParts as OwnParts
from .training.schedules import EveryStep as EveryStep
from .training.state import (
    Epoch as Epoch,
    TrainingState as TrainingState,
    begin as begin,
    final_net as final_net,
)
from .training.training_setup import TrainingSetup as TrainingSetup
from .training.transfer import begin_transfer as begin_transfer, train_transfer as train_transfer
from .workflow.compare.compare_runs import compare_runs as compare_runs
from .workflow.compare.cross_validation import Folds as Folds, cross_validate as cross_validate
from .workflow.compare.ladder import Rung as Rung, climb as climb
from .workflow.compare.reproduce import Reproduction as Reproduction, reproduce as reproduce
from .workflow.compare.seeds import SeedSummary as SeedSummary, train_seeds as train_seeds
from .workflow.train.experiment import (
    Experiment as Experiment,
    Result as Result,
    TrainRequest as TrainRequest,
    finish_experiment as finish_experiment,
    fit_experiment as fit_experiment,
    open_experiment as open_experiment,
)
from .workflow.train.feature_run import FeatureRun as FeatureRun, run_features as run_features
from .workflow.tune.space import (
    Categorical as Categorical,
    Range as Range,
    parse_search as parse_search,
)
from .workflow.tune.tune import Search as Search, SearchResult as SearchResult, tune as tune
from .workflow.use.find_similar import (
    Resemblances as Resemblances,
    find_similar as find_similar,
    unknown_measure as unknown_measure,
)
from .workflow.use.model_names import classifier_by_name as classifier_by_name
from .workflow.use.photo_and_run import Resemblance as Resemblance
from .workflow.use.similar_images import Similar as Similar
from .workflow.use.unknown_images import Familiarity as Familiarity

__all__: list[str]
__version__: str
