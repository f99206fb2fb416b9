"""The one function that says what MODEL means."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from glasshouse.errors import GlasshouseWarning, ModelError, UsageError
from glasshouse.models import known_names
from glasshouse.models.classifier import save_classifier
from glasshouse.models.pretrained import build_net
from glasshouse.models.zoo import create
from glasshouse.workflow.use.model_names import classifier_by_name, net_by_name


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models with one in it, which is the folder of the bundled ones."""
    folder = tmp_path / "assets"
    save_classifier(
        create("test_resnet", ("ant", "bee"), weights="none").classifier, folder / "pet"
    )
    monkeypatch.setattr(known_names, "ASSETS", folder)
    return folder / "pet"


def weights_file(folder: Path, classes: int, *, leave_out: str = "") -> Path:
    state = build_net("test_resnet", classes, {}, seed=5).state_dict()
    path = folder / "weights.safetensors"
    save_file({key: value for key, value in state.items() if key != leave_out}, path)
    return path


def test_a_folder_and_a_bundled_name_give_the_saved_model(model: Path) -> None:
    for name in (str(model), "pet"):
        assert classifier_by_name(name).class_names == ("ant", "bee")
        assert net_by_name(name, (), size=9, class_count=9)[1] == (3, 160, 160)


def test_a_librarys_network_has_the_classes_of_its_weights(tmp_path: Path) -> None:
    classifier = classifier_by_name("test_resnet", weights=weights_file(tmp_path, 7))
    assert len(classifier.class_names) == 7
    wanted = build_net("test_resnet", 7, {}, seed=5).state_dict()
    assert torch.equal(classifier.net.state_dict()["fc.weight"], wanted["fc.weight"])


def test_arguments_and_preprocessing_follow_a_colon(tmp_path: Path) -> None:
    file = weights_file(tmp_path, 7)
    name = "test_resnet:act_layer=silu,mean=0.5,std=0.25,input_size=64"
    classifier = classifier_by_name(name, weights=file)
    wanted = classifier.preprocessing
    assert (wanted.mean, wanted.std) == ((0.5,) * 3, (0.25,) * 3)
    assert (wanted.height, wanted.width) == (64, 64)
    assert any(isinstance(module, torch.nn.SiLU) for module in classifier.net.modules())
    with pytest.raises(UsageError, match="std=0: expected a number"):
        classifier_by_name("test_resnet:std=0", weights=file)


def test_class_names_name_the_outputs_of_the_weights_own_head(tmp_path: Path) -> None:
    path = weights_file(tmp_path, 3)
    named = classifier_by_name("test_resnet", weights=path, class_names=("ant", "bee", "cat"))
    assert named.class_names == ("ant", "bee", "cat")
    head = build_net("test_resnet", 3, {}, seed=5).state_dict()["fc.weight"]
    assert torch.equal(named.net.state_dict()["fc.weight"], head)
    with pytest.raises(ModelError, match="returns 3 values per image, but there are 2 classes"):
        classifier_by_name("test_resnet", weights=path, class_names=("ant", "bee"))


def test_the_message_on_a_single_output_has_the_given_names(tmp_path: Path) -> None:
    path = weights_file(tmp_path, 1)
    with pytest.warns(GlasshouseWarning) as said:
        classifier_by_name("test_resnet", weights=path, class_names=("healthy", "ill"))
    assert [str(each.message) for each in said] == [
        "The network has one output, which is read as a sigmoid's: high values stand for ill, low "
        "values for healthy."
    ]


def test_weights_without_a_head_cannot_name_a_class(tmp_path: Path) -> None:
    file = weights_file(tmp_path, 7, leave_out="fc.weight")
    with pytest.raises(ModelError, match=r"no head for test_resnet \(fc.weight is missing\)"):
        classifier_by_name("test_resnet", weights=file)


def test_an_unknown_model_names_the_closest_match(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'resnet5'.*Did you mean 'resnet50'"):
        classifier_by_name("resnet5")
    with pytest.raises(UsageError, match=r"'pett' is not a run folder, .*Did you mean 'pet'"):
        classifier_by_name("pett")
    with pytest.raises(UsageError, match="runs/none is not a run folder: it does not exist"):
        classifier_by_name("runs/none")
    with pytest.raises(UsageError, match="pet has its own weights"):
        classifier_by_name("pet", weights=weights_file(tmp_path, 7))


def test_missing_weights_say_where_to_put_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=r"not on this machine.*resnet18-.*save it as"):
        classifier_by_name("resnet18", offline=True)


def test_without_weights_a_network_answers_at_random_and_says_so() -> None:
    with pytest.warns(GlasshouseWarning, match=r"test_resnet has random weights.*mean nothing"):
        classifier = classifier_by_name("test_resnet:weights=none", class_names=("ant", "bee"))
    assert classifier.class_names == ("ant", "bee")
    wanted = create("test_resnet", ("ant", "bee"), weights="none").classifier.net.state_dict()
    assert torch.equal(classifier.net.state_dict()["fc.weight"], wanted["fc.weight"])


def test_weights_may_follow_the_name_but_only_once(tmp_path: Path) -> None:
    file = weights_file(tmp_path, 7)
    wanted = classifier_by_name("test_resnet", weights=file).net.state_dict()
    found = classifier_by_name(f"test_resnet:weights={file}").net.state_dict()
    assert torch.equal(found["fc.weight"], wanted["fc.weight"])
    with pytest.raises(UsageError, match="each name weights: use one of them"):
        classifier_by_name(f"test_resnet:weights={file}", weights=file)


def test_a_network_is_built_for_the_size_of_its_images() -> None:
    name = "test_vit:weights=none,dynamic_img_size=false,input_size=96"
    with pytest.warns(GlasshouseWarning, match="random weights"):
        classifier = classifier_by_name(name)
    assert (classifier.preprocessing.height, classifier.preprocessing.width) == (96, 96)
    assert classifier.architecture is not None
    assert classifier.architecture["arguments"]["img_size"] == 96
    net, shape = net_by_name(name, (), size=9, class_count=9)
    assert shape == (3, 96, 96)
    assert net(torch.zeros(1, *shape)).shape == (1, 1000)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("stem=fine", "stem changes a network before it is trained.*train SOURCE --backbone"),
        ("input_size=3", "test_resnet:input_size=3: input_size: expected at least 16"),
        ("input_size=x", "input_size=x: expected a number of pixels"),
        ("mean=a", "mean=a: expected a number, or three for red, green and blue"),
        ("inputsize=96", "'inputsize' cannot be set.*Did you mean 'input_size'"),
        ("in_chans=2,weights=none", "in_chans=2: expected 1"),
        ("img_size", "expected NAME:key=value, received 'img_size'"),
        ("act_layer=nothing,weights=none", "test_resnet cannot be built with .*nothing"),
    ],
)
def test_a_wrong_value_after_the_colon_is_named(keys: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        classifier_by_name(f"test_resnet:{keys}")
    if not keys.startswith(("stem", "mean")):
        with pytest.raises(UsageError, match=words):
            net_by_name(f"test_resnet:{keys}", (), size=9, class_count=9)


def test_the_network_of_a_recipe_has_the_head_that_training_gives_it(tmp_path: Path) -> None:
    recipe = tmp_path / "own.toml"
    recipe.write_text('[model.pretrained]\nname = "test_resnet"\nhidden = 6\ninput_size = 32\n')
    net, shape = net_by_name(str(recipe), (), size=32, class_count=4)
    assert shape == (3, 32, 32)
    dense = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
    assert [layer.out_features for layer in dense] == [6, 4]
