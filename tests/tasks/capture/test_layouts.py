"""Layers whose images or channels do not lie where they usually do, against values worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from activarium.schemas.layers import KINDS
from activarium.tasks.capture.capture import HookCapture, Wanted
from activarium.tasks.capture.layers import find_layers
from activarium.tasks.capture.traced_capture import TracedCapture

CHANNELS = 16
SIDE = 4
"""As many positions as channels: no size tells which is which."""

ENGINES = {
    "hooks": HookCapture,
    "traced": lambda model, wanted: TracedCapture(model, wanted, unfolded=None),
}


class Subject(nn.Module):
    """Keeps the tensors that a test wants to know the means of, by layer name."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, CHANNELS, 1)
        self.lin = nn.Linear(CHANNELS, CHANNELS)
        self.act = nn.GELU()
        self.fc = nn.Linear(CHANNELS, 3)


def captured(model, images, engine):
    """Return the channel means of each layer (image, channel), and the units' maps."""
    found = find_layers(model, images[:1], patterns=["*"], kinds=KINDS)
    wanted = Wanted(found, ("mean",), ())
    with ENGINES[engine](model, wanted) as capture:
        values = capture.run(images)
    means = {}
    for layer, start in zip(found.layers, found.offsets(), strict=True):
        means[layer.name] = values[:, start : start + layer.units]
    return means, found, values[:, wanted.columns()["logits"]]


# --- whose rows -------------------------------------------------------------------------------


class Stacked(Subject):
    """Several views of each image, one after the other along the first axis, or view by view."""

    def __init__(self, order: str, views: int = 3) -> None:
        super().__init__()
        self.order, self.views = order, views

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        count = images.shape[0]
        views = [images * (1 + view) for view in range(self.views)]
        axis = 0 if self.order == "views first" else 1
        rows = torch.stack(views, axis).flatten(0, 1)
        rows = self.lin(self.conv(rows).mean((2, 3)))
        shape = (self.views, count) if axis == 0 else (count, self.views)
        return self.fc(rows.unflatten(0, shape).mean(axis))

    def expected(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means of each image's own views."""
        each = [self.conv(images * (1 + view)).mean((2, 3)) for view in range(self.views)]
        return {
            "conv": torch.stack(each).mean(0),
            "lin": torch.stack([self.lin(rows) for rows in each]).mean(0),
        }


class Tokens(Subject):
    """Tokens as rows of a linear layer: token by token, or (token, image, channel)."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order = order

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.conv(images).flatten(2).permute(2, 0, 1)  # (token, image, channel)
        if self.order == "flat":
            length, count, channels = tokens.shape
            tokens = self.lin(tokens.reshape(length * count, channels)).view(
                length, count, channels
            )
        else:
            tokens = self.lin(tokens)
        return self.fc(self.act(tokens).mean(0))

    def expected(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means over each image's own tokens."""
        rows = self.lin(self.conv(images).flatten(2).mT)
        return {"lin": rows.mean(1), "act": self.act(rows).mean(1)}


class Windows(Subject):
    """Rows of (view, image, window), as augmented windows of attention are."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        both = torch.cat([images, images.flip(-1) * 0.5])
        maps = self.conv(both)  # (view x image, channel, row, column)
        windows = maps.unflatten(3, (2, SIDE // 2)).permute(0, 3, 2, 4, 1).flatten(0, 1)
        rows = self.lin(windows)  # (view x image x window, row, column, channel)
        count = images.shape[0]
        return self.fc(rows.reshape(2, count, -1, CHANNELS).mean((0, 2)))

    def expected(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means over both views."""
        maps = [self.conv(each).mean((2, 3)) for each in (images, images.flip(-1) * 0.5)]
        mean = torch.stack(maps).mean(0)
        return {"conv": mean, "lin": self.lin(mean)}


class Spiking(Subject):
    """Time comes first, and all steps of all images are one batch of the convolution."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        steps = images.unsqueeze(0) * torch.arange(1.0, 5.0).view(-1, 1, 1, 1, 1)
        current = self.act(self.conv(steps.flatten(0, 1))).unflatten(0, (4, -1))
        return self.fc(current.mean((0, 3, 4)))

    def expected(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means over time."""
        maps = [self.conv(images * step) for step in (1.0, 2.0, 3.0, 4.0)]
        return {
            "conv": torch.stack(maps).mean((0, 3, 4)),
            "act": torch.stack([self.act(each) for each in maps]).mean((0, 3, 4)),
        }


ROWS = {
    "views first": lambda: Stacked("views first"),
    "images first": lambda: Stacked("images first"),
    "two views": lambda: Stacked("views first", 2),
    "as many views as images": lambda: Stacked("views first", 5),
    "tokens as rows": lambda: Tokens("flat"),
    "tokens before images": lambda: Tokens("kept"),
    "windows of views": Windows,
    "time first": Spiking,
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("images", [1, 5])
def test_rows__each_image_gets_the_mean_of_its_own(name, engine, images):
    model, inputs = ROWS[name]().eval(), torch.randn(images, 3, SIDE, SIDE)
    means, _, logits = captured(model, inputs, engine)
    with torch.no_grad():
        torch.testing.assert_close(logits, model(inputs))
        for layer, expected in model.expected(inputs).items():
            torch.testing.assert_close(means[layer], expected, msg=layer)


class Shifted(Subject):
    """Gives each image the rows of the one before it."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.lin(self.conv(images).mean((2, 3)).roll(1, 0))
        return self.fc(rows.roll(-1, 0))


def test_rows__an_order_that_is_none_is_no_function_of_the_image():
    from activarium.schemas.errors import UserError

    with pytest.raises(UserError, match=r"no function of the image alone: .*'lin'"):
        find_layers(Shifted().eval(), torch.randn(1, 3, 4, 4), patterns=["*"], kinds=KINDS)


class Silent(Subject):
    """A branch whose scale begins at zero, so that it says nothing of whose rows are whose."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([images, images * 2])
        rows = self.lin(self.conv(rows).mean((2, 3)))
        return self.fc(rows.unflatten(0, (2, -1)).mean(0))


def test_rows__a_layer_that_is_zero_is_looked_at_with_other_weights():
    model = Silent().eval()
    nn.init.zeros_(model.lin.weight)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    found = find_layers(model, torch.randn(1, 3, 4, 4), patterns=["lin"], kinds=KINDS)
    assert [(tap.layout.outer, tap.layout.inner) for tap in found.taps] == [(2, 1)]
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


# --- which axis -------------------------------------------------------------------------------


def _einsum(tokens: torch.Tensor) -> torch.Tensor:
    return torch.einsum("nct->ntc", tokens)


TURNS = {
    "permute": lambda tokens: tokens.permute(0, 2, 1),
    "transpose": lambda tokens: tokens.transpose(1, 2),
    "swapaxes": lambda tokens: tokens.swapaxes(1, 2),
    "swapdims": lambda tokens: torch.swapdims(tokens, -1, -2),
    "movedim": lambda tokens: tokens.movedim(1, 2),
    "moveaxis": lambda tokens: torch.moveaxis(tokens, 1, -1),
    "mT": lambda tokens: tokens.mT,
    "einsum": _einsum,
    "stack of columns": lambda tokens: torch.stack(tokens.unbind(2), 1),
    "adjoint": lambda tokens: tokens.adjoint(),
}


class Turned(Subject):
    """Sequences with as many tokens as channels, turned by some function, and functions after it."""

    def __init__(self, turn: str) -> None:
        super().__init__()
        self.turn = turn
        self.weight = nn.Parameter(torch.rand(CHANNELS) + 0.5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = TURNS[self.turn](self.conv(images).flatten(2))  # (image, token, channel)
        tokens = functional.layer_norm(tokens + 0.25, (CHANNELS,), self.weight)
        tokens = functional.dropout(self.act(tokens), 0.5, self.training) * 2
        return self.fc(tokens.mean(1))

    def expected(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means over tokens."""
        tokens = self.conv(images).flatten(2).permute(0, 2, 1)
        normed = functional.layer_norm(tokens + 0.25, (CHANNELS,), self.weight)
        return {
            "add": (tokens + 0.25).mean(1),
            "layer_norm": normed.mean(1),
            "act": self.act(normed).mean(1),
            "mul": (2 * self.act(normed)).mean(1),
        }


class RowNorm(nn.LayerNorm):
    """A layer norm of maps, as several libraries have under several names."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(maps.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Attention(Subject):
    """Heads: norms of queries, attention as one function, the sum of both."""

    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = RowNorm(CHANNELS)
        self.qkv = nn.Linear(CHANNELS, 3 * CHANNELS)
        self.q_norm = nn.LayerNorm(CHANNELS // heads, elementwise_affine=False)

    def parts(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what the layers return, heads last but one."""
        maps = self.norm(self.conv(images))
        tokens = maps.flatten(2).mT
        heads = self.qkv(tokens).reshape(images.shape[0], -1, 3, self.heads, CHANNELS // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        query = self.q_norm(query)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return maps, query, mixed, tokens + mixed.transpose(1, 2).flatten(2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.parts(images)[-1].mean(1))

    def expected(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means over tokens; heads and their features are the channels."""
        maps, query, mixed, total = self.parts(images)
        return {
            "norm": maps.mean((2, 3)),
            "q_norm": query.mean(2).flatten(1),
            "scaled_dot_product_attention": mixed.mean(2).flatten(1),
            "add": total.mean(1),
        }


class ByHand(Attention):
    """The same attention as products of matrices."""

    def parts(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what the layers return."""
        maps = self.norm(self.conv(images))
        tokens = maps.flatten(2).mT
        count, length, _ = tokens.shape
        heads = self.qkv(tokens).reshape(count, length, 3, self.heads, CHANNELS // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        query = self.q_norm(query)
        weights = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1)
        mixed = self.act(weights @ value)
        return maps, query, mixed, tokens + mixed.transpose(1, 2).flatten(2)

    def expected(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means over tokens."""
        found = super().expected(images)
        found["act"] = found.pop("scaled_dot_product_attention")
        return found


class Gated(Subject):
    """Gates of channels and of positions, joined maps, a part that is written into a blank map."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.where = nn.Conv2d(CHANNELS, 1, 1)

    def parts(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what the layers return, channels last."""
        maps = self.conv(images)
        gated = maps * self.squeeze(maps.mean((2, 3), keepdim=True)).sigmoid()
        last = gated.permute(0, 2, 3, 1)
        placed = last * self.where(maps).sigmoid().permute(0, 2, 3, 1)
        joined = torch.cat([last, placed], -1)
        blank = torch.zeros_like(last)
        blank[..., : CHANNELS // 2] = last[..., CHANNELS // 2 :]
        blank[..., CHANNELS // 2 :] = placed[..., : CHANNELS // 2]
        return {"mul": gated.movedim(1, -1), "mul:2": placed, "cat": joined, "act": self.act(blank)}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        parts = self.parts(images)
        return self.fc((parts["act"] + parts["cat"][..., :CHANNELS]).mean((1, 2)))

    def expected(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means over positions."""
        return {name: maps.mean((1, 2)) for name, maps in self.parts(images).items()}


class Mixer(Subject):
    """A linear layer over tokens, whose features are units; after it the channels are the old ones."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(SIDE * SIDE, SIDE * SIDE)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.conv(images).flatten(2).mT
        return self.fc((tokens + self.act(self.mix(tokens.mT)).mT).mean(1))

    def expected(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return means over channels where tokens are features, then over tokens."""
        tokens = self.conv(images).flatten(2)
        mixed = self.mix(tokens)
        return {
            "mix": mixed.mean(1),
            "act": self.act(mixed).mean(1),
            "add": (tokens + self.act(mixed)).mean(2),
        }


class Folded(Subject):
    """Channels that a view takes apart into groups, and joins in another order."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        groups = self.conv(images).view(images.shape[0], 4, CHANNELS // 4, SIDE, SIDE)
        shuffled = self.act(groups.transpose(1, 2))
        return self.fc((shuffled.flatten(1, 2) + 1).mean((2, 3)))

    def expected(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means of the shuffled channels."""
        groups = (
            self.conv(images).view(images.shape[0], 4, CHANNELS // 4, SIDE, SIDE).transpose(1, 2)
        )
        return {
            "act": self.act(groups).mean((3, 4)).flatten(1),
            "add": (self.act(groups) + 1).mean((3, 4)).flatten(1),
        }


class Resized(Subject):
    """A matrix of weights that mixes tokens, before channels are mixed: channels stay what they are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", torch.rand(SIDE * SIDE, SIDE * SIDE))
        self.norm = nn.LayerNorm(CHANNELS)

    def parts(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the layers return, channels last."""
        tokens = self.norm(self.matrix @ self.conv(images).flatten(2).mT)
        return tokens, self.act(torch.einsum("kt,ntc->nkc", self.matrix[:3], tokens))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.parts(images)[1].mean(1))

    def expected(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means over tokens."""
        return dict(
            zip(("norm", "act"), (each.mean(1) for each in self.parts(images)), strict=True)
        )


class OwnMatrices(Subject):
    """Heads that have a matrix each, and heads of several tasks stacked."""

    def __init__(self) -> None:
        super().__init__()
        self.matrices = nn.Parameter(torch.randn(4, CHANNELS // 4, 3))
        self.tasks = nn.ModuleList(nn.Linear(CHANNELS, 2) for _ in range(3))

    def parts(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (image, token, head, feature) and (image, task, class)."""
        tokens = self.conv(images).flatten(2).mT
        heads = torch.einsum("nthd,hde->nthe", tokens.unflatten(2, (4, -1)), self.matrices)
        stacked = torch.stack([task(tokens.mean(1)) for task in self.tasks], 1)
        return self.act(heads), stacked + 1

    def expected(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means; heads and features, tasks and classes are channels together."""
        heads, stacked = self.parts(images)
        return {"act": heads.mean(1).flatten(1), "add": stacked.flatten(1)}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        heads, stacked = self.parts(images)
        return stacked.flatten(1) + heads.mean((1, 2, 3))[:, None]


class Shuffled(Subject):
    """Channels spread over positions, maps of one channel joined, patches put together."""

    def parts(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what the layers return."""
        maps = self.conv(images)
        large = self.act(functional.pixel_shuffle(maps, 2))
        joined = torch.cat([maps[:, :1] * 2, maps[:, 3:4] + 1, maps[:, :1]], 1)
        patches = functional.unfold(maps, 3, padding=1)
        folded = functional.fold(patches, (SIDE, SIDE), 3, padding=1) * 0.5
        return {"act": large, "cat": joined, "mul:2": folded}

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        parts = self.parts(images)
        return self.fc(parts["mul:2"].mean((2, 3)))

    def expected(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the means over positions."""
        return {name: maps.mean((2, 3)) for name, maps in self.parts(images).items()}


AXES = {
    "matrix on the left": Resized,
    "heads with matrices": OwnMatrices,
    "pixels shuffled": Shuffled,
    **{name: lambda name=name: Turned(name) for name in TURNS},
    "heads": Attention,
    "heads by hand": ByHand,
    "gates": Gated,
    "tokens mixed": Mixer,
    "groups": Folded,
}


@pytest.mark.parametrize(
    ("name", "engine"),
    # What is written into a part of a map cannot be traced.
    [
        (name, engine)
        for name in AXES
        for engine in ENGINES
        if (name, engine) != ("gates", "traced")
    ],
)
def test_axes__units_are_the_channels_wherever_they_lie(name, engine):
    model, inputs = AXES[name]().eval(), torch.randn(3, 3, SIDE, SIDE)
    means, _, _ = captured(model, inputs, engine)
    with torch.no_grad():
        for layer, expected in model.expected(inputs).items():
            torch.testing.assert_close(means[layer], expected, msg=layer)


class Gates(Subject):
    """Gates of each channel by a convolution over the channels, which has one channel itself."""

    def __init__(self) -> None:
        super().__init__()
        self.over = nn.Conv1d(1, 1, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images)
        gates = self.over(maps.mean((2, 3))[:, None])[:, 0, :, None, None]
        return self.fc((maps * self.act(gates)).mean((2, 3)))


class Grouped(Subject):
    """Channels that are folded into the batch."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images)
        parts = self.act(maps.reshape(-1, CHANNELS // 2, SIDE, SIDE))
        return self.fc(parts.view_as(maps).mean((2, 3)))


class Written(Subject):
    """A module whose output is written past torch's count of changes."""

    def __init__(self) -> None:
        super().__init__()
        self.act = Overwriting()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.act(self.conv(images)).mean((2, 3)))


class Overwriting(nn.Module):
    """Sets negative values to zero in memory."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        maps.data[maps.data < 0] = 0
        return maps


def test_axes__what_a_shape_alone_would_suggest_is_left_out():
    for model in (Gates(), Grouped()):
        found = find_layers(model.eval(), torch.randn(1, 3, 4, 4), patterns=["*"], kinds=KINDS)
        assert found.left_out == {"act": "the axis of its channels cannot be told"}
        names = {layer.name for layer in found.layers}
        assert {"conv", "mean", "fc"} <= names


def test_axes__memory_that_was_written_past_the_count_is_another_layer():
    found = find_layers(Written().eval(), torch.randn(1, 3, 4, 4), patterns=["*"], kinds=KINDS)
    assert {"conv", "act"} <= {layer.name for layer in found.layers}
    assert found.duplicates == {}


class Routed(Subject):
    """An expert for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(CHANNELS, 3) for _ in range(2))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.conv(images).mean((2, 3))
        output = rows.new_zeros(len(rows), 3)
        choice = (rows[:, 0] > rows[:, 1]).long()
        for place, expert in enumerate(self.experts):
            if (choice == place).any():
                output[choice == place] = expert(rows[choice == place])
        return output


def test_rows__parts_that_run_for_some_images_are_left_out_and_the_rest_is_recorded():
    model = Routed().eval()
    example = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    found = find_layers(model, example, patterns=["*"], kinds=KINDS)
    assert found.left_out
    assert set(found.left_out) <= {"experts.0", "experts.1"}
    assert set(found.left_out.values()) == {"it is not called alike for all images"}
    images = torch.randn(9, 3, 4, 4)
    wanted = Wanted(found, ("mean",), ())
    with HookCapture(model, wanted) as capture:
        values = capture.run(images)
        capture.run(images[:4])
    torch.testing.assert_close(values[:, wanted.columns()["logits"]], model(images).detach())


class Colours(Subject):
    """Looks up the brightness of each pixel, which has to be one of 256."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(256, CHANNELS)
        self.norm = nn.BatchNorm2d(CHANNELS, momentum=0.5).train()

    def train(self, mode=True) -> nn.Module:  # noqa: FBT002 - as torch has it
        """Leave the norm's statistics moving, without using them."""
        super().train(mode)
        self.norm.train()
        return self

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.norm(self.conv(images))
        return self.fc(self.table((images[:, 0] * 255).round().long()).mean((1, 2)))


def test_rows__the_trial_stays_within_the_images_range_and_leaves_buffers_as_they_were():
    model = Colours().eval()
    found = find_layers(model, torch.rand(1, 3, 4, 4), patterns=["table", "fc"], kinds=KINDS)
    assert [layer.units for layer in found.layers] == [CHANNELS, 3]
    assert int(model.norm.num_batches_tracked) == 0
    assert torch.equal(model.norm.running_mean, torch.zeros(CHANNELS))


class Many(Subject):
    """Calls its parts for each image by vmap, where a tensor stands for many."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images)
        return self.fc(torch.vmap(lambda one: self.act(one).mean((1, 2)))(maps))


def test_rows__what_vmap_calls_is_no_layer():
    found = find_layers(Many().eval(), torch.randn(1, 3, 4, 4), patterns=["*"], kinds=KINDS)
    assert {"conv", "fc"} <= {layer.name for layer in found.layers}
    assert "act" not in {layer.name for layer in found.layers}


class Unknown(Subject):
    """Sorts the values of each image, which leaves no channel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.conv(images)
        mixed = self.act(maps.flatten(1).sort(1).values.view_as(maps))
        return self.fc(mixed.mean((2, 3)))


def test_axes__a_layer_without_channels_is_left_out_and_named():
    found = find_layers(Unknown().eval(), torch.randn(1, 3, 4, 4), patterns=["*"], kinds=KINDS)
    assert found.left_out == {
        "act": "the axis of its channels cannot be told",
    }
    assert found.notes == ["1 layer (act) is left out: the axis of its channels cannot be told"]
