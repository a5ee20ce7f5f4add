"""Comparisons of small recordings: their tables, what is not repeated, and what is refused."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.compare_config import CompareConfig
from activarium.schemas.errors import UserError
from activarium.schemas.layers import Layer
from activarium.tasks.reporting.listing import list_recordings
from activarium.tasks.similarity import layer_products
from activarium.tasks.similarity.compare import compare
from activarium.tasks.similarity.compared_pairs import choose_pairs
from activarium.tasks.stores.locking import only_process
from activarium.tasks.stores.parquet_files import read_table
from activarium.tasks.stores.verify import verify

from .similarity_examples import directly

CONFIG = CompareConfig(scheduler="synchronous")
MEASURES = ("cka", "cka_debiased", "rsa", "procrustes")


@pytest.fixture(scope="module")
def raws(make_raw):
    """Two models of the same images; units of the second mix those of the first."""
    first = make_raw()
    mixed = first.responses[:, ::-1] + 0.7 * make_raw(seed=1).responses
    mixed[:, 3] = 2.0
    return first, replace(first, responses=np.where(first.valid[:, None], mixed, np.nan))


@pytest.fixture(scope="module")
def made(tmp_path_factory, raws, write_recording):
    """An atlas with both, compared with each other; tests only read it."""
    atlas = Atlas(tmp_path_factory.mktemp("compared"))
    recordings = [
        write_recording(atlas, raw, name) for raw, name in zip(raws, ("one", "two"), strict=True)
    ]
    return atlas, recordings, compare(atlas, recordings, config=CONFIG)


@pytest.fixture
def both(atlas, raws, write_recording):
    """The same in an atlas of the test's own, not compared."""
    return [
        write_recording(atlas, raw, name) for raw, name in zip(raws, ("one", "two"), strict=True)
    ]


def frames(receipt):
    """Return {(table, recording, other): rows}."""
    return {
        (path.parent.parent.name, path.parent.name.partition("=")[2], path.stem): read_table(
            path
        ).to_pandas()
        for path in receipt.files
    }


def layer_values(raw, rows=None):
    """Return {layer: responses (image, unit)} of the valid images."""
    taken = np.flatnonzero(raw.valid) if rows is None else rows
    stops = np.cumsum([layer.units for layer in raw.layers])
    parts = np.split(raw.responses[taken].astype(np.float64), stops[:-1], axis=1)
    return {layer.name: part for layer, part in zip(raw.layers, parts, strict=True)}


def check_similarities(frame, first, second):
    for _, row in frame.iterrows():
        expected = directly(first[row.layer], second[row.other_layer])
        found = {name: row[name] for name in MEASURES}
        assert found == pytest.approx(expected, abs=1e-9), (row.layer, row.other_layer)
        assert row.alignment_r2 == row.procrustes**2


def test_compare__similarities_equal_those_by_all_pairs_of_images(made, raws):
    _, _, receipt = made
    frame = frames(receipt)["similarities", "one", "two"]
    assert receipt.made
    assert len(frame) == 9
    check_similarities(frame, *(layer_values(raw) for raw in raws))
    assert set(frame.images) == set(frame.rsa_images) == {59}
    assert set(frame.invalid_images) == {2}
    assert frame.depth.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert frame.other_units.tolist() == [6, 9, 5] * 3
    assert receipt.notices == ("one with two: 2 images that could not be decoded are left out",)


def test_compare__one_recording_compares_its_own_layers(atlas, both, raws):
    receipt = compare(atlas, both[:1], config=CONFIG)
    ((key, frame),) = frames(receipt).items()
    assert key == ("similarities", "one", "one")
    layers = layer_values(raws[0])
    check_similarities(frame, layers, layers)
    same = frame[frame.layer == frame.other_layer]
    np.testing.assert_allclose(same[[*MEASURES]], 1, atol=1e-12)
    turned = frame.pivot_table("rsa", "layer", "other_layer").to_numpy()
    np.testing.assert_array_equal(turned, turned.T)


def test_compare__unit_matches_equal_numpy(made, raws):
    _, _, receipt = made
    frame = frames(receipt)["unit_matches", "one", "two"]
    assert frame.unit.tolist() == [
        f"{layer.name}/{channel}" for layer in raws[0].layers for channel in range(layer.units)
    ]
    for name, values in layer_values(raws[0]).items():
        others = layer_values(raws[1])[name]
        rows = frame[frame.layer == name]
        with np.errstate(invalid="ignore", divide="ignore"):
            r = np.corrcoef(values.T, others.T)[: len(rows), len(rows) :]
        r[np.ptp(values, axis=0) == 0] = np.nan
        r[:, np.ptp(others, axis=0) == 0] = np.nan
        np.testing.assert_allclose(rows.same_r, np.diag(r), atol=1e-9)
        size = np.nan_to_num(np.abs(r), nan=-1)
        for place, (best, best_r) in enumerate(zip(rows.best_unit, rows.best_r, strict=True)):
            if size[place].max() < 0:
                assert pd.isna(best)
                continue
            assert best == f"{name}/{size[place].argmax()}"
            assert abs(best_r) == pytest.approx(size[place].max(), abs=1e-9)
        assigned = rows.assigned_unit.dropna()
        assert (
            len(assigned)
            == len(set(assigned))
            == min((size >= 0).any(1).sum(), (size >= 0).any(0).sum())
        )


def test_compare__preferred_classes_are_those_of_the_table_units(analysed, toy, tmp_path):
    atlas = Atlas(tmp_path, analysed.atlas.recordings)
    from activarium.tasks.stores.recording import open_recording

    recordings = [open_recording(atlas, name) for name in ("toy", "untrained")]
    config = CONFIG.model_copy(update={"measures": ("units",)})
    found = frames(compare(atlas, recordings, config=config))["unit_matches", "toy", "untrained"]
    units = toy.frame("units")
    others = type(toy)(analysed.atlas, "untrained").frame("units")
    assert found.unit.tolist() == units.unit.tolist()
    assert found.preferred_class.tolist() == units.preferred_class.tolist()
    assert found.other_preferred_class.tolist() == others.preferred_class.tolist()
    kept = [
        None if pd.isna([*each]).any() else each[0] == each[1]
        for each in zip(units.preferred_class, others.preferred_class, strict=True)
    ]
    assert found.kept_class.tolist() == kept
    assert {True, False, None} <= {*kept}


def first_images(raw, images, label=None):
    """Return the recording's first images alone, with other classes where they are given."""
    fields = ("responses", "active", "label", "valid", "logits", "pooled", "thumbnail")
    kept = {name: getattr(raw, name)[:images].copy() for name in fields}
    return replace(raw, **kept | ({} if label is None else {"label": np.array(label, np.int32)}))


@pytest.mark.parametrize("images", [1, 2])
def test_compare__of_two_images_nothing_is_alike_or_not(images, atlas, raws, write_recording):
    recordings = [
        write_recording(atlas, first_images(raw, images), name)
        for raw, name in zip(raws, ("one", "two"), strict=True)
    ]
    receipt = compare(atlas, recordings, config=CONFIG)
    (notice,) = receipt.notices
    counted = "1 image" if images == 1 else "2 images"
    assert notice.startswith(f"one with two: {counted} in common")
    found = frames(receipt)
    assert found["similarities", "one", "two"][[*MEASURES, "alignment_r2"]].isna().all(axis=None)
    matches = found["unit_matches", "one", "two"]
    columns = ["same_r", "best_unit", "best_r", "assigned_unit", "assigned_r", "preferred_class"]
    assert matches[columns].isna().all(axis=None)


@pytest.mark.parametrize("label", [[0, 1, 2], [0, 0, 0], [0, 0, 1]])
def test_compare__classes_that_cannot_be_told_apart_are_not_preferred(
    label, atlas, raws, write_recording
):
    recordings = [
        write_recording(atlas, first_images(raw, 3, label), name)
        for raw, name in zip(raws, ("one", "two"), strict=True)
    ]
    matches = frames(compare(atlas, recordings, config=CONFIG))["unit_matches", "one", "two"]
    columns = ["preferred_class", "other_preferred_class", "kept_class"]
    assert matches[columns].isna().all(axis=None)
    assert matches.same_r.notna().any()


def check_equal(found, expected):
    for key, frame in expected.items():
        for name in frame.columns:
            if frame[name].dtype == np.float64:
                np.testing.assert_allclose(found[key][name], frame[name], atol=1e-12)
            else:
                assert found[key][name].equals(frame[name])


def test_compare__threads_write_the_same(atlas, both, made):
    config = CONFIG.model_copy(update={"scheduler": "threads"})
    check_equal(frames(compare(atlas, both, config=config)), frames(made[2]))


def test_compare__pieces_can_be_sent_to_other_processes(atlas, both, made, monkeypatch):
    def send(function, arguments, **_):
        for each in arguments:
            sent, pieces = pickle.loads(pickle.dumps((function, each)))  # noqa: S301 - our own
            sent(*pieces)

    monkeypatch.setattr("activarium.tasks.similarity.compare.run_pieces", send)
    check_equal(frames(compare(atlas, both, config=CONFIG)), frames(made[2]))


def test_compare__more_units_than_images(atlas, wide, write_recording):
    receipt = compare(atlas, [write_recording(atlas, wide)], config=CONFIG)
    (frame,) = frames(receipt).values()
    layers = layer_values(wide)
    assert layers["a"].shape == (59, 290)
    check_similarities(frame, layers, layers)


def test_compare__second_time_makes_nothing(atlas, both):
    first = compare(atlas, both, config=CONFIG)
    before = {path: path.stat().st_mtime_ns for path in atlas.root.rglob("*.parquet")}
    again = compare(atlas, both, config=CONFIG.model_copy(update={"scheduler": "threads"}))
    assert (first.made, again.made) == (True, False)
    assert again.files == first.files
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert compare(atlas, both, config=CONFIG.model_copy(update={"seed": 1})).made
    assert not [*atlas.work.rglob("*")]


def test_compare__goes_on_where_it_was_interrupted(atlas, both, raws, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(layer_products, "match_units", stop)
        with pytest.raises(KeyboardInterrupt):
            compare(atlas, both, config=CONFIG)
    stale = atlas.work / "similarity" / "one-000000000000"
    stale.mkdir()
    products = {path: path.stat().st_mtime_ns for path in atlas.work.rglob("products-*.npy")}
    profiles = {path: path.stat().st_mtime_ns for path in atlas.work.rglob("*-profile.npz")}
    assert (len(products), len(profiles)) == (1, 6)

    def keep(of):
        def kept(*arguments):
            assert {path: path.stat().st_mtime_ns for path in products | profiles} == (
                products | profiles
            )
            assert not stale.exists()
            return of(*arguments)

        return kept

    monkeypatch.setattr(layer_products, "match_units", keep(layer_products.match_units))
    frame = frames(compare(atlas, both, config=CONFIG))["similarities", "one", "two"]
    check_similarities(frame, *(layer_values(raw) for raw in raws))
    assert not [*atlas.work.rglob("*")]


def test_compare__images_invalid_in_either_are_left_out(atlas, both, raws, write_recording):
    raw = raws[1]
    valid = raw.valid.copy()
    valid[[10, 20, 30]] = False
    torn = replace(raw, valid=valid, responses=np.where(valid[:, None], raw.responses, np.nan))
    receipt = compare(atlas, [both[0], write_recording(atlas, torn, "torn")], config=CONFIG)
    frame = frames(receipt)["similarities", "one", "torn"]
    rows = np.flatnonzero(valid)
    check_similarities(frame, *(layer_values(each, rows) for each in raws))
    assert set(frame.images) == {56}
    assert set(frame.invalid_images) == {5}


def test_compare__rsa_of_a_sample_that_the_seed_draws(atlas, both):
    found = []
    for seed in (0, 1, 0):
        config = CompareConfig(scheduler="synchronous", measures=("rsa",), rsa_images=20, seed=seed)
        (frame,) = frames(compare(atlas, both[:1], config=config)).values()
        assert set(frame.rsa_images) == {20}
        assert set(frame.images) == {59}
        assert frame[["cka", "cka_debiased", "procrustes", "alignment_r2"]].isna().all(axis=None)
        found.append(frame.rsa)
    assert found[0].equals(found[2])
    assert not found[0].equals(found[1])


def test_compare__measures_that_are_not_asked_for_are_null(atlas, both):
    config = CONFIG.model_copy(update={"measures": ("cka",)})
    receipt = compare(atlas, both, config=config)
    (frame,) = frames(receipt).values()
    assert frame[["cka", "cka_debiased"]].notna().all(axis=None)
    assert frame[["rsa", "procrustes", "alignment_r2"]].isna().all(axis=None)
    assert set(frame.rsa_images) == {0}


def test_compare__layers_by_globs_and_another_architecture(atlas, both, make_raw, write_recording):
    other = make_raw(
        layers=(Layer("conv1", "conv", 0, 4, 8, 8, ""), Layer("head", "linear", 1, 3, 1, 1, ""))
    )
    recording = write_recording(atlas, other, "other")
    config = CONFIG.model_copy(update={"layers": ("conv*", "head")})
    found = frames(compare(atlas, [both[0], recording], config=config))
    frame = found["similarities", "one", "other"]
    assert frame[["layer", "other_layer"]].to_numpy().tolist() == [
        ["conv1", "conv1"],
        ["conv1", "head"],
    ]
    matches = found["unit_matches", "one", "other"]
    assert matches.unit.tolist() == [f"conv1/{channel}" for channel in range(6)]
    assert matches.same_r[4:].isna().all()
    nothing = CONFIG.model_copy(update={"layers": ("fc*", "head")})
    found = frames(compare(atlas, [both[0], recording], config=nothing))
    assert len(found["unit_matches", "one", "other"]) == 0


def test_compare__one_image_is_undefined(atlas, raws, write_recording):
    valid = np.zeros(61, bool)
    valid[7] = True
    lone = replace(
        raws[0], valid=valid, responses=np.where(valid[:, None], raws[0].responses, np.nan)
    )
    recordings = [write_recording(atlas, lone, name) for name in ("a", "b")]
    found = frames(compare(atlas, recordings, config=CONFIG))
    assert found["similarities", "a", "b"][[*MEASURES]].isna().all(axis=None)
    matches = found["unit_matches", "a", "b"]
    assert matches[["same_r", "best_unit", "assigned_unit"]].isna().all(axis=None)


POOLED = CONFIG.model_copy(update={"features": "pooled"})


def test_compare__pooled_features_of_the_layers_that_have_them(atlas, both, raws):
    means = compare(atlas, both, config=CONFIG)
    receipt = compare(atlas, both, config=POOLED)
    ((key, frame),) = frames(receipt).items()
    assert key[:2] == ("similarities", "one")
    half = raws[0].pooled.shape[1] // 2
    one, two = (
        {"conv1": values[:, :half], "fc:2": values[:, half:]}
        for values in (raw.pooled[raw.valid].astype(np.float64) for raw in raws)
    )
    check_similarities(frame, one, two)
    assert frame[["layer", "other_layer"]].to_numpy().tolist() == [
        [layer, other] for layer in ("conv1", "fc:2") for other in ("conv1", "fc:2")
    ]
    assert set(frame.features) == {"pooled"}
    assert frame.units.tolist() == [6, 6, 5, 5]
    # Those by channel means stay beside them, and both are current.
    assert not {*means.files} & {*receipt.files}
    assert not compare(atlas, both, config=CONFIG).made
    assert not compare(atlas, both, config=POOLED).made


def test_compare__without_pooled_features_is_refused(atlas, both, monkeypatch):
    monkeypatch.setattr(type(both[0]), "has", lambda _, name: name != "pooled")
    with pytest.raises(UserError, match="one has no layers with pooled features; record it with"):
        compare(atlas, both, config=POOLED)


def test_compare_config__units_do_not_correspond_by_pooled_features():
    with pytest.raises(ValueError, match="units correspond by channel means alone"):
        CompareConfig(features="pooled", measures=("units",))


def test_choose_pairs__up_to_four_each_with_each_and_more_with_the_last():
    assert choose_pairs(["a"], None) == [("a", "a")]
    assert choose_pairs(["b", "a", "c"], None) == [("b", "a"), ("b", "c"), ("a", "c")]
    assert len(choose_pairs([*"abcd"], None)) == 6
    assert choose_pairs([*"abcde"], None) == [(each, "e") for each in "abcd"]
    assert choose_pairs([*"abc"], "b") == [("a", "b"), ("c", "b")]


def test_compare__several_in_one_call(atlas, raws, write_recording):
    names = ("s1", "s2", "s3", "s4", "s5")
    recordings = [write_recording(atlas, raws[place % 2], name) for place, name in enumerate(names)]
    config = CONFIG.model_copy(update={"measures": ("cka",)})
    found = frames(compare(atlas, recordings, config=config))
    assert {key[1:] for key in found} == {(name, "s5") for name in names[:-1]}
    same = found["similarities", "s1", "s5"]
    assert same.cka[same.layer == same.other_layer].tolist() == pytest.approx([1, 1, 1])


def change(raw, **changes):
    names = changes.pop("image_names", None)
    changed = replace(raw, **changes)
    if names is not None:
        # A dataclass's property is replaced on a class of its own.
        kind = type("Renamed", (type(raw),), {"image_names": names})
        changed = kind(**vars(changed))
    return changed


def _shuffled(raw):
    names = list(raw.image_names)
    names[3], names[5] = names[5], names[3]
    return change(raw, image_names=names)


def _shorter(raw):
    arrays = ("responses", "active", "label", "valid", "logits", "pooled", "thumbnail")
    return replace(raw, **{name: getattr(raw, name)[:40] for name in arrays})


def _relabelled(raw):
    label = raw.label.copy()
    label[9] = (label[9] + 1) % 3
    return replace(raw, label=label)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (_shuffled, "the same images in another order: row 3 is 'set/0003.png' in the first and 'set/0005.png'"),
        (_shorter, "other images: row 40 is 'set/0040.png' in the first and missing in the second"),
        (lambda raw: change(raw, image_names=[f"x/{i}" for i in range(61)]), "row 0 is 'set/0000.png' in the first and 'x/0'"),
        (_relabelled, "for the image 'set/0009.png' in row 9"),
    ],
)  # fmt: skip
def test_compare__recordings_of_different_images_are_refused(
    atlas, both, raws, write_recording, alter, message
):
    odd = write_recording(atlas, alter(raws[1]), "odd")
    with pytest.raises(UserError, match=r"one and odd") as refused:
        compare(atlas, [both[0], odd], config=CONFIG)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not atlas.tables.exists()


def test_compare__no_image_in_common_is_refused(atlas, raws, write_recording):
    halves = np.arange(61) < 30
    recordings = []
    for name, valid in (("a", halves), ("b", ~halves)):
        rows = np.where(valid[:, None], np.nan_to_num(raws[0].responses), np.nan)
        recordings.append(
            write_recording(atlas, replace(raws[0], valid=valid, responses=rows), name)
        )
    with pytest.raises(UserError, match="expected images that are valid in a and b, got none"):
        compare(atlas, recordings, config=CONFIG)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (
            {"layers": ("conv*", "x*")},
            r"compare.layers: 'x\*' matches none of conv1, layer1.0, fc:2",
        ),
        ({"against": "two"}, "expected recordings to compare with two, got none"),
    ],
)
def test_compare__settings_that_fit_nothing_are_refused(atlas, both, update, message):
    with pytest.raises(UserError, match=message):
        compare(atlas, both[1:], config=CONFIG.model_copy(update=update))


def test_compare__pattern_that_leaves_a_recording_without_layers(
    atlas, both, make_raw, write_recording
):
    other = write_recording(
        atlas, make_raw(layers=(Layer("head", "linear", 0, 4, 1, 1, ""),)), "other"
    )
    config = CONFIG.model_copy(update={"layers": ("conv*",)})
    with pytest.raises(UserError, match=r"conv\* matches no layer of other, which has head"):
        compare(atlas, [both[0], other], config=config)


def test_compare__same_recording_twice_is_refused(atlas, both):
    with pytest.raises(UserError, match="got one twice"):
        compare(atlas, [both[0], both[1], both[0]], config=CONFIG)


def test_compare__another_process_at_work_is_said(atlas, both):
    with (
        only_process(atlas.lock("two.similarity"), "comparing"),
        pytest.raises(UserError, match="another process is comparing two"),
    ):
        compare(atlas, both, config=CONFIG)


def test_compare__tables_are_listed_and_verified(atlas, both):
    receipt = compare(atlas, both, config=CONFIG)
    listed = {row["recording"]: row["tables"] for row in list_recordings(atlas)}
    assert listed == {"one": ["similarities", "unit_matches"], "two": []}
    assert not verify(atlas, ["one"]).faults
    content = bytearray(receipt.files[0].read_bytes())
    content[40] ^= 1
    receipt.files[0].write_bytes(content)
    (fault,) = verify(atlas, ["one"]).faults
    assert fault.object == "tables/similarities/recording=one/two.parquet"
