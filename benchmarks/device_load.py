"""How busy a GPU is while something runs."""

from __future__ import annotations

import subprocess
import threading
from statistics import fmean
from typing import TYPE_CHECKING, Self

import torch

if TYPE_CHECKING:
    from types import TracebackType

INTERVAL_SECONDS = 0.1


def utilisation(device: torch.device) -> float | None:
    """Return the share of time, in percent, in which the GPU has just run any kernel."""
    try:
        return float(torch.cuda.utilization(device))
    except Exception:  # noqa: BLE001 - no binding of the driver's library; ask its program
        return _by_program(device.index or 0)


def _by_program(index: int) -> float | None:
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            [*command, f"--id={index}"], check=True, capture_output=True, text=True, timeout=10
        )
        return float(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


class Load:
    """Samples a GPU's utilisation in a thread while the context is open."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._samples: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()

    def _sample(self) -> None:
        while not self._end.wait(INTERVAL_SECONDS):
            sample = utilisation(self._device)
            if sample is not None:
                self._samples.append(sample)

    @property
    def mean(self) -> float | None:
        """Mean of the samples but the first, which tells of the time before; None without any."""
        return fmean(self._samples[1:]) if len(self._samples) > 1 else None
