"""Which of the tensors that a model returns is taken, and what of its tokens."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from activarium.schemas.errors import UserError
from activarium.schemas.layers import KINDS
from activarium.tasks.capture.capture import HookCapture, Wanted
from activarium.tasks.capture.layers import Reading, find_layers
from activarium.tasks.capture.model_output import choose_output
from activarium.tasks.capture.traced_capture import TracedCapture

Pair = namedtuple("Pair", ["features", "logits"])  # noqa: PYI024 - users write them so


@dataclass
class Returned:
    """What a library's model returns."""

    hidden: torch.Tensor
    logits: torch.Tensor


class Net(nn.Module):
    """Returns its features and its logits in the way that a test wants."""

    def __init__(self, wrap) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc, self.wrap = nn.Conv2d(3, 6, 3), nn.Linear(6, 4), wrap

    def parts(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features (image, 6) and logits (image, 4)."""
        features = self.conv(images).mean((2, 3))
        return features, self.fc(features)

    def forward(self, images: torch.Tensor) -> object:
        return self.wrap(*self.parts(images))


WRAPS = {
    "features first": lambda features, logits: {"features": features, "logits": logits},
    "ordered": lambda features, logits: OrderedDict(a=features, out=logits),
    "named": Pair,
    "dataclass": Returned,
    "inside": lambda features, logits: {"aux": [features], "main": {"logits": logits}},
    "alone": lambda features, logits: logits,  # noqa: ARG005
}


def output_of(model, images, **reading):
    """Return the output as hooks record it, and the notes."""
    found = find_layers(model, images[:1], patterns=["*"], kinds=KINDS, reading=Reading(**reading))
    wanted = Wanted(found, ("mean",), ())
    with HookCapture(model, wanted) as capture:
        return capture.run(images)[:, wanted.columns()["logits"]], found.output.notes


@pytest.mark.parametrize("name", WRAPS)
def test_output__is_what_is_called_logits_or_out(name):
    model, images = Net(WRAPS[name]).eval(), torch.randn(5, 3, 7, 7)
    output, notes = output_of(model, images)
    torch.testing.assert_close(output, model.parts(images)[1].detach())
    assert len(notes) == (name != "alone")


def test_output__the_note_names_what_was_taken_and_what_else_there_was():
    returned = {"features": torch.zeros(2, 6), "logits": torch.zeros(2, 4), "count": 3}
    assert choose_output(returned) == (
        "logits",
        "the model returns 'features' (2, 6), 'logits' (2, 4): 'logits' is taken as its output; "
        "model.output chooses another",
    )
    assert choose_output((torch.zeros(2, 6), torch.zeros(2, 4)))[0] == "0"


@pytest.mark.parametrize(
    ("wrap", "key"),
    [("features first", "features"), ("named", "features"), ("inside", "aux.0")],
)
def test_output__a_key_chooses_another(wrap, key):
    model, images = Net(WRAPS[wrap]).eval(), torch.randn(5, 3, 7, 7)
    output, notes = output_of(model, images, output=key)
    torch.testing.assert_close(output, model.parts(images)[0].detach())
    assert notes == ()


def test_output__an_unknown_key_is_refused_with_those_that_there_are():
    model = Net(WRAPS["features first"]).eval()
    with pytest.raises(UserError, match=r"no 'head'; it returns 'features' .*'logits'"):
        output_of(model, torch.randn(1, 3, 7, 7), output="head")


def test_output__nothing_is_refused():
    model = Net(lambda features, logits: None).eval()  # noqa: ARG005
    with pytest.raises(UserError, match="got NoneType without any"):
        output_of(model, torch.randn(1, 3, 7, 7))


def test_output__traced_and_hooked_are_one():
    model, images = Net(WRAPS["features first"]).eval(), torch.randn(5, 3, 7, 7)
    found = find_layers(model, images[:1], patterns=["*"], kinds=KINDS)
    wanted = Wanted(found, ("mean",), ())
    values = TracedCapture(model, wanted, unfolded=None).run(images)
    torch.testing.assert_close(
        values[:, wanted.columns()["logits"]], model.parts(images)[1].detach()
    )


class One(Net):
    """Returns one number for each image, without an axis for it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.parts(images)[1][:, 0]


def test_output__a_vector_is_one_output():
    model, images = One(None).eval(), torch.randn(5, 3, 7, 7)
    output, _ = output_of(model, images)
    torch.testing.assert_close(output, model(images).detach()[:, None])


class Maps(Net):
    """Returns maps with channels last."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(images).permute(0, 2, 3, 1))


def test_output__maps_are_averaged_over_their_positions_wherever_the_channels_are():
    model, images = Maps(None).eval(), torch.randn(5, 3, 6, 6)
    output, _ = output_of(model, images)
    torch.testing.assert_close(output, model(images).detach().mean((1, 2)))


class Sorted(Net):
    """Returns maps whose channels no operation tells."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images)
        return maps.flatten(1).sort(1).values.view_as(maps)


def test_output__an_axis_that_cannot_be_told_is_taken_and_said():
    model, images = Sorted(None).eval(), torch.randn(5, 3, 6, 6)
    output, notes = output_of(model, images)
    torch.testing.assert_close(output, model(images).detach().mean((2, 3)))
    assert notes == (
        "the axis of the outputs cannot be told in (6, 4, 4) for each image: axis 1 is taken, and all "
        "others are averaged",
    )


class Transformer(nn.Module):
    """Patches, a class token and a register before them, one block, and no head."""

    def __init__(self, prefix: int = 2) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.first = nn.Parameter(torch.randn(1, prefix, 8)) if prefix else None
        self.mlp = nn.Linear(8, 8)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(images).flatten(2).mT
        if self.first is not None:
            tokens = torch.cat([self.first.expand(len(images), -1, -1), tokens], 1)
        return tokens + self.mlp(tokens) + tokens.mean(1, keepdim=True)


CHOICES = {
    "mean": lambda tokens: tokens.mean(1),
    "class": lambda tokens: tokens[:, 0],
    "patches": lambda tokens: tokens[:, 2:].mean(1),
}


@pytest.mark.parametrize("tokens", CHOICES)
def test_tokens__layers_and_output_are_of_the_chosen_ones(tokens):
    model, images = Transformer().eval(), torch.randn(5, 3, 12, 12)
    reading = Reading(tokens=tokens)
    found = find_layers(model, images[:1], patterns=["mlp"], kinds=KINDS, reading=reading)
    wanted = Wanted(found, ("mean",), ())
    with HookCapture(model, wanted) as capture:
        values = capture.run(images)
    kept = {}
    handle = model.mlp.register_forward_hook(lambda *call: kept.update(mlp=call[-1]))
    output = model(images).detach()
    handle.remove()
    choose = CHOICES[tokens]
    torch.testing.assert_close(values[:, :8], choose(kept["mlp"].detach()))
    torch.testing.assert_close(values[:, 8:], choose(output))
    assert found.layers[0].height == {"mean": 11, "class": 1, "patches": 9}[tokens]


class ClassLast(Transformer):
    """Its class token comes after the patches."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(images).flatten(2).mT
        tokens = torch.cat([tokens, self.first.expand(len(images), -1, -1)], 1)
        return tokens + self.mlp(tokens) + tokens.mean(1, keepdim=True)


class Decoder(Transformer):
    """Queries that are as many as patches and a few, which look at the patches."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(images).flatten(2).mT
        queries = self.first.expand(len(images), -1, -1)
        return self.mlp(queries + (queries @ tokens.mT).softmax(-1) @ tokens)


@pytest.mark.parametrize("model", [ClassLast(2), Decoder(12)])
def test_tokens__a_sequence_that_does_not_begin_with_a_class_token_has_none(model):
    reading = Reading(tokens="class")
    with pytest.raises(UserError, match="expected a layer with a class token"):
        find_layers(
            model.eval(), torch.randn(1, 3, 12, 12), patterns=["*"], kinds=KINDS, reading=reading
        )


def test_tokens__without_a_class_token_there_is_no_choice():
    with pytest.raises(UserError, match=r"model.tokens: expected a layer with a class token"):
        find_layers(
            Transformer(0).eval(),
            torch.randn(1, 3, 12, 12),
            patterns=["*"],
            kinds=KINDS,
            reading=Reading(tokens="class"),
        )
