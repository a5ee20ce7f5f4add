"""From tables to the data of the report page."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from activarium.tasks.reporting.report_maps import maps_payload, read_maps
from activarium.tasks.reporting.report_packing import packed_coarse_shares, packed_codes
from activarium.tasks.reporting.report_pairs import pairs_payload
from activarium.tasks.reporting.report_selection import selection_words, title_of
from activarium.tasks.reporting.report_sprites import (
    EXEMPLAR_BYTES,
    HOVER_BYTES,
    exemplar_sprite,
    hover_sprite,
)
from activarium.tasks.reporting.report_tables import class_names, codes_in, numbers, read_recording
from activarium.tasks.reporting.report_units import (
    EXEMPLAR_RANKS,
    classes_kept,
    exemplars_payload,
    profiles_payload,
    read_exemplars,
    read_profiles,
    units_payload,
)
from activarium.tasks.reporting.report_words import answer, key_figures, labels_of
from activarium.tasks.reporting.stored_thumbnails import open_thumbnails
from activarium.tasks.reporting.verdicts import verdicts
from activarium.tasks.statistics.comparable_classes import comparable_classes
from activarium.tasks.stores.places import place_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.reporting.report_sprites import Sprite
    from activarium.tasks.reporting.report_tables import RecordingTables
    from activarium.tasks.reporting.stored_thumbnails import StoredThumbnails

_FACTS = (
    "model", "checkpoint", "architecture", "test_set", "split", "images", "invalid_images",
    "classes", "layers", "units", "accuracy", "fingerprint", "weights_sha256", "images_sha256",
    "preprocessing", "engine", "precision", "device", "batch_size", "versions", "selection",
    "selection_of", "analysed_images",
)  # fmt: skip
_CONTROL_EXEMPLARS = 2
"""How many times fewer exemplars a control gets than the main recording."""


def report_payload(atlas: Atlas, recordings: Sequence[str]) -> dict[str, Any]:
    """Return everything the page shows, ready for JSON.

    Parameters
    ----------
    recordings
        The main recording, then its controls.
    """
    everything = [read_recording(atlas, recording) for recording in recordings]
    classes = class_names(everything)
    labels = labels_of(everything)
    maps = [read_maps(atlas, tables) for tables in everything]
    pictures = _pictures(atlas, everything, maps)
    keep = classes_kept(sum(tables.units.num_rows for tables in everything), len(classes))
    maps_in_all = sum(map(len, maps))
    parts = [
        {
            "label": label,
            "exemplars": exemplars,
            "profiles": profiles_payload(read_profiles(atlas, tables, classes), keep),
            "maps": maps_payload(own_maps, maps_in_all=maps_in_all),
            **_recording(tables, classes, main=everything[0]),
        }
        for tables, label, exemplars, own_maps in zip(
            everything, labels, pictures["exemplars"], maps, strict=True
        )
    ]
    return {
        "classes": classes,
        "title": title_of(everything[0]),
        "selection": selection_words(everything[0]),
        "answer": answer(everything, labels),
        "verdicts": verdicts(everything[0]),
        "pairs": pairs_payload(atlas, everything[0], classes),
        "recordings": parts,
        "sprites": pictures["sprites"],
        "notices": pictures["notices"],
    }


def _recording(
    tables: RecordingTables, classes: list[str], *, main: RecordingTables
) -> dict[str, Any]:
    # The ids of a large test set are long; a control with the same images does without.
    shared = tables is not main and tables.images["image"].equals(main.images["image"])
    return {
        "id": tables.recording,
        "facts": _facts(tables),
        "figures": key_figures(tables),
        "layers": _layers(tables),
        "units": units_payload(tables, classes),
        "images": {
            "ids": None if shared else tables.images["image"].to_pylist(),
            **_images(tables, classes),
        },
    }


def _facts(tables: RecordingTables) -> dict[str, Any]:
    facts = {name: tables.facts.get(name) for name in _FACTS}
    facts["versions"] = _parsed(facts["versions"])
    return facts


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _layers(tables: RecordingTables) -> list[dict[str, Any]]:
    names = np.asarray(tables.units["layer"].to_pylist(), dtype=object)
    out = []
    for row in tables.layers.to_pylist():
        own = np.flatnonzero(names == row["layer"])
        out.append({**row, "start": int(own[0]) if len(own) else 0, "count": len(own)})
    return out


def _images(tables: RecordingTables, classes: list[str]) -> dict[str, Any]:
    images, names = tables.images, pa.array(classes, pa.string())
    labels = codes_in(images["class"], names)
    present = labels[labels >= 0]
    count = np.bincount(present)
    shares = count / max(1, len(present))
    return {
        "count": images.num_rows,
        "labelled": len(present),
        # The purity that neighbours drawn at random would have, where classes are compared.
        "chance_purity": float((shares**2).sum()) if comparable_classes(count).any() else None,
        "filled_classes": int((shares > 0).sum()),
        "label": packed_codes(labels),
        "predicted": packed_codes(codes_in(images["predicted"], names)),
        "confidence": packed_coarse_shares(numbers(images, "confidence")),
    }


def _pictures(
    atlas: Atlas, everything: Sequence[RecordingTables], maps: Sequence[list[dict[str, Any]]]
) -> dict[str, Any]:
    main = everything[0].facts["images_sha256"]
    # Thumbnails are looked up by image index, which means the same only in the same test set.
    same = [tables.facts["images_sha256"] == main for tables in everything]
    found = [read_exemplars(atlas, tables) for tables in everything]
    known = [own for own, equal in zip(found, same, strict=True) if equal]
    on_maps = [one["images"] for own, equal in zip(maps, same, strict=True) if equal for one in own]
    thumbnails, notices = open_thumbnails(place_at(atlas.recording(everything[0].recording)))
    sprites: list[Sprite] = []
    ranks = EXEMPLAR_RANKS
    if thumbnails is not None:
        sprites, ranks = _sprites(thumbnails, known, on_maps)
    payloads = [exemplars_payload(own, _ranks(ranks, place)) for place, own in enumerate(found)]
    shown = [sprite.payload() for sprite in sprites]
    return {"exemplars": payloads, "sprites": shown, "notices": notices}


def _sprites(
    thumbnails: StoredThumbnails,
    exemplars: Sequence[NDArray[np.int64]],
    on_maps: Sequence[NDArray[np.int64]],
) -> tuple[list[Sprite], int]:
    sprites, ranks = [], EXEMPLAR_RANKS

    def needed(count: int) -> NDArray[np.int64]:
        return thumbnails.sound(_shown(exemplars, count))

    made = exemplar_sprite(thumbnails, needed, limit=EXEMPLAR_BYTES)
    if made is not None:
        sprite, ranks = made
        sprites.append(sprite)
    missing = _missing(on_maps, [sprite.images for sprite in sprites])
    hover = hover_sprite(thumbnails, thumbnails.sound(missing), limit=HOVER_BYTES)
    return [*sprites, *([hover] if hover is not None else [])], ranks


def _ranks(ranks: int, place: int) -> int:
    return ranks if place == 0 else max(1, ranks // _CONTROL_EXEMPLARS)


def _shown(found: Sequence[NDArray[np.int64]], ranks: int) -> NDArray[np.int64]:
    """Return the images that the first so many ranks show, those that most units show first."""
    shown = [own[:, :, : _ranks(ranks, place)].ravel() for place, own in enumerate(found)]
    images, units = np.unique(np.concatenate(shown), return_counts=True)
    order = np.argsort(-units, kind="stable")
    return images[order][images[order] >= 0]


def _missing(
    wanted: Sequence[NDArray[np.int64]], there: Sequence[NDArray[np.int64]]
) -> NDArray[np.int64]:
    if not wanted:
        return np.empty(0, dtype=np.int64)
    images = np.unique(np.concatenate(wanted))
    return np.setdiff1d(images, np.concatenate(there)) if there else images
