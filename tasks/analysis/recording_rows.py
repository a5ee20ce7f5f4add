"""The row of the table `recordings`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.tasks.analysis.image_answers import accuracy_of

if TYPE_CHECKING:
    from activarium.schemas.config import AnalyseConfig
    from activarium.tasks.analysis.selected import Selected
    from activarium.tasks.stores.recording import Recording


def recording_row(
    recording: Recording, selected: Selected, config: AnalyseConfig
) -> dict[str, Any]:
    """Return where the recording comes from, its sizes, and what was selected of it."""
    attributes = recording.attributes
    receipts = recording.receipts
    invalid = int((recording.stored_rows & ~recording.valid).sum())
    features = len(recording.read("feature")) if recording.has("feature") else 0
    row = {
        name: attributes[name]
        for name in (
            "model",
            "checkpoint",
            "architecture",
            "test_set",
            "split",
            "fingerprint",
            "weights_sha256",
            "images_sha256",
            "engine",
            "precision",
            "batch_size",
        )
    } | {
        "series": attributes.get("series"),
        "step": attributes.get("step"),
        "selection_of": None if selected.text is None else recording.name,
        "selection": selected.text,
        "controls": ", ".join(config.class_controls) or None,
        "is_partial": not recording.stored_rows.all(),
        "images": recording.images,
        "analysed_images": len(selected.chosen.row),
        "invalid_images": invalid,
        "classes": len(selected.chosen.class_names),
        "layers": len(recording.layers),
        "units": recording.units,
        "features": features,
        "accuracy": accuracy_of(selected.images),
        "preprocessing": json.dumps(attributes["preprocessing"], sort_keys=True),
        "versions": json.dumps(attributes["versions"], sort_keys=True),
        "device": ", ".join(sorted({receipt.device for receipt in receipts})),
        "seconds": sum(
            each.read_seconds + each.forward_seconds + each.write_seconds for each in receipts
        ),
        "stored_bytes": sum(stored.size for each in receipts for stored in each.objects),
    }
    return {
        name: np.array([value]) if name == "accuracy" else [value] for name, value in row.items()
    }
