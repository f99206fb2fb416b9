import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glasshouse.errors import NotFinite, UsageError
from glasshouse.explanation.store import load_page
from glasshouse.workflow.use.explain_files import (
    ExplainRequest,
    as_json,
    explain_images,
    map_request,
)
from tests.explanation.nets import classifier_of, module_net, some_images


def test_an_image_gets_a_folder_with_its_sheet_and_its_page(tmp_path: Path) -> None:
    maps = map_request(["grad-cam", "activations"], class_name="ship")
    found = explain_images(
        classifier_of(module_net()),
        some_images(2),
        ["a.png", "b/a.png"],
        ExplainRequest(tmp_path, maps, model="my-network"),
    )
    assert len({path.parent for each in found for path in each.files}) == 2
    names = {path.name for path in found[0].files}
    assert {"sheet.png", "activations-one-channel.png", "page.json", "grad-cam.png"} <= names
    assert {"images.npy", "grad-cam.maps.npy"} <= names
    assert {path for each in found for path in each.files} == {
        path for path in tmp_path.rglob("*") if path.is_file()
    }
    answer = json.loads(json.dumps(as_json(found[0])))
    (written,) = answer["maps"]
    assert answer["explained"] == "ship" and written["explained"] == ["ship"]
    assert "faithfulness" in {check["name"] for check in written["checks"]}
    page = json.loads((found[0].files[0].parent / "page.json").read_text(encoding="utf-8"))
    assert page["maps"] == answer["maps"]
    assert (page["images"], page["model"]) == (["a.png"], "my-network")
    assert load_page(found[1].files[0].parent).explanations[0].method == "grad-cam"


def test_all_methods_and_activations_bring_a_shallow_and_a_deep_layer() -> None:
    assert map_request(["all"]).activations == "shallow and deep"
    only = map_request(["activations"])
    assert only.methods == () and only.activations == "shallow and deep"
    assert map_request(["activations"], activation_layers=["0"]).activations == ("0",)
    assert map_request(["grad-cam"]).activations == ()


def test_an_image_that_has_no_answer_is_named(tmp_path: Path) -> None:
    net = module_net()
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] = float("nan")
    request = ExplainRequest(tmp_path, map_request(["saliency"]))
    with pytest.raises(NotFinite, match=r"^b/a\.png: the network has no answer for this image: "):
        explain_images(classifier_of(net), some_images(1), ["b/a.png"], request)


def test_an_unknown_method_names_the_nearest_and_the_groups() -> None:
    with pytest.raises(UsageError, match=r"Did you mean 'grad-cam'.*Also possible: all, activ"):
        map_request(["gradcam"])


def test_explaining_an_image_imports_no_library_that_it_does_not_use(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from glasshouse.models.bundled import load_bundled
from glasshouse.workflow.use.explain_files import ExplainRequest, explain_images, map_request
import numpy as np
request = ExplainRequest(Path("out"), map_request(["all"], is_checked=False))
images = np.random.default_rng(0).integers(0, 256, (1, 3, 32, 32), dtype=np.uint8)
explain_images(load_bundled("cifar10-small"), images, ["a.png"], request)
heavy = {"scipy", "sklearn", "torchvision", "timm", "sympy", "matplotlib.figure"}
print("heavy:", sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "heavy: []" in done.stdout, done.stdout + done.stderr
