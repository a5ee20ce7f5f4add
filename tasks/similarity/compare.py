"""Compare: how alike the layers of recordings of the same images are, pair by pair."""

from __future__ import annotations

import glob
import shutil
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from activarium.schemas.columns import FORMAT_VERSION
from activarium.schemas.receipts import TablesReceipt
from activarium.schemas.tables import SIMILARITIES, UNIT_MATCHES
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.progress import silent, tell
from activarium.tasks.scheduling import run_pieces
from activarium.tasks.similarity.compared_images import check_same_images, common_rows
from activarium.tasks.similarity.compared_pairs import choose_layers, choose_pairs
from activarium.tasks.similarity.cross_products import divide
from activarium.tasks.similarity.layer_products import match_layer, multiply_panels
from activarium.tasks.similarity.layer_profile import (
    LABELS,
    PRODUCTS,
    ROWS,
    Subject,
    is_profiled,
    profile_bytes,
    profile_layer,
    save,
)
from activarium.tasks.similarity.similarity_columns import (
    FEWEST_IMAGES,
    Compared,
    match_columns,
    similarity_columns,
)
from activarium.tasks.statistics.comparable_classes import has_lone_classes
from activarium.tasks.stores.atlas_check import check_atlas
from activarium.tasks.stores.files import sweep_partial_files
from activarium.tasks.stores.locking import only_process
from activarium.tasks.stores.parquet_files import is_current
from activarium.tasks.stores.table_writing import write_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.columns import Table
    from activarium.schemas.compare_config import CompareConfig
    from activarium.schemas.layers import Layer
    from activarium.tasks.progress import Progress
    from activarium.tasks.stores.recording import Recording

SIMILARITY_VERSION = 1
"""Raised when a measure changes, so that tables made before are made again."""


MUCH_BYTES = 1e9
"""Room for what is half done from which on it is told."""


@dataclass(frozen=True)
class Pair:
    """Two recordings to compare, or one with itself."""

    first: Recording
    second: Recording
    inputs: str
    """Fingerprint of everything that its tables depend on."""
    files: dict[str, Path]
    """File of each table."""

    @property
    def is_same(self) -> bool:
        """Whether a recording is compared with itself."""
        return self.first.name == self.second.name

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The recordings, each once."""
        return (self.first,) if self.is_same else (self.first, self.second)

    @property
    def name(self) -> str:
        """The pair in words."""
        return " with ".join(each.name for each in self.recordings)


def compare(
    atlas: Atlas,
    recordings: Sequence[Recording],
    *,
    config: CompareConfig,
    progress: Progress = silent,
) -> TablesReceipt:
    """Compare the layers of recordings of the same images, unless their tables are current.

    Parameters
    ----------
    atlas
        Where the tables go.
    recordings
        One, whose layers are compared with each other; or several, whose layers are compared
        between recordings: up to four each with each, more each with the last, or with
        `config.against`, which is then among them.
    config
        Layers, measures, the sample of RSA, and where the tasks run.
    progress
        Shows how far it is.

    Returns
    -------
    The files; `made` is false where all were there already.

    Raises
    ------
    UserError
        If the recordings are of different images, a pattern matches no layer, no image is valid
        in both, a recording is damaged, the scheduler cannot be reached, or the disk is full.
    """
    began = time.perf_counter()
    named = {each.name: each for each in recordings}
    pairs = choose_pairs([each.name for each in recordings], config.against)
    for first, second in pairs:
        check_same_images(named[first], named[second])
    layers = choose_layers(recordings, config.layers, config.features)
    whole = [_pair(atlas, named[one], named[two], layers, config) for one, two in pairs]
    pending = [each for each in whole if not _is_current(each)]
    if pending:
        with ExitStack() as locks:
            for name in sorted({each.name for pair in pending for each in pair.recordings}):
                lock = atlas.lock(f"{name}.similarity")
                locks.enter_context(only_process(lock, f"comparing {name}"))
            _Comparison(atlas, layers, config, progress).make(pending)
    return TablesReceipt(
        recording=", ".join(named),
        files=tuple(file for pair in whole for file in pair.files.values()),
        made=bool(pending),
        seconds=time.perf_counter() - began,
        notices=tuple(notice for pair in whole for notice in _notices(pair)),
    )


def _is_current(pair: Pair) -> bool:
    return all(is_current(file, pair.inputs) for file in pair.files.values())


def _notices(pair: Pair) -> Iterator[str]:
    both = pair.first.valid & pair.second.valid
    left_out, images = _invalid(pair), int(both.sum())
    taken = [int(each.taken.sum()) for each in (pair.first, pair.second)]
    if (pair.first.taken != pair.second.taken).any():
        yield (
            f"{pair.name}: compared over the {images:,} images that both take ({taken[0]:,} and "
            f"{taken[1]:,})"
        )
    if left_out:
        one = "1 image that could not be decoded is left out"
        many = f"{left_out} images that could not be decoded are left out"
        yield f"{pair.name}: {one if left_out == 1 else many}"
    if images < FEWEST_IMAGES:
        have = "1 image" if images == 1 else f"{images} images"
        yield (
            f"{pair.name}: {have} in common, of which any two layers are alike: similarities are "
            f"left out (null), which need {FEWEST_IMAGES}"
        )


def _invalid(pair: Pair) -> int:
    """Return how many of the images that both take could not be decoded in one or both."""
    first, second = pair.first, pair.second
    return int((first.taken & second.taken & ~(first.valid & second.valid)).sum())


def _pair(
    atlas: Atlas,
    first: Recording,
    second: Recording,
    layers: dict[str, tuple[Layer, ...]],
    config: CompareConfig,
) -> Pair:
    inputs = fingerprint(
        {
            "recordings": [first.identity, second.identity],
            "layers": [_names(layers[first.name]), _names(layers[second.name])],
            "settings": _settings(config),
            "columns": FORMAT_VERSION,
            "similarity": SIMILARITY_VERSION,
            # What was made before of as little said what cannot be told; all else stays as it is.
            **({"few": True} if _is_little(first, second) else {}),
        }
    )
    by_means = config.features == "means"
    matched = by_means and "units" in config.measures and first.name != second.name
    tables = (SIMILARITIES, UNIT_MATCHES) if matched else (SIMILARITIES,)
    # No id holds a colon, so that both kinds of features have files of their own.
    part = second.name if by_means else f"{config.features}:{second.name}"
    files = {each.name: atlas.table_file(each, first.name, part) for each in tables}
    return Pair(first, second, inputs, files)


def _is_little(first: Recording, second: Recording) -> bool:
    """Return whether images or classes are too few to compare all that there is."""
    both = first.valid & second.valid
    return int(both.sum()) < FEWEST_IMAGES or has_lone_classes(first.labels[both])


def _names(layers: Sequence[Layer]) -> list[str]:
    return [layer.name for layer in layers]


def _settings(config: CompareConfig) -> dict[str, Any]:
    chosen = config.model_dump(mode="json", include={"features", "rsa_images", "seed"})
    return chosen | {"measures": sorted(config.measures)}


@dataclass(frozen=True)
class _Comparison:
    """Comparisons under way."""

    atlas: Atlas
    layers: dict[str, tuple[Layer, ...]]
    config: CompareConfig
    progress: Progress
    seen: set[str] = field(default_factory=set)
    """Recordings whose profiles this comparison has begun."""

    @property
    def work(self) -> Path:
        """Folder of what is half done."""
        return self.atlas.work.absolute() / "similarity"

    def make(self, pairs: Sequence[Pair]) -> None:
        """Write the tables of each pair; profiles are kept as long as a pair needs them."""
        for place, pair in enumerate(pairs):
            self._make_pair(pair)
            needed = {each.name for later in pairs[place + 1 :] for each in later.recordings}
            for recording in pair.recordings:
                if recording.name not in needed:
                    self._sweep(recording.name)
        with suppress(OSError):  # others still work in it
            self.work.rmdir()

    def _make_pair(self, pair: Pair) -> None:
        row = common_rows(pair.first, pair.second)
        subjects = [self._subject(each, row) for each in pair.recordings]
        needed = sum(profile_bytes(each, self.config) for each in subjects)
        check_atlas(self.atlas.root, needed=needed)
        if needed >= MUCH_BYTES:
            line = f"{pair.name}: up to {needed / 1e9:.1f} GB in {self.work} while it is compared"
            tell(self.progress, line)
        for recording, subject in zip(pair.recordings, subjects, strict=True):
            places = [each for each in range(len(subject.layers)) if not is_profiled(subject, each)]
            if not places:
                continue
            with self.progress(f"profiling {recording.name}", len(places)) as advance:
                self._run(profile_layer, [(subject, each, self.config) for each in places], advance)
        name = "~".join(each.name for each in pair.recordings)
        folder = self.work / f"{name}~-{pair.inputs[:12]}"
        self._sweep(f"{name}~", keep=folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._write(pair, Compared(subjects[0], subjects[-1], _invalid(pair)), folder)
        shutil.rmtree(folder, ignore_errors=True)

    def _subject(self, recording: Recording, row: NDArray[Any]) -> Subject:
        """Return a recording with the folder of its profiles, which says which images they are of."""
        key = fingerprint(
            {
                "recording": recording.identity,
                "layers": _names(self.layers[recording.name]),
                "rows": row.tolist(),
                "settings": _settings(self.config),
                "similarity": SIMILARITY_VERSION,
            }
        )
        folder = self.work / f"{recording.name}-{key[:12]}"
        if recording.name not in self.seen:
            self._sweep(recording.name, keep=folder)
            self.seen.add(recording.name)
        folder.mkdir(parents=True, exist_ok=True)
        save(folder / ROWS, row)
        save(folder / LABELS, recording.labels[row])
        layers, classes = self.layers[recording.name], recording.class_names
        place, features = recording.place.absolute(), self.config.features
        return Subject(place, layers, folder, recording.name, classes, features)

    def _sweep(self, name: str, keep: Path | None = None) -> None:
        """Delete the folders of that name but one: what is done, or a killed comparison left."""
        for folder in self.work.glob(f"{glob.escape(name)}-*"):
            # Not that of a recording whose id goes on with a dash.
            if folder != keep and folder.name.rpartition("-")[0] == name:
                shutil.rmtree(folder, ignore_errors=True)

    def _run(
        self,
        task: Callable[..., None],
        pieces: Sequence[tuple[Any, ...]],
        advance: Callable[[int], None],
    ) -> None:
        run_pieces(task, pieces, scheduler=self.config.scheduler, advance=advance)

    def _write(self, pair: Pair, compared: Compared, folder: Path) -> None:
        """Multiply and match in pieces, and write the tables."""
        products = _product_pieces(compared, folder, self.config)
        shared = _shared_layers(compared) if UNIT_MATCHES.name in pair.files else {}
        matches = [
            (compared.first, compared.second, places, folder / f"matches-{places[0]:05d}.npz")
            for places in shared.values()
        ]
        with self.progress(f"comparing {pair.name}", len(products) + len(matches)) as advance:
            rotate = "procrustes" in self.config.measures
            self._run(partial(multiply_panels, rotate=rotate), products, advance)
            self._run(match_layer, matches, advance)
        files = [piece[-1] for piece in products]
        columns = similarity_columns(compared, files, self.config)
        _write_table(pair, SIMILARITIES, columns)
        if UNIT_MATCHES.name in pair.files:
            columns = match_columns(compared, [*shared], [piece[-1] for piece in matches])
            _write_table(pair, UNIT_MATCHES, columns)


def _write_table(pair: Pair, table: Table, columns: dict[str, Any]) -> None:
    path = pair.files[table.name]
    sweep_partial_files(path.parent)
    write_columns(path, table, columns, inputs=pair.inputs)


def _product_pieces(
    pair: Compared, folder: Path, config: CompareConfig
) -> list[tuple[Subject, Subject, Any, Path]]:
    """Return the arguments of `multiply_panels` for all pairs of panels."""
    if not PRODUCTS & {*config.measures}:
        return []
    panels, others = divide(pair.first.columns()), divide(pair.second.columns())
    return [
        (pair.first, pair.second, (panel, other), folder / f"products-{row:05d}-{column:05d}.npy")
        for row, panel in enumerate(panels)
        for column, other in enumerate(others)
        if not pair.is_same or row <= column
    ]


def _shared_layers(pair: Compared) -> dict[str, tuple[int, int]]:
    """Return the places, in both recordings, of the layers that both have."""
    places = {layer.name: place for place, layer in enumerate(pair.second.layers)}
    return {
        layer.name: (place, places[layer.name])
        for place, layer in enumerate(pair.first.layers)
        if layer.name in places
    }
