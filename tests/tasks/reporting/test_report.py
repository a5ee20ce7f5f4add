"""The report page: what it holds, what it survives, and that it works in a browser."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from base64 import b64decode
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image

from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError
from activarium.schemas.layer_tables import CONTROLLED
from activarium.schemas.tables import (
    CLASS_PAIRS,
    DEPTH_TRENDS,
    EMBEDDING_QUALITY,
    EMBEDDINGS,
    EXEMPLARS,
    IMAGES,
    LAYERS,
    RECORDINGS,
    UNIT_CLASSES,
    UNITS,
)
from activarium.tasks.reporting.report import write_report
from activarium.tasks.reporting.report_sprites import (
    EXEMPLAR_BYTES,
    exemplar_sprite,
    hover_sprite,
)

if TYPE_CHECKING:
    from pathlib import Path

    from activarium.schemas.columns import Table

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DEEP = (
    "conv_proj",
    *(
        f"encoder.layers.encoder_layer_{i}.{part}"
        for i in range(25)
        for part in ("mlp.3", "self_attention.out_proj")
    ),
    "heads.head",
)
NASTY = ("<script>alert(1)</script>", 'a "quoted" & b', "it's</script>", "plain")


@dataclass(frozen=True)
class Scene:
    """What a made-up atlas holds."""

    layers: int = 6
    width: int = 24
    images: int = 80
    classes: tuple[str, ...] = CIFAR
    labelled: bool = True
    thumbnails: bool = True
    maps: tuple[str, ...] = ("pca", "tsne")
    controlled: bool = True
    """Whether labels were permuted and the untrained model stands beside the trained one."""
    names: tuple[str, ...] = ()
    seed: int = 7

    def layer_names(self) -> list[str]:
        if self.names:
            return list(self.names)
        stages = [f"layer{1 + i * 4 // self.layers}.{i}.conv" for i in range(self.layers - 2)]
        return ["conv1", *stages, "fc"]

    def layer_sizes(self) -> list[int]:
        middle = [self.width * (1 + 2 * i // self.layers) for i in range(self.layers - 2)]
        return [self.width, *middle, len(self.classes)]


def write_table(atlas: Atlas, table: Table, recording: str, part: str | None = None, **columns):
    path = atlas.table_file(table, recording, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = len(next(iter(columns.values())))
    plain = {pa.string(): "", pa.int64(): 1, pa.float64(): 0.0, pa.bool_(): False}
    for column in table.columns:
        # What the page does not show may hold anything.
        columns.setdefault(column.name, [None if column.nullable else plain[column.type]] * size)
    pq.write_table(pa.table(columns, schema=table.schema()), path)


def make_recording(atlas: Atlas, scene: Scene, recording: str, checkpoint: str) -> None:
    """Write all tables of one recording; the untrained one's units hardly prefer anything."""
    rng = np.random.default_rng(scene.seed + (checkpoint == "untrained"))
    sizes, names = scene.layer_sizes(), scene.layer_names()
    write_recording_row(atlas, scene, recording, checkpoint)
    label = rng.integers(0, len(scene.classes), scene.images)
    write_images(atlas, scene, recording, label, rng)
    depth = np.repeat(np.arange(scene.layers), sizes)
    gain = 0.03 if checkpoint == "untrained" else 1.0
    rise = (0.05 + 0.6 * (depth / (scene.layers - 1)) ** 2) * gain
    eta2 = np.clip(rise * rng.gamma(3.0, 1 / 3.0, len(depth)), 0.0005, 0.97)
    write_units(atlas, scene, recording, depth, eta2, label, rng)
    write_layers(atlas, scene, recording, depth, eta2)
    write_trends(atlas, scene, recording, depth)
    write_pairs(atlas, scene, recording, label, rng)
    write_maps(atlas, scene, recording, label, names, rng)


def write_recording_row(atlas, scene, recording, checkpoint):
    sizes = scene.layer_sizes()
    versions = json.dumps({"activarium": "0.1.0", "torch": "2.9.0", "numpy": "2.4.6"})
    row = {
        "model": "resnet18", "checkpoint": checkpoint, "architecture": "resnet18-cifar",
        "test_set": "cifar10", "split": "test", "images": scene.images, "invalid_images": 0,
        "classes": len(scene.classes), "layers": scene.layers, "units": sum(sizes), "features": 0,
        "accuracy": (0.104 if checkpoint == "untrained" else 0.934) if scene.labelled else None,
        "fingerprint": "9c3f" * 16, "weights_sha256": "ab" * 32, "images_sha256": "cd" * 32,
        "preprocessing": '{"mean":[0.49,0.48,0.45]}', "engine": "graph", "precision": "float32",
        "device": "NVIDIA H100 80GB HBM3", "batch_size": 512, "seconds": 3.2, "stored_bytes": 10,
        "versions": versions,
    }  # fmt: skip
    write_table(atlas, RECORDINGS, recording, **{name: [value] for name, value in row.items()})


def write_images(atlas, scene, recording, label, rng):
    count, names = scene.images, np.array(scene.classes, dtype=object)
    right = rng.random(count) < 0.93
    predicted = np.where(right, label, rng.integers(0, len(names), count))
    known = scene.labelled
    write_table(
        atlas, IMAGES, recording,
        image_index=np.arange(count), image=[f"test/{i:05d}.png" for i in range(count)],
        label=label if known else np.full(count, -1),
        **{"class": names[label] if known else [None] * count},
        valid=np.full(count, True), predicted=names[predicted],
        correct=(predicted == label) if known else [None] * count,
        confidence=rng.uniform(0.3, 1, count), margin=rng.gamma(2, 2, count),
        entropy=rng.gamma(1, 0.3, count), loss=rng.gamma(1, 0.3, count) if known else [None] * count,
    )  # fmt: skip


def write_units(atlas, scene, recording, depth, eta2, label, rng):
    layers, sizes = scene.layer_names(), scene.layer_sizes()
    layer = np.array(layers, dtype=object)[depth]
    channel = np.concatenate([np.arange(size) for size in sizes])
    unit = np.array([f"{a}/{b}" for a, b in zip(layer, channel, strict=True)], dtype=object)
    count, classes = len(unit), len(scene.classes)
    preferred = rng.integers(0, classes, count)
    preferred[-classes:] = np.arange(classes)
    strength = np.sqrt(eta2)
    mean = rng.normal(0, 0.15, (count, classes)) * strength[:, None] + 0.4
    mean[np.arange(count), preferred] += strength
    dead = rng.random(count) < 0.02
    mean[dead], eta2[dead] = 0.0, 0.0
    auroc = np.clip(0.5 + (mean - mean.mean(axis=1, keepdims=True)) * 0.5, 0, 1)
    order = np.argsort(-mean, axis=1)
    log10p = np.where(dead, 0.0, -eta2 * scene.images / 4.6)
    names = np.array(scene.classes, dtype=object)
    none = [None] * count

    def statistic(values):
        return values if scene.labelled else none

    def permuted(values):
        return values if scene.labelled and scene.controlled else none

    write_table(
        atlas, UNITS, recording,
        layer=layer, channel=channel, unit=unit, depth=depth, response_mean=mean.mean(axis=1),
        response_sd=rng.gamma(2, 0.2, count), response_min=mean.min(axis=1) - 1,
        response_max=mean.max(axis=1) + 1, active_fraction=rng.random(count), is_dead=dead,
        preferred_class=statistic(names[order[:, 0]]),
        runner_up_class=statistic(names[order[:, 1]]),
        selectivity=statistic(np.clip(strength * 0.9, 0, 1)), auroc=statistic(auroc.max(axis=1)),
        auroc_class=statistic(names[auroc.argmax(axis=1)]), anova_f=statistic(eta2 * 100),
        anova_p=statistic(10.0**log10p), anova_log10p=statistic(log10p), eta2=statistic(eta2),
        kruskal_h=statistic(eta2 * 1000), kruskal_p=statistic(10.0**log10p),
        kruskal_log10p=statistic(log10p), epsilon2=statistic(eta2 * 0.9),
        q_value=statistic(10.0 ** (log10p * 0.9)), q_log10=statistic(log10p * 0.9),
        sparseness=rng.random(count), copies_unit=[unit[0] if i == 2 else None for i in range(count)],
        copies_r=[-0.97 if i == 2 else None for i in range(count)],
        permutation_p=permuted(np.full(count, 0.001)), fwer_p=permuted(np.full(count, 0.04)),
    )  # fmt: skip
    if scene.labelled:
        write_unit_classes(atlas, scene, recording, (layer, channel, unit), mean, auroc)
    write_exemplars(atlas, scene, recording, (layer, channel, unit), preferred, label, rng)


def write_unit_classes(atlas, scene, recording, keys, mean, auroc):
    classes, count = len(scene.classes), len(keys[0])
    layer, channel, unit = (np.repeat(key, classes) for key in keys)
    full = np.ones(count * classes)
    write_table(
        atlas, UNIT_CLASSES, recording,
        layer=layer, channel=channel, unit=unit, n=(full * 9).astype(int),
        **{"class": np.tile(np.array(scene.classes, dtype=object), count)},
        response_mean=mean.ravel(), response_sd=full, z=full, auroc=auroc.ravel(), u=full * 100,
        p_value=full * 0.01, log10p=full * -2, q_value=full * 0.02, hedges_g=full,
    )  # fmt: skip


def write_exemplars(atlas, scene, recording, keys, preferred, label, rng):
    rows: dict[str, list[Any]] = {column.name: [] for column in EXEMPLARS.columns}
    by_class = [np.flatnonzero(label == code) for code in range(len(scene.classes))]
    for layer, channel, unit, code in zip(*keys, preferred, strict=True):
        for extreme in ("most", "least"):
            own = by_class[code] if extreme == "most" else np.arange(scene.images)
            pool = own if len(own) else np.arange(scene.images)
            for rank, image in enumerate(rng.choice(pool, 10), start=1):
                for within in (None, scene.classes[0]) if rank == 1 else (None,):
                    values = (layer, channel, unit, extreme, within, rank, image, f"{image}", 1.0)
                    for column, value in zip(rows, values, strict=True):
                        rows[column].append(value)
    write_table(atlas, EXEMPLARS, recording, **rows)


def write_layers(atlas, scene, recording, depth, eta2):
    count, steps = scene.layers, range(scene.layers)
    mean = np.array([eta2[depth == i].mean() for i in steps])
    none = [None] * count

    def statistic(values):
        return values if scene.labelled else none

    controls = {}
    if scene.labelled and scene.controlled:
        controls = {f"{name}_shuffled": np.full(count, 0.01) for name in CONTROLLED}
        controls |= {"permanova_p": np.full(count, 0.001), "chance_verdict": ["beyond"] * count}
        if recording.endswith("epoch200"):
            ends = {"": 0.03, "_low": 0.02, "_high": 0.04}
            controls |= {f"eta2_mean_untrained{end}": mean * by for end, by in ends.items()}
            controls |= {"eta2_mean_sampled": mean, "draws": [19] * count}
            controls |= {"draw_images": [500] * count}
            controls |= {"eta2_mean_untrained_fwer_p": np.full(count, 0.05)}
            told = ["beyond" if place > 0 else "not beyond" for place in steps]
            controls |= {"architecture_verdict": told}
    write_table(
        atlas, LAYERS, recording, **controls,
        layer=scene.layer_names(), depth=np.arange(count),
        kind=["conv"] * (count - 1) + ["linear"], units=scene.layer_sizes(),
        height=[max(1, 32 >> (4 * i // count)) for i in steps],
        width=[max(1, 32 >> (4 * i // count)) for i in steps], dead_fraction=np.full(count, 0.02),
        selective_fraction=statistic(np.clip(mean * 3, 0.3, 1)), fdr=np.full(count, 0.01),
        selectivity_mean=statistic(np.sqrt(mean) * 0.9),
        auroc_mean=statistic(0.5 + np.sqrt(mean) / 2),
        eta2_mean=statistic(mean), epsilon2_mean=statistic(mean * 0.9),
        knn_purity=statistic(0.1 + mean), knn_neighbours=np.full(count, 10),
        knn_queries=np.full(count, 2000), effective_dimension=np.linspace(3, 40, count),
    )  # fmt: skip


def write_trends(atlas, scene, recording, depth):
    measures = ["eta2", "auroc", "sparseness"] if scene.labelled else []
    count = len(measures)
    write_table(
        atlas, DEPTH_TRENDS, recording,
        measure=pa.array(measures, pa.string()), layers=np.full(count, scene.layers),
        spearman_rho=[1.0, 0.8, -0.5][:count],
    )  # fmt: skip


def write_pairs(atlas, scene, recording, label, rng):
    """All pairs of up to 100 classes; of more, each class and the next one."""
    present = np.unique(label) if scene.labelled else np.empty(0, int)
    one, other = np.triu_indices(len(present), k=1)
    if len(present) > 100:
        one, other = np.arange(len(present) - 1), np.arange(1, len(present))
    names, layers = np.array(scene.classes, dtype=object)[present], scene.layer_names()
    pairs, count = len(one), len(one) * scene.layers
    direction = rng.normal(size=(len(present), 12))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    cosine = (direction @ direction.T)[one, other]
    depth = np.repeat(np.arange(scene.layers), pairs)
    write_table(
        atlas, CLASS_PAIRS, recording,
        layer=pa.array([layers[i] for i in depth], pa.string()), depth=depth,
        **{"class": pa.array(np.tile(names[one], scene.layers).tolist(), pa.string())},
        other_class=pa.array(np.tile(names[other], scene.layers).tolist(), pa.string()),
        centroid_cosine=np.tile(cosine, scene.layers), centroid_distance=np.ones(count),
        fisher_ratio=np.ones(count), best_auroc=1 - rng.uniform(0, 0.3, count) / (depth + 1),
        best_unit=pa.array([f"{layers[i]}/1" for i in depth], pa.string()),
        separating_units=rng.integers(0, 9, count), units=np.full(count, 9),
    )  # fmt: skip


def write_maps(atlas, scene, recording, label, names, rng):
    for place, layer in enumerate(["pixels", names[1], names[-2]]):
        for method in scene.maps:
            angle = 2 * np.pi * label / len(scene.classes)
            centre = np.column_stack([np.cos(angle), np.sin(angle)]) * place * 3
            points = centre + rng.normal(0, 1, centre.shape)
            size, part = scene.images, f"{layer}-{method}"
            write_table(
                atlas, EMBEDDINGS, recording, part,
                features=["pixels" if layer == "pixels" else "pooled"] * size,
                layer=[layer] * size, method=[method] * size, into=pa.nulls(size, pa.string()),
                image_index=np.arange(size), is_placed=np.zeros(size, bool),
                image=[f"test/{i:05d}.png" for i in range(size)], x=points[:, 0], y=points[:, 1],
                z=pa.nulls(size, pa.float64()),
            )  # fmt: skip
            row = {
                "features": "pixels" if layer == "pixels" else "pooled",
                "layer": layer, "method": method, "into": None, "images": size,
                "placed_images": 0, "quality_images": size, "source_features": 512,
                "dimensions": 2, "trustworthiness": 0.8 + 0.05 * place,
                "continuity": 0.9, "stress": 0.3, "placed_knn_purity": None,
                "silhouette": 0.1 * place if scene.labelled else None,
                "source_silhouette": 0.1 if scene.labelled else None, "queries": size,
                "knn_purity": 0.3 + 0.3 * place if scene.labelled else None,
                "source_knn_purity": 0.35 + 0.3 * place if scene.labelled else None,
                "neighbours": 15, "objective": None, "explained_variance": None,
                "parameters": '{"perplexity":30}', "seed": 0, "threads": 2, "seconds": 1.0,
                "versions": "{}",
            }  # fmt: skip
            columns = {name: [value] for name, value in row.items()}
            write_table(atlas, EMBEDDING_QUALITY, recording, part, **columns)


def write_thumbnails(atlas: Atlas, recording: str, thumbnails: np.ndarray) -> None:
    group = zarr.open_group(atlas.recording(recording), mode="w")
    array = group.create_array("thumbnail", shape=thumbnails.shape, dtype="uint8")
    array[:] = thumbnails


def made_atlas(root: Path, scene: Scene) -> tuple[Atlas, list[str]]:
    atlas = Atlas(root)
    recordings = ["resnet18-epoch200", "resnet18-untrained"]
    for recording, checkpoint in zip(recordings, ("epoch200", "untrained"), strict=True):
        make_recording(atlas, scene, recording, checkpoint)
    if scene.thumbnails:
        rng = np.random.default_rng(scene.seed)
        shape = (scene.images, 32, 32, 3)
        write_thumbnails(atlas, recordings[0], rng.integers(0, 255, shape, dtype=np.uint8))
    return atlas, recordings


def page_of(tmp_path: Path, scene: Scene, *, alone: bool = False) -> tuple[Path, str, dict]:
    atlas, recordings = made_atlas(tmp_path, scene)
    receipt = write_report(atlas, recordings[:1] if alone else recordings, name="Trial 1")
    text = receipt.path.read_text("utf-8")
    return receipt.path, text, payload_in(text)


def payload_in(text: str) -> dict:
    found = re.search(r'<script type="application/json" id="atlas">(.*?)</script>', text, re.DOTALL)
    return json.loads(found.group(1))


class Elements(HTMLParser):
    """Collects the elements of a page and the attributes that could load something."""

    def __init__(self):
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [
            value or ""
            for name, value in attrs
            if name in {"src", "href", "srcset", "data", "action", "poster"}
        ]


@pytest.fixture(scope="module")
def default_page(tmp_path_factory):
    return page_of(tmp_path_factory.mktemp("atlas"), Scene())


def test_page__loads_nothing_from_elsewhere(default_page):
    _, text, _ = default_page
    outside = set(re.findall(r"https?://[^\s\"'`<)]+", text))
    elements = Elements()
    elements.feed(text)
    assert outside <= {"http://www.w3.org/2000/svg"}
    assert all(load.startswith(("#", "data:,")) for load in elements.loads)
    assert "@import" not in text
    assert "link" not in elements.tags[elements.tags.index("body") :]


def test_page__answers_in_words_with_numbers_of_the_tables(default_page):
    _, _, payload = default_page
    layers = payload["recordings"][0]["layers"]
    assert payload["answer"][0].startswith(
        "The share of a unit's response variance associated with"
    )
    assert f"({layers[0]['layer']})" in payload["answer"][0]
    assert "in one untrained network (one draw) it stays below" in payload["answer"][0]
    assert "In the last hidden layer, " in payload["verdicts"]["lead"]
    assert "in 19 untrained networks (over 500 images, " in payload["verdicts"]["lead"]


def test_page__second_write_is_not_made_anew(tmp_path):
    atlas, recordings = made_atlas(tmp_path, Scene())
    first = write_report(atlas, recordings, name="Trial 1")
    second = write_report(atlas, recordings, name="Trial 1")
    assert (first.made, second.made) == (True, False)
    assert first.path == second.path == atlas.report("Trial 1")
    assert [path.name for path in atlas.reports.iterdir()] == ["trial-1.html"]


def test_page__a_changed_title_is_made_anew(tmp_path):
    atlas, recordings = made_atlas(tmp_path, Scene())
    write_report(atlas, recordings, name="trial")
    receipt = write_report(atlas, recordings, name="trial", title="Cats & <dogs>")
    assert receipt.made
    assert '<h1 id="title">Cats &amp; &lt;dogs&gt;</h1>' in receipt.path.read_text("utf-8")


def test_page__names_are_escaped(tmp_path):
    _, text, payload = page_of(tmp_path, Scene(classes=NASTY))
    assert payload["classes"] == list(NASTY)
    assert "<script>alert(1)" not in text
    elements = Elements()
    elements.feed(text)
    assert elements.tags.count("script") == 2


def test_page__what_cannot_be_seen_in_names_is_shown_escaped(tmp_path):
    hidden = "cat\u202egpj\u200b\x9b"
    scene = Scene(classes=(hidden, *CIFAR[1:]))
    _, text, payload = page_of(tmp_path, scene)
    assert not any(letter in text for letter in "\u202e\u200b\x9b")
    assert r"cat\u202egpj\u200b\x9b" in payload["classes"]


@pytest.mark.parametrize(
    "scene",
    [
        Scene(maps=()),
        Scene(thumbnails=False),
        Scene(labelled=False),
        Scene(labelled=False, thumbnails=False, maps=()),
        Scene(controlled=False),
    ],
    ids=["no maps", "no thumbnails", "no labels", "nothing but responses", "no controls"],
)
def test_page__missing_parts_leave_the_rest(tmp_path, scene):
    _, _, payload = page_of(tmp_path, scene)
    recording = payload["recordings"][0]
    assert bool(recording["maps"]["maps"]) == bool(scene.maps)
    assert bool(payload["sprites"]) == scene.thumbnails
    assert ("No image has a class" in payload["answer"][0]) != scene.labelled
    assert (recording["figures"]["significant_share"] is None) != scene.labelled
    assert payload["verdicts"]["measured"] == scene.labelled == (payload["pairs"] is not None)
    assert payload["verdicts"]["judged"] == (scene.labelled and scene.controlled)


def test_page__a_store_without_thumbnails_is_no_error(tmp_path):
    atlas, recordings = made_atlas(tmp_path, Scene(thumbnails=False))
    zarr.open_group(atlas.recording(recordings[0]), mode="w")
    payload = payload_in(write_report(atlas, recordings, name="t").path.read_text("utf-8"))
    assert payload["sprites"] == []


def test_page__missing_table_is_named(tmp_path):
    atlas, recordings = made_atlas(tmp_path, Scene())
    atlas.table_file(UNITS, recordings[1]).unlink()
    with pytest.raises(UserError, match="table units of recording 'resnet18-untrained'"):
        write_report(atlas, recordings, name="t")


def test_page__no_recording_is_an_error(tmp_path):
    with pytest.raises(UserError, match="at least one recording"):
        write_report(Atlas(tmp_path), [], name="t")


def test_page__many_classes_keep_the_strongest_of_each_unit(tmp_path):
    classes = tuple(f"class {i:03d}" for i in range(120))
    _, _, payload = page_of(tmp_path, Scene(classes=classes, images=400, layers=4))
    profiles = payload["recordings"][0]["profiles"]
    units = payload["recordings"][0]["figures"]["units"]
    kept = np.frombuffer(b64decode(profiles["codes"]["data"]), "<u2").reshape(units, -1)
    preferred = np.frombuffer(
        b64decode(payload["recordings"][0]["units"]["preferred"]["data"]), "<u2"
    )
    alive = (
        np.frombuffer(b64decode(payload["recordings"][0]["units"]["flags"]["data"]), "u1") & 1
    ) == 0
    assert profiles["kept"] == kept.shape[1] == 5
    assert np.array_equal(kept[alive, 0], preferred[alive])


def test_page__numbers_survive_packing(tmp_path):
    atlas, recordings = made_atlas(tmp_path, Scene())
    payload = payload_in(write_report(atlas, recordings, name="t").path.read_text("utf-8"))
    table = pq.ParquetFile(atlas.table_file(UNITS, recordings[0])).read()
    units = payload["recordings"][0]["units"]
    eta2 = np.frombuffer(b64decode(units["eta2"]["data"]), "<u2") / 65_534
    q_tenths = np.frombuffer(b64decode(units["q_tenths"]["data"]), "<u2")
    np.testing.assert_allclose(eta2, table["eta2"].to_numpy(), atol=1e-5)
    np.testing.assert_allclose(q_tenths, -10 * table["q_log10"].to_numpy(), atol=0.5)


def test_page__p_values_by_permutation_survive_to_three_digits(default_page):
    _, _, payload = default_page
    for recording in payload["recordings"]:
        for name, expected in (("permutation_p", 0.001), ("fwer_p", 0.04)):
            values = np.frombuffer(b64decode(recording["units"][name]["data"]), "<u2") / 65_534
            assert np.array_equal(np.round(values, 3), np.full(len(values), expected))


def test_page__without_permutations_holds_no_p_values_by_them(tmp_path):
    _, _, payload = page_of(tmp_path, Scene(controlled=False))
    units = payload["recordings"][0]["units"]
    assert units["permutation_p"] is units["fwer_p"] is None


def test_page__copies_name_their_source(default_page):
    _, _, payload = default_page
    copies = payload["recordings"][0]["units"]["copies"]
    assert np.frombuffer(b64decode(copies["unit"]["data"]), "<u2").tolist() == [2]
    assert np.frombuffer(b64decode(copies["of"]["data"]), "<u2").tolist() == [0]
    r = np.frombuffer(b64decode(copies["r"]["data"]), "<f4")
    np.testing.assert_allclose(r, [-0.97], rtol=1e-6)


def noise(images, side=32):
    return zarr.array(np.random.default_rng(3).integers(0, 255, (images, side, side, 3), np.uint8))


def test_sprite__of_too_many_images_leaves_out_the_last_rather_than_shrink():
    wanted, limit = np.random.default_rng(4).permutation(200), 60_000
    sprite, ranks = exemplar_sprite(noise(200), lambda _: wanted, limit=limit)
    assert (sprite.side, ranks) == (32, 3)
    assert 0.7 * limit < len(sprite.jpeg) <= limit
    assert len(sprite.images) < 200
    assert np.array_equal(sprite.images, np.sort(wanted[: len(sprite.images)]))


def test_sprite__gives_up_size_before_ranks_and_ranks_before_images():
    def ranks_and_side(limit):
        sprite, ranks = exemplar_sprite(
            thumbnails, lambda ranks: np.arange(10 * ranks), limit=limit
        )
        return ranks, sprite.side, len(sprite.images)

    thumbnails = noise(80, side=64)
    full = len(exemplar_sprite(thumbnails, lambda _: np.arange(80), limit=10**7)[0].jpeg)
    assert ranks_and_side(full) == (8, 64, 80)
    assert ranks_and_side(full - 1) == (8, 48, 80)
    assert ranks_and_side(full // 6)[:2] == (4, 32)


def test_sprite__of_nothing_that_fits_is_none():
    assert exemplar_sprite(noise(3), lambda _: np.arange(3), limit=10) is None
    assert hover_sprite(noise(3), np.empty(0, np.int64), limit=10_000) is None


def test_sprite__of_the_maps_is_thinned_evenly():
    sprite = hover_sprite(noise(200), np.arange(200), limit=60_000)
    steps = np.diff(sprite.images)
    assert sprite.side == 32
    assert len(sprite.images) < 150
    assert steps.max() - steps.min() <= 1


def test_sprite__neighbours_touch_only_the_colour_of_the_outermost_pixels():
    pixels = np.zeros((4, 32, 32, 3), np.uint8)
    pixels[::2, ..., 0], pixels[1::2, ..., 2] = 255, 255
    sprite, _ = exemplar_sprite(zarr.array(pixels), lambda _: np.arange(4), limit=10**6)
    with Image.open(io.BytesIO(sprite.jpeg)) as image:
        sheet = np.asarray(image).astype(int)
    for place in range(4):
        row, column = divmod(place, sprite.columns)
        tile = sheet[32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
        error = np.abs(tile - pixels[place])
        assert error[1:-1, 1:-1].max() <= 3
        # Colour at half the resolution is interpolated: a quarter of the neighbour's at the rim,
        # and less where two tiles meet at a corner.
        assert error.max() <= 0.45 * 255


def test_sprite__stays_within_its_limit_and_holds_what_is_shown(tmp_path):
    scene = Scene(images=3_000, layers=12, width=200, maps=())
    atlas, recordings = made_atlas(tmp_path, scene)
    payload = payload_in(write_report(atlas, recordings, name="t").path.read_text("utf-8"))
    sprite = payload["sprites"][0]
    exemplars = payload["recordings"][0]["exemplars"]
    held = set(np.frombuffer(b64decode(sprite["images"]["data"]), "<u2"))
    shown = set(np.frombuffer(b64decode(exemplars["most"]["data"]), "<u2"))
    # Noise compresses worse than any photograph.
    assert len(sprite["jpeg"]) <= EXEMPLAR_BYTES * 4 / 3 + 4
    assert shown <= held


@pytest.mark.parametrize("shape", [(40, 28, 28, 1), (40, 20, 64, 3), (40, 96, 96, 3)])
def test_sprite__any_shape_of_thumbnail_fits(tmp_path, shape):
    atlas, recordings = made_atlas(tmp_path, Scene(images=40, thumbnails=False))
    write_thumbnails(atlas, recordings[0], np.full(shape, 200, dtype=np.uint8))
    payload = payload_in(write_report(atlas, recordings, name="t").path.read_text("utf-8"))
    sprite = payload["sprites"][0]
    with Image.open(io.BytesIO(b64decode(sprite["jpeg"]))) as image:
        assert image.size[0] == sprite["side"] * sprite["columns"]
        assert image.mode == ("L" if shape[3] == 1 else "RGB")


def test_sprite__leaves_out_a_control_with_another_test_set(tmp_path):
    # Indices of another test set would pick thumbnails of images that the unit never saw.
    atlas, recordings = made_atlas(tmp_path, Scene(images=2_000, layers=3, width=8, maps=()))
    path = atlas.table_file(RECORDINGS, recordings[1])
    table = pq.ParquetFile(path).read()
    place = table.schema.get_field_index("images_sha256")
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(["other"])), path)
    payload = payload_in(write_report(atlas, recordings, name="t").path.read_text("utf-8"))
    exemplars = payload["recordings"][0]["exemplars"]
    shown = {
        image
        for extreme in ("most", "least")
        for image in np.frombuffer(b64decode(exemplars[extreme]["data"]), "<u2")
    }
    assert set(np.frombuffer(b64decode(payload["sprites"][0]["images"]["data"]), "<u2")) == shown


@pytest.mark.slow
def test_page__stays_small_for_a_whole_network(tmp_path):
    scene = Scene(layers=60, width=160, images=10_000)
    path, _, payload = page_of(tmp_path, scene)
    assert payload["recordings"][0]["figures"]["units"] > 13_500
    assert path.stat().st_size < 8e6


def opened(path: Path, tmp_path: Path, fragment: str = "") -> tuple[str, list[str]]:
    """Return the page's DOM after its scripts ran, and what they logged."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs Chromium")
    done = subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-component-update",
            "--disable-sync", f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1300,900",
            "--enable-logging=stderr", "--v=0", "--dump-dom", f"{path.as_uri()}{fragment}",
        ],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.browser
def test_browser__draws_every_unit_and_opens_the_one_in_the_address(default_page, tmp_path):
    path, _, payload = default_page
    dom, logged = opened(path, tmp_path, "#unit=fc/3")
    units = sum(recording["figures"]["units"] for recording in payload["recordings"])
    assert logged == []
    assert 'data-ready="yes"' in dom
    assert f'data-units="{units}"' in dom
    assert 'data-points="80"' in dom
    assert 'data-opened="fc/3"' in dom
    assert "Images it answers most" in dom
    assert "The widest gap between trained and untrained (one draw) is at" in dom


@pytest.mark.browser
@pytest.mark.parametrize(
    "scene",
    [
        Scene(labelled=False, thumbnails=False, maps=()),
        Scene(classes=NASTY, maps=("umap",), controlled=False),
        Scene(classes=tuple(f"class {i}" for i in range(120)), layers=3, images=400),
    ],
    ids=["nothing but responses", "names with markup, no controls", "many classes"],
)
def test_browser__logs_no_error(tmp_path, scene):
    path, _, _ = page_of(tmp_path, scene, alone=not scene.labelled)
    dom, logged = opened(path, tmp_path, "#unit=conv1/0")
    assert logged == []
    assert 'data-ready="yes"' in dom
    assert ("<code>activarium embed " in dom) != bool(scene.maps)


@pytest.mark.browser
def test_browser__says_what_is_beyond_chance_and_which_classes_are_near(default_page, tmp_path):
    path, _, payload = default_page
    dom, logged = opened(path, tmp_path, "#unit=conv1/2")
    nearest = payload["pairs"]["layers"][-1]["nearest"][0]["classes"]
    one, other = (payload["classes"][code] for code in nearest)
    table = dom[dom.index('id="beyond-table"') : dom.index('id="where"')]
    assert logged == []
    assert table.count("beyond chance and untrained") == 5
    assert table.count("beyond chance<") == 1
    assert f"Nearest: {one} and {other} " in dom
    assert "It copies" in dom[dom.index('id="panel"') :]


@pytest.mark.browser
def test_browser__labels_of_fifty_deep_layers_neither_overlap_nor_leave_the_chart(tmp_path):
    scene = Scene(layers=len(DEEP), names=DEEP, width=4, images=60, maps=())
    path, _, _ = page_of(tmp_path, scene)
    dom, logged = opened(path, tmp_path)
    chart = dom[dom.index('id="beyond-chart"') : dom.index('id="beyond-table"')]
    pattern = r"translate\(([\d.]+) [\d.]+\) rotate\(-48\)\"[^>]*>([^<]+)<"
    labels = [(float(x), text) for x, text in re.findall(pattern, chart)]
    gaps = np.diff([x for x, _ in labels])
    assert logged == []
    assert labels[-1][1] == "heads.head"
    assert {"e.l.el_24.mlp.3", "e.l.el_24.sa.out_proj"} & {text for _, text in labels}
    # Turned by 48 degrees, a line of 10.5 pixels needs 10.5 / sin 48 beside the next.
    assert gaps.min() > 14
    # A character of the fixed-width face is 0.6 of its size wide.
    assert min(x - len(text) * 6.3 * np.cos(np.radians(48)) for x, text in labels) > 0
