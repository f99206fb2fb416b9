"""One small network of every family in timm and torchvision, with random weights, through it all.

For each: predict, summary, explain with every method (the slow ones with few passes), and, with
--export, ONNX. The class activation maps are compared with autograd by hand at their layer, the
logits of onnxruntime for other images with those of the network (claim: maps equal to 1e-5, logits
to 1e-4 of the largest), and anything that is refused must be refused by name. Each network runs in
a process of its own with a time limit; results are kept in a file, so that a sweep that was stopped
resumes.

    python bench/zoo_sweep.py sweep.jsonl --export --page docs/networks.md
    python bench/zoo_sweep.py sweep.jsonl --only vit_tiny_patch16_224
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from contest import require

# In an order in which a sweep that is stopped early has seen the most different networks.
TIMM: list[str] = """
vit_tiny_patch16_224 swin_tiny_patch4_window7_224 deit_tiny_distilled_patch16_224 mixer_s32_224
hiera_tiny_224 xcit_nano_12_p16_224 cait_xxs24_224 pit_ti_224 levit_128s coat_lite_tiny
convnext_atto davit_tiny efficientformer_l1 mvitv2_tiny poolformer_s12 pvt_v2_b0 convit_tiny
crossvit_9_240 tnt_s_patch16_224 tiny_vit_5m_224 visformer_tiny edgenext_xx_small mobilevit_xxs
gcvit_xxtiny twins_pcpvt_small swinv2_tiny_window8_256 swinv2_cr_tiny_224 eva02_tiny_patch14_224
beit_base_patch16_224 maxvit_rmlp_pico_rw_256 volo_d1_224 nest_tiny sequencer2d_s focalnet_tiny_srf
efficientformerv2_s0 efficientvit_b0 efficientvit_m0 fastvit_t8 inception_next_atto mambaout_femto
repvit_m0_9 rdnet_tiny convmixer_768_32 swiftformer_xs nextvit_small vit_tiny_r_s16_p8_224
vit_relpos_small_patch16_224 vit_small_patch14_reg4_dinov2 vitamin_small_224 hieradet_small
efficientvim_m1 shvit_s1 starnet_s050 fasternet_t0 iformer_t lowformer_b0 cpubone_nano lcnetv2_small
resnetv2_18 efficientnet_b0 mobilenetv3_small_050 regnetx_002 ghostnet_050 botnet26t_256 gernet_s
resnest14d skresnet18 res2net50_14w_8s legacy_seresnet18 rexnet_100 hrnet_w18_small dla46_c
vovnet39a selecsls42 tresnet_m hardcorenas_a hgnetv2_b0 repghostnet_050 cs3darknet_s cspnext_tiny
nfnet_l0 dpn48b xception41 legacy_xception inception_v4 inception_resnet_v2 csatv2
naflexvit_base_patch16_gap samvit_base_patch16_224 qwen3_vit_88m mobilenetv5_300m
deepseek_vit_412m gemma4_vit_167m nasnetalarge pnasnet5large
""".split()  # noqa: SIM905
TORCHVISION: list[str] = """
swin_t swin_v2_t vit_b_32 convnext_tiny maxvit_t resnet18 resnext50_32x4d wide_resnet50_2
shufflenet_v2_x0_5 squeezenet1_1 mobilenet_v2 mobilenet_v3_small mnasnet0_5 efficientnet_b0
efficientnet_v2_s regnet_y_400mf densenet121 googlenet inception_v3 alexnet vgg11
""".split()  # noqa: SIM905
CLASSES = tuple("abcde")
LARGEST_ERROR, LARGEST_EXPORT_ERROR = 1e-5, 1e-4
# Between these lines, a page has what the sweep found.
BEGIN, END = "<!-- found by bench/zoo_sweep.py -->", "<!-- until here -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="a JSON line per network; read and added to")
    parser.add_argument("--page", type=Path, help="renew the tables of this page")
    parser.add_argument("--only", nargs="*", help="these networks, again")
    parser.add_argument("--seconds", type=float, default=300, help="time limit of a network")
    parser.add_argument("--until", type=float, default=36e5, help="seconds to start networks in")
    parser.add_argument("--export", action="store_true", help="export to ONNX as well")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(examine(arguments.child, arguments.export)))
        return
    if arguments.export:
        require("onnxruntime", "pip install -e '.[onnx]'")
    names = arguments.only or [f"timm/{n}" for n in TIMM] + [
        f"torchvision/{n}" for n in TORCHVISION
    ]
    found = {} if arguments.only else read(arguments.results)
    # The smallest first, as far as an earlier sweep knows the sizes.
    names.sort(key=lambda name: found.get(name, {}).get("parameters", 0))
    if arguments.export:
        found = {name: each for name, each in found.items() if "export" in each}
    started = time.monotonic()
    for name in names:
        if name not in found and time.monotonic() - started < arguments.until:
            result = in_child(name, arguments.seconds, arguments.export)
            with arguments.results.open("a") as file:
                file.write(json.dumps(result) + "\n")
            print(line(result), flush=True)
    found = read(arguments.results)
    if arguments.page:
        before, _, rest = arguments.page.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        whole = f"{before}{BEGIN}\n\n{tables(list(found.values()))}\n{END}{after}"
        arguments.page.write_text(whole, encoding="utf-8")
    bad = [each for each in found.values() if each["verdict"] == "wrong"]
    print(f"{len(found)} networks; wrong or failed: {[each['name'] for each in bad] or 'none'}")
    raise SystemExit(bool(bad))


def read(path: Path) -> dict[str, dict[str, Any]]:
    """The last result of each network that was finished, so that the others are tried again."""
    lines = path.read_text().splitlines() if path.is_file() else []
    results = [each for each in map(json.loads, lines) if each["verdict"] != "not finished"]
    return {each["name"]: each for each in results}


def in_child(name: str, seconds: float, export: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "-", "--child", name, *(["--export"] if export else [])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {
            "name": name,
            "verdict": "not finished",
            "words": f"not finished in {seconds:.0f} s",
        }
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        words = (done.stderr.strip().splitlines() or ["no output"])[-1][:200]
        return {"name": name, "verdict": "wrong", "words": words}
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def examine(name: str, export: bool) -> dict[str, Any]:
    """What one network does; a refusal is a GlasshouseError, anything else is wrong."""
    import torch

    from glasshouse.errors import GlasshouseError

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    result: dict[str, Any] = {"name": name, "verdict": "right", "words": ""}
    try:
        _examine(name, export, result)
    except GlasshouseError as error:
        result |= {"verdict": "refused", "words": str(error)}
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        words = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}"
        result |= {"verdict": "wrong", "words": words[:300]}
    return result


def _examine(name: str, export: bool, result: dict[str, Any]) -> None:
    from glasshouse.explanation.explain import explain_page
    from glasshouse.explanation.methods import ExplainSettings
    from glasshouse.explanation.pipeline import sheet_methods
    from glasshouse.models.classifier import Classifier
    from glasshouse.models.pretrained import build_net, preprocessing_of
    from glasshouse.models.summary import summarize

    net, preprocessing = build_net(name, len(CLASSES), {}).eval(), preprocessing_of(name)
    draw_empty_heads(net)
    size = (preprocessing.height, preprocessing.width)
    image = np.random.default_rng(0).integers(0, 256, (1, 3, *size), dtype=np.uint8)
    classifier = Classifier(net, preprocessing, CLASSES)
    assert np.isfinite(classifier.predict(image).logits).all()
    result["size"] = size[0]
    result["parameters"] = summarize(net, (3, *size)).parameters
    methods = sheet_methods(classifier, image[0])
    result["methods"] = list(methods)
    settings = ExplainSettings(samples=1, steps=2, window=size[0] // 2)
    found = explain_page(classifier, image, methods=methods, settings=settings)
    assert found.layer_choice is not None
    layer = result["layer"] = found.layer_choice.name
    maps = {each.method: each for each in found.explanations}
    for each in maps.values():
        assert np.isfinite(each.maps).all() and each.maps.ndim == 3, each.method
    result["map"] = list(maps["grad-cam"].maps.shape[1:])
    result["error"] = error = error_at(classifier, image, layer, maps)
    if error > LARGEST_ERROR:
        result |= {"verdict": "wrong", "words": f"the maps differ by {error:.1e} from autograd"}
    if export:
        result["export"] = answer = exported(classifier)
        if answer.startswith("wrong"):
            result |= {"verdict": "wrong", "words": f"the exported file is {answer}"}


def draw_empty_heads(net: Any) -> None:
    """Random weights for heads that start with zeros, since all maps would be zero as well."""
    import torch

    torch.manual_seed(0)
    for weights in net.parameters():
        if weights.ndim == 2 and not weights.any():
            torch.nn.init.normal_(weights, std=0.02)


def error_at(classifier: Any, image: Any, layer: str, maps: dict[str, Any]) -> float:
    """The largest relative difference of the maps from autograd by hand at the layer."""
    import torch

    from glasshouse.explanation.inputs import as_inputs

    bare, _, number = layer.partition(":")
    kept: list[Any] = []
    module = classifier.net.get_submodule(bare)

    def keep(module: Any, inputs: Any, output: Any) -> Any:
        kept.append(output)
        # Another tensor goes on, so that an operation in place does not change this one.
        return output.clone() if isinstance(output, torch.Tensor) else output

    handle = module.register_forward_hook(keep)
    logits = classifier.net(as_inputs(classifier, image))
    handle.remove()
    value = kept[int(number or -1)]
    target = int(maps["grad-cam"].targets[0])
    (gradient,) = torch.autograd.grad(logits[0, target], value)
    rows, columns = maps["grad-cam"].maps.shape[1:]
    value, gradient = (by_hand(each.detach(), rows, columns) for each in (value, gradient))
    expected = {
        "grad-cam": (value * gradient.mean((1, 2), keepdim=True)).sum(-1),
        "hires-cam": (value * gradient).sum(-1),
    }
    errors = []
    for name, want in expected.items():
        difference = np.abs(maps[name].maps - want.numpy()).max()
        errors.append(float(difference / max(float(want.abs().max()), 1e-30)))
    return max(errors)


def by_hand(values: Any, rows: int, columns: int) -> Any:
    """An output as ``(1, rows, columns, channels)``; the axes are told apart by their lengths."""
    if values.ndim == 3:
        others = values.shape[1] - rows * columns
        return values[:, others:].reshape(1, rows, columns, -1)
    is_last = values.shape[1:3] == (rows, columns) and values.shape[2:] != (rows, columns)
    return values if is_last else values.permute(0, 2, 3, 1)


def exported(classifier: Any) -> str:
    """ "yes", why the network cannot be exported, or by how much the file's answers differ."""
    import onnxruntime

    from glasshouse.errors import GlasshouseError
    from glasshouse.export.onnx import IMAGES, LOGITS, export_onnx

    wanted = classifier.preprocessing
    size = (3, 3, wanted.height, wanted.width)
    images = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        try:
            export_onnx(classifier, path)
        except GlasshouseError as error:
            return str(error)
        (found,) = onnxruntime.InferenceSession(path).run([LOGITS], {IMAGES: images})
    logits = classifier.predict(images).logits
    error = float(np.abs(found - logits).max() / np.abs(logits).max())
    return "yes" if error <= LARGEST_EXPORT_ERROR else f"wrong: its logits differ by {error:.1e}"


def line(result: dict[str, Any]) -> str:
    size = "x".join(map(str, result.get("map", [])))
    said = f"{result['name']:44} {result['verdict']:9} {size:7} {result.get('layer', '')}"
    return f"{said} {result['words']} | {result.get('export', '')}"


def tables(results: list[dict[str, Any]]) -> str:
    """The tables of the page of supported networks."""
    right = [each for each in results if each["verdict"] == "right"]
    rest = [each for each in results if each["verdict"] != "right"]
    rows = [row(each) for each in right]
    lines = [
        f"{len(results)} networks were tried; {len(right)} are in the table.",
        "",
        "| network | image | default layer | map | ReLU rules | rollouts | ONNX |",
        "|--|--|--|--|--|--|--|",
        *rows,
        "",
    ]
    refused = [each for each in right if onnx_cell(each) == "refused"]
    if refused:
        lines += [
            "What `glasshouse export` says of the networks that it refuses:",
            "",
            "| network | why |",
            "|--|--|",
            *(f"| `{each['name']}` | {shortened(each['export'])} |" for each in refused),
            "",
        ]
    if rest:
        lines += [
            "Not in the table:",
            "",
            "| network | what happened |",
            "|--|--|",
            *(f"| `{each['name']}` | {shortened(each['words'])} |" for each in rest),
            "",
        ]
    return "\n".join(lines)


def row(each: dict[str, Any]) -> str:
    size = "x".join(map(str, each["map"]))
    relus = "yes" if "guided" in each["methods"] else "no ReLU"
    rollouts = "yes" if "attention-rollout" in each["methods"] else ""
    layer = f"`{each['layer']}`"
    cells = (f"`{each['name']}`", str(each["size"]), layer, size, relus, rollouts, onnx_cell(each))
    return f"| {' | '.join(cells)} |"


def onnx_cell(each: dict[str, Any]) -> str:
    return {"": "not tried", "yes": "yes"}.get(each.get("export", ""), "refused")


def shortened(words: str) -> str:
    """Its first line, as the cell of a table shows it: "16*s34" is no emphasis."""
    return re.sub(r"([|*_])", r"\\\1", words.split("\n")[0][:240])


if __name__ == "__main__":
    main()
