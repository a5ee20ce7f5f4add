"""Recording all layers on the CPU against the same model's bare forward pass and against peers.

    python benchmarks/recording.py [--quick] [--repeats N] [--threads N]

All times are of the same batches in one process, taken in turns. Peers are measured where they are
installed (`make benchmark-peers`).
"""

from __future__ import annotations

import argparse
import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from peers import PEERS, AbsentPeerError
from subjects import GOOGLENET, RESNET18, Architecture, Subject, place, random_batches
from timings import Times, circumstances, table, take_turns

from activarium.tasks.capture.capture import Wanted
from activarium.tasks.capture.engines import choose_engine, open_capture
from activarium.tasks.recording.cores import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from activarium.schemas.config import Engine
    from activarium.schemas.layout import Reduction
    from activarium.tasks.capture.capture import Capture

RECORDED_IMAGES = 10_000
"""Images of the recording for which `auto` chooses."""

MEANS: tuple[Reduction, ...] = ("mean",)
DEFAULT: tuple[Reduction, ...] = ("mean", "active")
ALL: tuple[Reduction, ...] = ("mean", "max", "sd", "active")

EAGER, COMPILED = "bare eager forward", "bare compiled forward"


@dataclass(frozen=True)
class Run:
    """How much is run and how often."""

    images: int
    batch_size: int
    repeats: int


@dataclass(frozen=True)
class Work:
    """One row of the table."""

    units: str
    run: Callable[[], object]


def recorded(capture: Capture, batches: Sequence[torch.Tensor]) -> Callable[[], None]:
    """Return the recording of batches into one array of rows."""
    images = sum(len(batch) for batch in batches)
    width = max(columns.stop for columns in capture.columns.values())
    rows = torch.empty(images, width)

    def run() -> None:
        first = 0
        with capture:
            for batch in batches:
                rows[first : first + len(batch)].copy_(capture.run(batch))
                first += len(batch)

    return run


def each_batch(
    extract: Callable[[torch.Tensor], object], batches: Sequence[torch.Tensor]
) -> Callable[[], None]:
    """Return a run over batches."""

    def run() -> None:
        for batch in batches:
            extract(batch)

    return run


def bare(model: Callable[[torch.Tensor], object]) -> Callable[[torch.Tensor], object]:
    """Return the forward pass alone."""

    def extract(batch: torch.Tensor) -> object:
        with torch.inference_mode():
            return model(batch)

    return extract


def own_works(subject: Subject, batches: Sequence[torch.Tensor]) -> dict[str, Work]:
    """Return every way in which this project records.

    Each has a model of its own: hooks that come and go would have compiled graphs compiled anew.
    """
    asked: dict[tuple[str, Engine], tuple[Reduction, ...]] = {
        ("means", "auto"): MEANS,
        ("means", "hooks"): MEANS,
        ("means", "compiled"): MEANS,
        ("means, active fractions (the default)", "auto"): DEFAULT,
        ("means, active fractions (the default)", "hooks"): DEFAULT,
        ("all four reductions", "auto"): ALL,
        ("all four reductions", "hooks"): ALL,
    }
    works = {}
    for (what, engine), reductions in asked.items():
        wanted = Wanted(subject.layers, reductions, ())
        model = copy.deepcopy(subject.model)
        choice = choose_engine(
            model, wanted, batches[0][:16], engine=engine, images=RECORDED_IMAGES
        )
        print(f"- {what}, {engine}: {choice.reason}")
        capture = open_capture(model, wanted, choice, batch_size=len(batches[0]))
        name = f"{what}: {engine}" + (f" ({choice.engine})" if choice.engine != engine else "")
        works[name] = Work(f"{subject.layers.units:,}", recorded(capture, batches))
    return works


def peer_works(
    subject: Subject, batches: Sequence[torch.Tensor], names: Sequence[str]
) -> tuple[dict[str, Work], dict[str, str]]:
    """Return the peers' ways to the means, and why others are absent."""
    works, absent = {}, {}
    for name in names:
        own = replace(subject, model=copy.deepcopy(subject.model))
        try:
            extract, units = PEERS[name](own)
            extract(batches[0][:2])
        except AbsentPeerError as error:
            absent[f"means: {name}"] = str(error)
        else:
            works[f"means: {name}"] = Work(f"{units:,}", each_batch(extract, batches))
    return works, absent


def measure(architecture: Architecture, run: Run) -> list[list[str]]:
    """Return the rows of one model."""
    subject = place(architecture, torch.device("cpu"))
    batches = random_batches(subject.size, images=run.images, batch_size=run.batch_size)
    others, absent = peer_works(subject, batches, ("torchvision", "thingsvision"))
    compiled = torch.compile(copy.deepcopy(subject.model), dynamic=False)
    works = {
        EAGER: Work("", each_batch(bare(subject.model), batches)),
        COMPILED: Work("", each_batch(bare(compiled), batches)),
        **own_works(subject, batches),
        **others,
    }
    times = _times(works, run)
    # torchlens replaces torch's functions for the rest of the process, so it comes after all.
    last, more_absent = peer_works(subject, batches, ("torchlens",))
    if last:
        times |= _times(last, run)
    rows = [
        [name, work.units, *_figures(times[name], times[EAGER], times[COMPILED])]
        for name, work in (works | last).items()
    ]
    reasons = (absent | more_absent).items()
    return rows + [[name, "", reason, "", "", "", ""] for name, reason in reasons]


def _times(works: Mapping[str, Work], run: Run) -> dict[str, Times]:
    return take_turns({name: work.run for name, work in works.items()}, repeats=run.repeats)


def _figures(own: Times, eager: Times, compiled: Times) -> list[str]:
    ratios = (
        own.ratio(eager),
        own.least_ratio(eager),
        own.ratio(compiled),
        own.least_ratio(compiled),
    )
    return [f"{own.median:.3f} s", *(f"{ratio:.3f}" for ratio in ratios)]


HEADINGS = (
    "work",
    "units",
    "time, median",
    "to bare eager, median",
    "min",
    "to bare compiled, median",
    "min",
)


def main() -> None:
    """Print one table per model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9, help="measured rounds")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="few images, to try it")
    parser.add_argument("--only", choices=("resnet18", "googlenet"), help="one model alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    print(circumstances("torch", "torchvision", "thingsvision", "torchlens", "numba"))
    print(
        "Ratios are the median of the rounds' ratios, then the ratio of the shortest rounds. All "
        "in one process, which keeps freed memory; float32, channels_last, inference mode.\n"
    )
    runs = {
        "resnet18": (RESNET18, Run(256, 128, arguments.repeats)),
        "googlenet": (GOOGLENET, Run(64, 32, arguments.repeats)),
    }
    for name, (architecture, run) in runs.items():
        if arguments.only not in (None, name):
            continue
        if arguments.quick:
            run = Run(16, 8, arguments.repeats)  # noqa: PLW2901 - a smaller one
        images = max(1, run.images // run.batch_size) * run.batch_size
        print(f"{architecture.name}, {images} images in batches of {run.batch_size}:\n")
        print(table(HEADINGS, measure(architecture, run)), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
