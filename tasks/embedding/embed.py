"""Embed: every map of a recording that is not current, each with its quality."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from activarium.schemas.columns import FORMAT_VERSION
from activarium.schemas.errors import UserError
from activarium.schemas.receipts import TablesReceipt
from activarium.tasks.embedding.fitted_map import kept_map
from activarium.tasks.embedding.map_piece import Piece, make_piece
from activarium.tasks.embedding.quality import most_neighbours
from activarium.tasks.embedding.tsne import largest_perplexity
from activarium.tasks.features.spaces import choose_spaces, space_layers
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.progress import begin_work, silent
from activarium.tasks.scheduling import run_pieces
from activarium.tasks.statistics.comparable_classes import has_lone_classes
from activarium.tasks.stores.locking import only_process
from activarium.tasks.stores.set_replacing import settle_tables

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import EmbedConfig, Features, Method
    from activarium.tasks.features.spaces import Space
    from activarium.tasks.progress import Progress
    from activarium.tasks.stores.recording import Recording

MAPS_VERSION = 2
"""Raised when a method changes, so that maps made before are made again."""

FEWEST_IMAGES = 10
"""Below this a map shows nothing, and is left out."""

OPTIONAL: dict[Features, tuple[str, str]] = {
    "pixels": ("raw pixels", "thumbnail"),
    "pooled": ("pooled features", "pooled_layers"),
}
"""Features that a recording may lack, with what they are called and the setting that keeps them."""

NO_PART = {"features", "layers", "methods", "threads", "scheduler"}
"""Settings that say which maps are made and by what, not how one looks."""


def embed(
    atlas: Atlas, recording: Recording, *, config: EmbedConfig, progress: Progress = silent
) -> TablesReceipt:
    """Make every map of a recording that is not current; none of fewer than ten images.

    Parameters
    ----------
    atlas
        Where tables and maps go.
    recording
        A complete recording.
    config
        What is embedded and how; `into` is the whole id of a recording.
    progress
        Shows how many maps are done.

    Raises
    ------
    UserError
        If a glob matches no layer, the map to place images in is missing
        or of other features, or the disk is full.
    """
    began = time.perf_counter()
    settle_tables(atlas)
    images = int(recording.valid.sum())
    if images < FEWEST_IMAGES:
        has = "1 valid image" if images == 1 else f"{images} valid images"
        none = f"{recording.name} has {has}: maps are left out, which need {FEWEST_IMAGES}"
        return TablesReceipt(recording=recording.name, files=(), made=False, notices=(none,))
    if config.into == recording.name:
        raise UserError(
            f"embed.into: expected another recording than {recording.name}, whose own maps are made "
            "without it"
        )
    pieces = _pieces(atlas, recording, config)
    pending = [piece for piece in pieces if not piece.is_current()]
    notices = [*_notices(recording, config)]
    if pending:
        begin_work(progress)
        with only_process(atlas.lock(f"{recording.name}.tables"), f"tabulating {recording.name}"):
            notices += _make(atlas, recording.name, pieces, pending, config, progress)
    return TablesReceipt(
        recording=recording.name,
        files=tuple(path for piece in pieces for path in piece.tables()),
        made=bool(pending),
        seconds=time.perf_counter() - began,
        notices=tuple(dict.fromkeys(notices)),
    )


def _pieces(atlas: Atlas, recording: Recording, config: EmbedConfig) -> list[Piece]:
    parts = {
        "recording": recording.fingerprint,
        "settings": config.model_dump(mode="json", exclude=NO_PART),
        "columns": FORMAT_VERSION,
        "maps": MAPS_VERSION,
    }
    if has_lone_classes(recording.labels[recording.valid]):
        # The quality of maps made before said of such classes what cannot be told.
        parts["classes"] = "lone"
    places = recording.place.absolute(), atlas.root.absolute()
    pieces = []
    for space in choose_spaces(recording, config.features, config.layers):
        for method in config.methods:
            own = {**parts, "into": _fingerprint_into(atlas, space, method, config)}
            pieces.append(Piece(*places, space, method, config, fingerprint(own)))
    return pieces


def _fingerprint_into(atlas: Atlas, space: Space, method: Method, config: EmbedConfig) -> str:
    """Return the fingerprint of the map that images are placed in; empty where there is none."""
    if config.into is None:
        return ""
    path = atlas.map_file(config.into, f"{method}-{space.part}")
    if not path.exists():
        options = f"--features {space.features} --method {method}"
        layer = f" --layer '{space.layer}'" if space.layer != space.features else ""
        raise UserError(
            f"recording {config.into} has no {method} map of {space} to place images in: run "
            f"`activarium embed {config.into} {options}{layer}` first"
        )
    return kept_map(path).inputs


def _notices(recording: Recording, config: EmbedConfig) -> Iterator[str]:
    """Say what the recording does not hold, and what does not fit its number of images."""
    for kind, (name, setting) in OPTIONAL.items():
        if kind in config.features and not space_layers(recording, kind):
            yield f"{recording.name} holds no {name} to embed: record.{setting} keeps them"
    images = min(int(recording.valid.sum()), config.max_images)
    largest = largest_perplexity(images)
    own = config.into is None
    if own and "tsne" in config.methods and config.perplexity > largest:
        yield (
            f"embed.perplexity {config.perplexity:g} does not fit {images} images: t-SNE takes "
            f"{largest:.6g}, the largest that fits"
        )
    if own and "umap" in config.methods and config.neighbours > images - 1:
        yield (
            f"embed.neighbours {config.neighbours} does not fit {images} images: UMAP takes "
            f"{images - 1}, the most that fit"
        )
    if config.quality_neighbours > most_neighbours(images):
        yield (
            f"embed.quality_neighbours {config.quality_neighbours} does not fit {images} images: "
            f"quality takes {most_neighbours(images)}, the most that fit"
        )


def _make(  # noqa: PLR0913, PLR0917 - a whole stage
    atlas: Atlas,
    name: str,
    pieces: Sequence[Piece],
    pending: Sequence[Piece],
    config: EmbedConfig,
    progress: Progress,
) -> list[str]:
    with progress(f"embedding {name}", len(pieces)) as advance:
        advance(len(pieces) - len(pending))
        told = run_pieces(
            make_piece,
            [(each,) for each in pending],
            scheduler=config.scheduler,
            advance=advance,
            shared=[atlas.root],
        )
    missing = [each for each in pending if not each.is_current()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(pieces)} maps of {name} were made but are not in {atlas.root}, "
            f"{missing[0].part} the first: do the workers of the cluster write to the same folder?"
        )
    return [line for each in told for line in each]
