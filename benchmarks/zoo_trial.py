"""One architecture: its layers by both engines, in batches and alone, and by hooks of its own."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from activarium.schemas.config import ModelConfig
from activarium.schemas.errors import UserError
from activarium.schemas.layers import KINDS
from activarium.schemas.record_config import RecordConfig
from activarium.tasks.capture.capture import HookCapture, Wanted
from activarium.tasks.capture.engines import choose_engine, open_capture
from activarium.tasks.capture.layers import ModelLayers, find_layers
from activarium.tasks.models.models import build_model, model_source

if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGES = 4
CLASSES = 10
TOLERANCE = {"alone": 2e-4, "own hooks": 2e-4}
EXACT = 1e-6
"""Of the layer's largest value, in float64."""
"""Difference of a layer's largest mean that last bits explain, where images run alone: torch then sums
in another order, and means are small beside the maps that they are of."""

CLOSE = 2e-5
"""The same between engines, which run the same batch."""

USUAL = frozenset(RecordConfig().chosen_kinds)
CHANNELS_FIRST = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.GroupNorm,
)
"""Modules of which torch's documentation says where the channels are."""


@dataclass
class Outcome:
    """What came of one architecture."""

    name: str
    result: str = "right"
    """right, refused (one line) or wrong."""
    reason: str = ""
    size: int = 0
    millions: float = 0.0
    """Parameters."""
    engine: str = ""
    layers: int = 0
    units: int = 0
    checked: int = 0
    """Layers that hooks of their own were compared with."""
    left_out: int = 0
    left_out_usual: list[str] = field(default_factory=list)
    """Of the kinds that are recorded by default."""
    worst: float = 0.0
    """Largest difference of any comparison, of the layer's largest value."""
    seconds: float = 0.0


def main() -> None:
    """Try the architectures that are named on standard input, a line of JSON for each."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    for line in sys.stdin:
        name = line.strip()
        began = time.perf_counter()
        outcome = Outcome(name)
        try:
            _try(outcome)
        except UserError as error:
            outcome.result, outcome.reason = "refused", str(error)
        except Exception as error:  # noqa: BLE001 - whatever is raised is what is looked for
            text = str(error).strip().partition("\n")[0]
            outcome.result, outcome.reason = "wrong", f"{type(error).__name__}: {text}"
        outcome.seconds = round(time.perf_counter() - began, 1)
        print(json.dumps(asdict(outcome)), flush=True)


def _try(outcome: Outcome) -> None:
    config = ModelConfig(architecture=outcome.name, weights="untrained")
    source = model_source(config)
    preprocessing = source.preprocessing
    outcome.size = size = (preprocessing.size if preprocessing else None) or 224
    model = build_model(config, classes=CLASSES, colours=3, size=(size, size))
    outcome.millions = round(sum(each.numel() for each in model.parameters()) / 1e6, 1)
    images = _images(size)
    found = find_layers(model, images[:1], patterns=["*"], kinds=KINDS)
    outcome.layers, outcome.units = len(found.layers), found.units
    outcome.left_out = len(found.left_out)
    usual = find_usual(found, model)
    outcome.left_out_usual = usual
    wanted = Wanted(found, ("mean",), ())
    choice = choose_engine(model, wanted, images, engine="auto", images=1000)
    outcome.engine = choice.engine
    with open_capture(model, wanted, choice, batch_size=IMAGES) as capture:
        chosen = capture.run(images)
    whole, alone = _recorded(model, wanted, images)
    _compare(outcome, found, {choice.engine: chosen}, whole)
    is_right = outcome.result
    _compare(outcome, found, {"alone": alone}, whole)
    _compare_own(outcome, found, _own_means(model, images), whole)
    if is_right == "right" and outcome.result == "wrong":
        # Means that cancel to nearly 0, and networks that amplify, differ by rounding alone.
        exact = Outcome(outcome.name)
        model, images = model.double(), images.double()
        whole, alone = _recorded(model, wanted, images)
        _compare(exact, found, {"alone": alone}, whole)
        _compare_own(exact, found, _own_means(model, images), whole)
        if exact.result == "right" and exact.worst <= EXACT:
            outcome.result, outcome.reason = "right", f"in float64; {outcome.reason} in float32"


def _recorded(
    model: nn.Module, wanted: Wanted, images: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what hooks record of all images together, and of each alone."""
    with HookCapture(model, wanted) as hooks:
        whole = hooks.run(images)
    with HookCapture(model, wanted) as hooks:
        return whole, torch.cat([hooks.run(image[None]) for image in images])


def find_usual(found: ModelLayers, model: nn.Module) -> list[str]:
    """Return the layers of usual kinds that are left out, by their modules."""
    modules = dict(model.named_modules())
    usual = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)
    return [
        name for name in found.left_out if isinstance(modules.get(name.partition(":")[0]), usual)
    ]


def _images(size: int) -> torch.Tensor:
    """Return smooth distinct images, normalised as most weights expect."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(IMAGES, 3, 7, 7, generator=generator)
    smooth = nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    images = smooth + 0.3 * torch.randn(IMAGES, 3, size, size, generator=generator)
    return images.contiguous(memory_format=torch.channels_last)


def _own_means(model: nn.Module, images: torch.Tensor) -> dict[str, tuple[torch.Tensor, float]]:
    """Return channel means (image, channel) of modules whose channels torch's documentation settles.

    Beside each the largest mean size of a channel's values: what the rounding of its mean is a share
    of. Means over what was normalised along the same axis cancel to nearly nothing.

    Each image runs alone, so that whose rows are whose is no question.
    """
    means: dict[str, list[torch.Tensor]] = {}
    sizes: Counter[str] = Counter()
    calls: Counter[str] = Counter()

    def watch(name: str, axis: int) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            del module, inputs
            calls[name] += 1
            call = name if calls[name] == 1 else f"{name}:{calls[name]}"
            if isinstance(output, torch.Tensor) and output.dim() > 1:
                rows = output.detach().double().movedim(axis, -1).flatten(0, -2)
                means.setdefault(call, []).append(rows.mean(0))
                sizes[call] = max(sizes[call], float(rows.abs().mean(0).max()))

        return hook

    handles = []
    for name, module in model.named_modules():
        if type(module) is nn.Linear:
            handles.append(module.register_forward_hook(watch(name, -1)))
        elif type(module) in CHANNELS_FIRST:
            handles.append(module.register_forward_hook(watch(name, 1)))
    with torch.no_grad():
        for image in images:
            calls.clear()
            model(image[None])
    for handle in handles:
        handle.remove()
    return {
        name: (torch.stack(rows), sizes[name])
        for name, rows in means.items()
        if len(rows) == IMAGES
    }


def _compare(
    outcome: Outcome,
    found: ModelLayers,
    others: Mapping[str, torch.Tensor],
    whole: torch.Tensor,
) -> None:
    for layer, start in zip(found.layers, found.offsets(), strict=True):
        columns = slice(start, start + layer.units)
        for kind, values in others.items():
            _note(outcome, layer.name, kind, values[:, columns], whole[:, columns])


def _compare_own(
    outcome: Outcome,
    found: ModelLayers,
    own: Mapping[str, tuple[torch.Tensor, float]],
    whole: torch.Tensor,
) -> None:
    for layer, start in zip(found.layers, found.offsets(), strict=True):
        if layer.name not in own:
            continue
        expected, size = own[layer.name]
        outcome.checked += 1
        if expected.shape[1] != layer.units:
            outcome.result = "wrong"
            outcome.reason = f"{layer.name}: {layer.units} units, {expected.shape[1]} channels"
            return
        recorded = whole[:, start : start + layer.units]
        _note(outcome, layer.name, "own hooks", recorded, expected, size=size)


def _note(  # noqa: PLR0913 - two sets of values and what they are
    outcome: Outcome,
    layer: str,
    kind: str,
    values: torch.Tensor,
    expected: torch.Tensor,
    *,
    size: float = 0.0,
) -> None:
    scale = max(float(expected.abs().max()), size) or 1.0
    worst = float((values.double() - expected.double()).abs().max()) / scale
    outcome.worst = max(outcome.worst, worst)
    if not worst <= TOLERANCE.get(kind, CLOSE) and outcome.result == "right":
        outcome.result, outcome.reason = "wrong", f"{layer}: {kind} differs by {worst:.1e}"


if __name__ == "__main__":
    main()
