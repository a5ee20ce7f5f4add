"""Training of an autoencoder without hidden layers, whose error has one minimum: that of PCA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from numpy.typing import NDArray

    Floats = NDArray[np.floating]

# L-BFGS starts anew after so many steps, from a bottleneck turned and scaled again.
STEPS_PER_ROUND = 30
# Relative to the total variance. Tighter ones drown in rounding.
SMALLEST_GRADIENT = 1e-8
# Keeps decoders of collinear columns solvable.
RIDGE = 1e-14
SMALLEST_SPREAD = 1e-6


def train_linear(
    rows: Floats,
    width: int,
    *,
    seed: int,
    steps: int,
    callback: Callable[[int, float], None] | None,
) -> tuple[NDArray[np.float64], float, int]:
    """Train linear encoder and decoder to restore images at the least squared error.

    With decoder W and its best encoder (W'W)^-1 W', the share not restored is
    1 - tr((W'W)^-1 W'CW), C the covariance of unit trace: no pass over the images per step. Columns
    of W as long as the images spread along them make all directions of descent about as steep.

    Parameters
    ----------
    rows
        Images x features, shape (N, F), centred, of mean square 1.
    width
        Width of the bottleneck D, at most min(N, F).
    seed
        Seed of the decoder at the start.
    steps
        Most evaluations of the error, but for those that complete the last step.
    callback
        Called now and then with the number of steps done and the share not restored.

    Returns
    -------
    Weights of the encoder, orthonormal, shape (D, F), the share of the variance that is not
    restored, and the steps taken.
    """
    import torch

    # Nothing lies outside the span of the images: with fewer images than features, train in it.
    basis, narrow = np.linalg.qr(rows.T) if rows.shape[0] < rows.shape[1] else (None, rows.T)
    covariance = torch.from_numpy(narrow @ narrow.T / rows.size)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(len(narrow), width, generator=generator, dtype=torch.float64)
    # Random mixtures of images.
    decoder, steepest, done = covariance @ start, np.inf, 0
    while done < steps and steepest > SMALLEST_GRADIENT:
        axes, variance = _principal_axes(decoder, covariance)
        decoder = axes * variance.clamp_min(SMALLEST_SPREAD**2).sqrt()
        most = min(STEPS_PER_ROUND, steps - done)
        decoder, error, steepest, taken = _descend(decoder, covariance, most=most)
        done += taken
        if callback is not None:
            callback(done, error)
    axes, variance = _principal_axes(decoder, covariance)
    weight: NDArray[np.float64] = axes.numpy().T if basis is None else axes.numpy().T @ basis.T
    return weight, max(1.0 - float(variance.sum()), 0.0), done


def _descend(
    start: torch.Tensor, covariance: torch.Tensor, *, most: int
) -> tuple[torch.Tensor, float, float, int]:
    """Lower the error from a decoder; return it, the error, the steepest slope and the steps."""
    import torch

    decoder = start.clone().requires_grad_()
    identity = torch.eye(start.shape[1], dtype=start.dtype)
    optimiser = torch.optim.LBFGS(
        [decoder],
        max_iter=most,
        max_eval=most,
        tolerance_grad=SMALLEST_GRADIENT,
        tolerance_change=0.0,
        history_size=STEPS_PER_ROUND,
        line_search_fn="strong_wolfe",
    )
    errors: list[float] = []

    def error() -> torch.Tensor:
        optimiser.zero_grad()
        lengths = decoder.T @ decoder
        lengths = lengths + RIDGE * lengths.trace() * identity
        lost: torch.Tensor = (
            1.0 - torch.linalg.solve(lengths, decoder.T @ covariance @ decoder).trace()
        )
        lost.backward()  # type: ignore[no-untyped-call]
        errors.append(lost.item())
        return lost

    optimiser.step(error)  # type: ignore[no-untyped-call]
    error()
    steepest = 0.0 if decoder.grad is None else float(decoder.grad.abs().max())
    return decoder.detach(), errors[-1], steepest, len(errors)


def _principal_axes(
    decoder: torch.Tensor, covariance: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn a decoder's columns to where its bottleneck varies most; return axes and variances."""
    import torch

    basis = torch.linalg.qr(decoder).Q
    variance, turn = torch.linalg.eigh(basis.T @ covariance @ basis)
    return (basis @ turn).flip(1), variance.flip(0)
