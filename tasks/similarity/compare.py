"""Compare: how alike the layers of recordings of the same images are, pair by pair."""

from __future__ import annotations

import glob
import shutil
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from activarium.schemas.errors import UserError
from activarium.schemas.receipts import TablesReceipt
from activarium.schemas.tables import SIMILARITIES, UNIT_MATCHES
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.progress import begin_work, silent, tell
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
from activarium.tasks.similarity.pair_tables import (
    SIMILARITY_VERSION,
    Pair,
    layer_names,
    pair_of,
    settings_of,
    write_tables,
)
from activarium.tasks.similarity.similarity_columns import (
    FEWEST_IMAGES,
    Compared,
    match_columns,
    similarity_columns,
)
from activarium.tasks.stores.atlas_check import check_atlas
from activarium.tasks.stores.locking import only_process
from activarium.tasks.stores.set_replacing import settle_tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.compare_config import CompareConfig
    from activarium.schemas.layers import Layer
    from activarium.tasks.progress import Progress
    from activarium.tasks.stores.recording import Recording

MUCH_BYTES = 1e9
"""Room for what is half done from which on it is told."""


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
    settle_tables(atlas)
    named = {each.name: each for each in recordings}
    pairs = choose_pairs([each.name for each in recordings], config.against)
    for first, second in pairs:
        check_same_images(named[first], named[second])
    layers = choose_layers(recordings, config.layers, config.features)
    whole = [pair_of(atlas, named[one], named[two], layers, config) for one, two in pairs]
    pending = [each for each in whole if not each.is_current()]
    comparison = _Comparison(atlas, layers, config, progress)
    if pending:
        begin_work(progress)
        with _only_comparison(atlas, pending):
            comparison.make(pending)
    elif comparison.work.exists():
        # Others may be comparing them; else it was left by one that was killed at the end.
        with suppress(UserError), _only_comparison(atlas, whole):
            comparison.sweep(whole)
    return TablesReceipt(
        recording=", ".join(named),
        files=tuple(file for pair in whole for file in pair.files.values()),
        made=bool(pending),
        seconds=time.perf_counter() - began,
        notices=tuple(notice for pair in whole for notice in _notices(pair)),
    )


@contextmanager
def _only_comparison(atlas: Atlas, pairs: Sequence[Pair]) -> Iterator[None]:
    with ExitStack() as locks:
        for name in sorted({each.name for pair in pairs for each in pair.recordings}):
            lock = atlas.lock(f"{name}.similarity")
            locks.enter_context(only_process(lock, f"comparing {name}"))
        yield


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
        self.sweep(pairs)

    def sweep(self, pairs: Sequence[Pair]) -> None:
        """Delete what is left of comparisons that are done."""
        for pair in pairs:
            for name in (pair.work_name, *(each.name for each in pair.recordings)):
                self._sweep(name)
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
        folder = self.work / f"{pair.work_name}-{pair.inputs[:12]}"
        self._sweep(pair.work_name, keep=folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._write(pair, Compared(subjects[0], subjects[-1], _invalid(pair)), folder)
        shutil.rmtree(folder, ignore_errors=True)

    def _subject(self, recording: Recording, row: NDArray[Any]) -> Subject:
        """Return a recording with the folder of its profiles, which says which images they are of."""
        key = fingerprint(
            {
                "recording": recording.identity,
                "layers": layer_names(self.layers[recording.name]),
                "rows": row.tolist(),
                "settings": settings_of(self.config),
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
        run_pieces(
            task,
            pieces,
            scheduler=self.config.scheduler,
            advance=advance,
            shared=[self.atlas.root],
        )

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
        columns = {SIMILARITIES: similarity_columns(compared, files, self.config)}
        if UNIT_MATCHES.name in pair.files:
            found = match_columns(compared, [*shared], [piece[-1] for piece in matches])
            columns[UNIT_MATCHES] = found
        write_tables(pair, columns, self.config)


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
