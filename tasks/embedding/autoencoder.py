"""Maps of images by an autoencoder: a small network whose bottleneck is the map."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.embedding.linear_autoencoder import train_linear
from activarium.tasks.embedding.points import checked_points

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]
    Encoder = dict[str, NDArray[np.float64]]
    Report = Callable[[int, float], None]

FEWEST_IMAGES = 3
BLOCK = 4_096
STEPS = 4_000
BATCH = 256
LEARNING_RATE = 5e-3
# Steps after which the error is looked at: one pass over 10,000 images.
STEPS_PER_ROUND = 40
# A round that lowers the error by less than this share has not lowered it.
SMALLEST_GAIN = 2e-3
PATIENCE = 2
COOLING, COOLINGS = 0.3, 3


@dataclass(frozen=True)
class AutoencoderResult:
    """A map of N images by the bottleneck, and the encoder that placed them there."""

    coordinates: NDArray[np.float32]
    """Images x dimensions, shape (N, D): centred, on their principal axes, spread falling."""
    encoder: Encoder
    """`weight0` (width, F), `bias0` (width,), ...: the layers up to the bottleneck, for `encode`."""
    objective: float
    """Mean squared error per feature, in squared units of the features."""
    explained_variance: float
    """Share of the variance that the decoder restores, 0 (none) to 1."""
    parameters: dict[str, int | float | str]
    """Everything that the map depends on beside the points."""
    steps: int
    """Steps that the training took."""


def encode(encoder: Encoder, points: Floats) -> NDArray[np.float32]:
    """Place images in a map.

    Parameters
    ----------
    encoder
        As in `AutoencoderResult`.
    points
        Images x features, shape (M, F).

    Returns
    -------
    Coordinates, shape (M, D).

    Raises
    ------
    ValueError
        If the points are not a finite matrix, or have other features than the encoder.
    """
    rows = checked_points(points, fewest=0)
    width = encoder["weight0"].shape[1]
    if rows.shape[1] != width:
        raise ValueError(f"expected {width} features, got shape {rows.shape!r}")
    parts = [_forward(encoder, rows[at : at + BLOCK]) for at in range(0, max(len(rows), 1), BLOCK)]
    return np.concatenate(parts).astype(np.float32)


def autoencoder(  # noqa: PLR0913 - the method's own arguments
    points: Floats,
    *,
    dimensions: int = 2,
    hidden: Sequence[int] = (),
    seed: int,
    steps: int = STEPS,
    callback: Report | None = None,
) -> AutoencoderResult:
    """Map images by an autoencoder, trained from a random start to restore them.

    The features are centred and divided by one common scale (their root mean variance), so the
    error weighs them as they vary. Encoder and decoder mirror each other, with ReLU after every
    hidden layer; Adam lowers the mean squared error, slower at each plateau, and stops at the
    last.

    Without hidden layers both are linear, and the bottleneck spans the principal components
    (Baldi and Hornik 1989). The best encoder of a linear decoder is its pseudo-inverse, so only
    the decoder is trained (variable projection), by L-BFGS on the same error.

    A bottleneck may be turned without changing the error. It is always turned to the principal
    axes of the images in it, the largest loading of the encoder positive in each; the linear map
    then equals `pca`'s, with its signs, as far as its variances differ.

    Training runs on one thread (more wait for each other in layers of this size) and leaves
    torch's global random state alone. The same points and seed on the same machine give the same
    map, bit for bit, at the same number of BLAS threads.

    Parameters
    ----------
    points
        Images x features, shape (N, F), finite, at least 3 images, not all the same.
    dimensions
        Width of the bottleneck D, reduced to min(N, F) where that is less.
    hidden
        Widths of the encoder's layers before the bottleneck; the decoder has them in reverse.
    seed
        Seed of the weights at the start and of the order of the images.
    steps
        Most steps: minibatches of 256 images, or evaluations of the linear error over all (a few
        more may complete the last step of L-BFGS).
    callback
        Called now and then with the number of steps done and the share of the variance not
        restored (in the linear case all of it; else that of the latest minibatches).

    Returns
    -------
    The map, its encoder and its error.

    Raises
    ------
    ValueError
        If the points are not a finite matrix of at least 3 differing images, or an argument is
        out of range.

    References
    ----------
    Hinton, G. and Salakhutdinov, R. (2006). Reducing the dimensionality of data with neural
    networks. Science 313, 504-507. Baldi, P. and Hornik, K. (1989). Neural networks and principal
    component analysis: learning from examples without local minima. Neural Networks 2, 53-58.
    Golub, G. and Pereyra, V. (1973). The differentiation of pseudo-inverses and nonlinear least
    squares problems whose variables separate. SIAM J. Numer. Anal. 10, 413-432.
    """
    from activarium.tasks.recording.cores import torch_threads

    rows = checked_points(points, fewest=FEWEST_IMAGES)
    if (rows == rows[0]).all():
        raise ValueError(f"expected images that differ, got {len(rows)} times the same features")
    if min(dimensions, steps, *hidden) < 1:
        raise ValueError(
            "expected dimensions, widths and steps of at least 1, got "
            f"dimensions={dimensions!r}, hidden={tuple(hidden)!r}, steps={steps!r}"
        )
    mean = rows.mean(axis=0)
    centred = rows - mean
    scale = float(np.sqrt(np.mean(centred**2)))
    centred /= scale
    widths = [*hidden, min(dimensions, *rows.shape)]
    with torch_threads(1):
        if hidden:
            encoder, lost, done = _train(centred, widths, seed=seed, steps=steps, callback=callback)
        else:
            weight, lost, done = train_linear(
                centred, widths[0], seed=seed, steps=steps, callback=callback
            )
            encoder = {"weight0": weight, "bias0": np.zeros(len(weight))}
    encoder = _turned(encoder, centred)
    for name in (f"weight{len(hidden)}", f"bias{len(hidden)}"):
        encoder[name] = encoder[name] * scale
    encoder["weight0"] = encoder["weight0"] / scale
    encoder["bias0"] = encoder["bias0"] - encoder["weight0"] @ mean
    return AutoencoderResult(
        coordinates=encode(encoder, rows),
        encoder=encoder,
        objective=lost * scale**2,
        explained_variance=min(max(1.0 - lost, 0.0), 1.0),
        parameters=_parameters(hidden, seed=seed, steps=steps),
        steps=done,
    )


def _train(
    rows: Floats, widths: Sequence[int], *, seed: int, steps: int, callback: Report | None
) -> tuple[Encoder, float, int]:
    """Return the encoder, the share of the variance that is not restored, and the steps taken."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    network = _network([rows.shape[1], *widths], generator)
    images = torch.from_numpy(rows).to(torch.float32)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, fused=True)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=COOLING, patience=PATIENCE - 1, threshold=SMALLEST_GAIN
    )
    coldest = LEARNING_RATE * COOLING ** (COOLINGS - 0.5)
    order = torch.empty(0, dtype=torch.int64)
    done, losses = 0, []
    while done < steps and optimiser.param_groups[0]["lr"] > coldest:
        if len(order) < min(BATCH, len(images)):
            order = torch.randperm(len(images), generator=generator)
        batch, order = images[order[:BATCH]], order[BATCH:]
        optimiser.zero_grad()
        loss = torch.nn.functional.mse_loss(network(batch), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        done += 1
        losses.append(loss.item())
        if done % STEPS_PER_ROUND == 0:
            error = float(np.mean(losses[-STEPS_PER_ROUND:]))
            schedule.step(error)
            if callback is not None:
                callback(done, error)
    lost = 0.0
    with torch.no_grad():
        for block in torch.split(images, BLOCK):
            lost += float((network(block) - block).square().sum(dtype=torch.float64))
    layers = [layer for layer in network if isinstance(layer, torch.nn.Linear)][: len(widths)]
    encoder = {}
    for at, layer in enumerate(layers):
        encoder[f"weight{at}"] = layer.weight.detach().double().numpy()
        encoder[f"bias{at}"] = layer.bias.detach().double().numpy()
    return encoder, lost / images.numel(), done


def _network(widths: Sequence[int], generator: torch.Generator) -> torch.nn.Sequential:
    """Return encoder and decoder with random weights, ReLU between all but the bottleneck."""
    from torch import nn

    mirrored = [*widths, *reversed(widths[:-1])]
    layers: list[nn.Module] = []
    for at, (before, after) in enumerate(pairwise(mirrored), start=1):
        # Linear's own start would draw from torch's global random state.
        layer = nn.utils.skip_init(nn.Linear, before, after)  # type: ignore[no-untyped-call]
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        is_hidden = at not in {len(widths) - 1, len(mirrored) - 1}
        layers += [layer, nn.ReLU()] if is_hidden else [layer]
    return nn.Sequential(*layers)


def _turned(encoder: Encoder, rows: Floats) -> Encoder:
    """Centre the bottleneck and turn it to its principal axes; axes without variance are zero."""
    code = np.concatenate(
        [_forward(encoder, rows[at : at + BLOCK]) for at in range(0, len(rows), BLOCK)]
    )
    middle = code.mean(axis=0)
    code -= middle
    variance, turn = np.linalg.eigh(code.T @ code)
    varies = variance > max(rows.shape) * np.finfo(np.float64).eps * variance[-1]
    turn = (turn * varies)[:, ::-1].T
    last = len(encoder) // 2 - 1
    weight = turn @ encoder[f"weight{last}"]
    largest = np.take_along_axis(weight, np.abs(weight).argmax(axis=1)[:, None], axis=1)
    sign = np.where(largest < 0, -1.0, 1.0)
    bias = turn @ (encoder[f"bias{last}"] - middle)
    return encoder | {f"weight{last}": weight * sign, f"bias{last}": bias * sign[:, 0]}


def _forward(encoder: Encoder, rows: Floats) -> NDArray[np.float64]:
    """Apply layer after layer, with ReLU before all but the first."""
    value = rows @ encoder["weight0"].T + encoder["bias0"]
    for at in range(1, len(encoder) // 2):
        value = np.maximum(value, 0.0) @ encoder[f"weight{at}"].T + encoder[f"bias{at}"]
    return value


def _parameters(hidden: Sequence[int], *, seed: int, steps: int) -> dict[str, int | float | str]:
    parameters: dict[str, int | float | str] = {
        "hidden": " ".join(str(width) for width in hidden),
        "scaling": "centred, one scale",
        "optimiser": "adam" if hidden else "l-bfgs",
        "most_steps": steps,
        "seed": seed,
        "threads": 1,
    }
    if hidden:
        parameters |= {"activation": "relu", "batch": BATCH, "learning_rate": LEARNING_RATE}
    return parameters
