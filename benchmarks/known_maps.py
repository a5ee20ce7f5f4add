"""The known pictures as numbers: which sets fall apart into classes, by pixels and by a network.

    python benchmarks/known_maps.py [--data FOLDER] [--models FOLDER] [--root ATLAS] [--images N]

Records the 10,000 test images of MNIST (for their pixels alone) and of CIFAR-10 by a trained
ResNet-18, embeds raw pixels, pooled features and logits, and prints k-NN purity and silhouette of
each map beside those of its source. An atlas given by --root is gone on with.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import EmbedConfig, RunConfig
from activarium.tasks.embedding.embed import embed
from activarium.tasks.recording.checkpoints import choose_checkpoint, record_checkpoint
from activarium.tasks.stores.parquet_files import read_table
from activarium.tasks.stores.recording import open_recording

if TYPE_CHECKING:
    from collections.abc import Sequence

SHARED = Path(__file__).parents[2] / "shared"
COLUMNS = ("trustworthiness", "knn_purity", "source_knn_purity", "silhouette", "source_silhouette")
METHODS = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}


def mnist(data: Path) -> dict[str, Any]:
    """Return the run that keeps MNIST's pixels; its model says nothing."""
    return {
        "name": "MNIST",
        "test_set": {"source": "imagefolder", "path": str(data / "mnist-test-png.zip")},
        "model": {"architecture": "two-block-cnn", "width": 4, "weights": "untrained"},
    }


def cifar10(data: Path, models: Path) -> dict[str, Any]:
    """Return the run that records CIFAR-10 by the trained network."""
    return {
        "name": "CIFAR-10",
        "test_set": {"source": "imagefolder", "path": str(data / "cifar10-test-jpeg.zip")},
        "preprocessing": {"mean": (0.4914, 0.4822, 0.4465), "sd": (0.2470, 0.2435, 0.2616)},
        "model": {
            "architecture": "resnet18",
            "width": 32,
            "weights": str(models / "cifar10-resnet18-w32.safetensors"),
        },
    }


def lines(
    atlas: Atlas, run: dict[str, Any], embedding: EmbedConfig, images: int | None
) -> list[str]:
    """Record, embed, and return one line of Markdown per map."""
    config = RunConfig.model_validate(run | {"test_set": run["test_set"] | {"limit": images}})
    receipt = record_checkpoint(atlas, config, choose_checkpoint(config.model))
    made = embed(atlas, open_recording(atlas, receipt.recording), config=embedding)
    found = []
    for file in made.files[1::2]:
        (row,) = read_table(file).to_pylist()
        space = row["features"] if row["features"] == row["layer"] else row["layer"]
        cells = [config.name, space, METHODS[row["method"]]]
        cells += [f"{row[name]:.3f}" for name in COLUMNS]
        print(" ".join(cells), file=sys.stderr)
        found.append("| " + " | ".join(cells) + " |")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED / "data", help="folder of the sets")
    parser.add_argument("--models", type=Path, default=SHARED / "models", help="of the network")
    parser.add_argument(
        "--root", type=Path, default=None, help="atlas folder; else a temporary one"
    )
    parser.add_argument("--images", type=int, default=None, help="images per set; by default all")
    parser.add_argument("--method", action="append", choices=METHODS, help="by default all three")
    asked = parser.parse_args(arguments)
    methods = tuple(asked.method or METHODS)
    needed = (
        asked.data / "mnist-test-png.zip",
        asked.data / "cifar10-test-jpeg.zip",
        asked.models / "cifar10-resnet18-w32.safetensors",
    )
    if missing := [str(path) for path in needed if not path.is_file()]:
        sys.exit(
            "these files are needed, --data and --models say where they lie (image sets as zip of "
            f"test/<class>/<image>); missing: {', '.join(missing)}"
        )
    runs = (
        (mnist(asked.data), ("pixels",)),
        (cifar10(asked.data, asked.models), ("pixels", "pooled", "logits")),
    )
    with tempfile.TemporaryDirectory() as temporary:
        atlas = Atlas(asked.root or Path(temporary))
        found = [
            line
            for run, features in runs
            for line in lines(
                atlas, run, EmbedConfig(features=features, methods=methods), asked.images
            )
        ]
    headings = ("images", "space", "map", *COLUMNS)
    print("| " + " | ".join(headings) + " |", "|" + "---|" * len(headings), *found, sep="\n")


if __name__ == "__main__":
    main()
