"""Parquet and Arrow files of images, written as the Hugging Face library writes them."""

from __future__ import annotations

import io
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from activarium.schemas.config import TestSetConfig
from activarium.schemas.errors import UserError
from activarium.tasks.images import columnar_files, columnar_reader
from activarium.tasks.images.columnar_files import ParquetImages, open_columnar
from activarium.tasks.images.columnar_reader import Block, ColumnarReader
from activarium.tasks.images.test_sets import UndecodableImageError, load_test_set

FORMATS = ["parquet", "arrow", "arrow-lz4", "stream"]
NAMES = ("ant", "bee", "cat")


def load(path, **settings):
    config = TestSetConfig(source="parquet", path=path, **settings)
    return load_test_set(config, datasets=Path("nowhere"))


def png(value, *, mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, (4, 3), value if mode == "L" else (value, 10, 20)).save(stream, "PNG")
    return stream.getvalue()


def huggingface(column="label", names=NAMES):
    features = {column: {"names": list(names), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    return {"huggingface": json.dumps({"info": {"features": features}})}


def table_of(values, labels, *, as_struct=True, metadata=None, image="image", label="label"):
    contents = [each if isinstance(each, bytes | None) else png(each) for each in values]
    images = [{"bytes": each, "path": None} for each in contents] if as_struct else contents
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if as_struct else pa.binary()
    table = pa.table({image: pa.array(images, kind), label: pa.array(labels)})
    return table.replace_schema_metadata(metadata)


def write(path, table, *, rows=4, kind="parquet"):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=rows)
        return path
    path = path.with_suffix(".arrow")
    options = pa.ipc.IpcWriteOptions(compression="lz4" if kind == "arrow-lz4" else None)
    new = pa.ipc.new_stream if kind == "stream" else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


def first_values(found, indices=None):
    order = range(len(found)) if indices is None else indices
    return [found.image(index).getpixel((0, 0))[0] for index in order]


LABELS = [row % 3 for row in range(11)]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("as_struct", [True, False])
def test_columnar__gives_images_labels_and_the_metadatas_names(tmp_path, kind, as_struct):
    table = table_of(range(11), LABELS, as_struct=as_struct, metadata=huggingface())
    found = load(write(tmp_path / "test-00000-of-00001.parquet", table, kind=kind))
    assert found.labels.tolist() == LABELS
    assert found.class_names == NAMES
    assert first_values(found) == list(range(11))
    assert found.ids[:2] == ("test/000000", "test/000001")
    assert (found.name, found.split, found.colours) == ("test-00000-of-00001", "test", 3)


@pytest.mark.parametrize("kind", FORMATS)
def test_columnar__rows_are_read_in_any_order_and_by_other_processes(tmp_path, kind):
    found = load(write(tmp_path / "a.parquet", table_of(range(50), [0, 1] * 25), kind=kind))
    order = np.random.default_rng(0).permutation(50).tolist()
    assert first_values(found, order) == order
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own bytes
    assert first_values(again, order) == order
    assert len(pickle.dumps(found.reader)) < 2_000


@pytest.mark.parametrize("kind", FORMATS)
def test_columnar__is_read_by_several_threads(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(columnar_reader, "CACHED_BYTES", 500)
    found = load(write(tmp_path / "a.parquet", table_of(range(250), [0] * 250), kind=kind, rows=3))
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda index: found.image(index).getpixel((0, 0))[0], range(250)))
    assert values == list(range(250))


def test_columnar__limit_reads_the_chosen_rows(tmp_path):
    found = load(write(tmp_path / "a.parquet", table_of(range(101), [0, 1] * 50 + [0])), limit=5)
    assert first_values(found) == [0, 25, 50, 75, 100]
    assert found.ids[1] == "test/000025"


# --- splits and files -----------------------------------------------------------------------


def shards(root, split, count, *, rows=6, folder="data"):
    for shard in range(count):
        values = range(shard * rows, (shard + 1) * rows)
        table = table_of(values, [value % 3 for value in values], metadata=huggingface())
        write(root / folder / f"{split}-{shard:05d}-of-{count:05d}.parquet", table)


def test_files__shards_of_a_split_are_read_in_order(tmp_path):
    shards(tmp_path, "test", 3)
    shards(tmp_path, "train", 2)
    found = load(tmp_path)
    assert first_values(found) == list(range(18))
    assert found.name == tmp_path.name
    assert len(load(tmp_path, split="train")) == 12
    assert len(load(tmp_path, split=".")) == 30


@pytest.mark.parametrize("name", ["test/0000.parquet", "default/test/0000.parquet", "test.parquet"])
def test_files__split_may_be_the_folder_or_the_whole_name(tmp_path, name):
    write(tmp_path / name, table_of(range(5), [0, 1, 0, 1, 0]))
    write(tmp_path / name.replace("test", "train"), table_of(range(3), [0, 1, 0]))
    (tmp_path / ".cache").mkdir()
    write(tmp_path / ".cache" / "test.parquet", table_of(range(3), [0, 1, 0]))
    assert len(load(tmp_path)) == 5


def test_files__wrong_split_lists_what_there_is(tmp_path):
    shards(tmp_path, "train", 1)
    with pytest.raises(UserError, match=r"begins with 'test' .* it has data/train-00000-of-00001"):
        load(tmp_path)
    with pytest.raises(UserError, match=r"is of the split 'train', got 'test'"):
        load(tmp_path / "data" / "train-00000-of-00001.parquet")
    with pytest.raises(UserError, match="there is nothing at"):
        load(tmp_path / "absent")
    with pytest.raises(UserError, match="parquet needs a Parquet or Arrow file"):
        load(None)


def test_files__missing_shard_is_one_line_with_both_numbers(tmp_path):
    shards(tmp_path, "test", 3)
    (tmp_path / "data" / "test-00001-of-00003.parquet").unlink()
    with pytest.raises(UserError, match="has 2 files of the split 'test', their names speak of 3"):
        load(tmp_path)


def test_files__same_split_in_two_folders_is_refused(tmp_path):
    shards(tmp_path, "test", 1, folder="small")
    shards(tmp_path, "test", 1, folder="large")
    with pytest.raises(UserError, match=r"2 folders of .* hold the split 'test'"):
        load(tmp_path)
    assert len(load(tmp_path / "small")) == 6


@pytest.mark.parametrize(
    "content", [b"", b"not a table", b"PAR1 cut", b"ARROW1 cut", b"\xff\xff\xff\xff\x10\0\0\0cut"]
)
def test_files__damaged_file_is_one_clear_line(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.parquet") as error:
        load(tmp_path / "a.parquet")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", FORMATS)
def test_files__cut_file_is_one_clear_line(tmp_path, kind):
    path = write(tmp_path / "a.parquet", table_of(range(40), [0, 1] * 20), kind=kind)
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(UserError, match=r"a\.") as error:
        load(path)
    assert "\n" not in str(error.value)


# --- columns and labels ---------------------------------------------------------------------


def test_columns__other_names_are_configured(tmp_path):
    table = table_of(
        range(4), [1, 0, 1, 0], image="img", label="fine", metadata=huggingface("fine")
    )
    path = write(tmp_path / "a.parquet", table)
    found = load(path, image_column="img", label_column="fine")
    assert found.labels.tolist() == [1, 0, 1, 0]
    assert found.class_names == NAMES
    with pytest.raises(UserError, match=r"image_column: .* no column 'image'; it has img, fine"):
        load(path)
    with pytest.raises(UserError, match=r"label_column: .* no column 'label'; it has img, fine"):
        load(path, image_column="img")


def test_columns__that_hold_no_image_files_are_refused(tmp_path):
    path = write(tmp_path / "a.parquet", pa.table({"image": [1, 2], "label": [0, 1]}))
    with pytest.raises(
        UserError, match="has int64 in 'image'; expected the content of image files"
    ):
        load(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_labels__that_are_names_are_sorted_over_all_splits(tmp_path, kind):
    write(tmp_path / "test.parquet", table_of(range(3), ["cat", "ant", "cat"]), kind=kind)
    write(tmp_path / "train.parquet", table_of(range(2), ["bee", "ant"]), kind=kind)
    found = load(tmp_path)
    assert found.class_names == NAMES
    assert found.labels.tolist() == [2, 0, 2]


@pytest.mark.parametrize("kind", FORMATS)
def test_labels__of_a_dictionary_are_names(tmp_path, kind):
    labels = pa.array(["cat", "ant", "cat", None]).dictionary_encode()
    found = load(write(tmp_path / "a.parquet", table_of(range(4), labels), kind=kind))
    assert found.class_names == ("ant", "cat")
    assert found.labels.tolist() == [1, 0, 1, -1]
    assert first_values(found) == [0, 1, 2, 3]


def test_labels__numbers_without_names_are_their_own_names(tmp_path):
    write(tmp_path / "test.parquet", table_of(range(3), [2, 0, None]))
    write(tmp_path / "train.parquet", table_of(range(2), [3, 1]))
    found = load(tmp_path)
    assert found.class_names == ("0", "1", "2", "3")
    assert found.labels.tolist() == [2, 0, -1]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 5, 1], "image 1 has the label 5, but there are names of 3 classes"),
    ],
)
def test_labels__that_are_no_class_of_the_names_are_refused(tmp_path, labels, message):
    path = write(tmp_path / "a.parquet", table_of(range(3), labels, metadata=huggingface()))
    with pytest.raises(UserError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.5, 1.0], "labels are float"),
        ([7_000_000, 1], "the label 7,000,000 is too large"),
        ([[0], [1]], "expected one label an image"),
    ],
)
def test_labels__of_another_kind_are_one_clear_line(tmp_path, labels, message):
    path = write(tmp_path / "a.parquet", table_of(range(2), labels))
    with pytest.raises(UserError, match=message) as error:
        load(path)
    assert "\n" not in str(error.value)


def test_labels__no_rows_are_refused(tmp_path):
    path = write(tmp_path / "a.parquet", table_of([], pa.array([], pa.int64())))
    with pytest.raises(UserError, match="holds no rows"):
        load(path)


@pytest.mark.parametrize("labels", [[None, None], [-1, None]])
def test_labels__none_at_all_are_no_labels(tmp_path, labels):
    found = load(write(tmp_path / "a.parquet", table_of(range(2), pa.array(labels, pa.int64()))))
    assert found.labels.tolist() == [-1, -1]


# --- identity -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_identity__follows_labels_and_content_where_asked_and_not_the_place(tmp_path, kind):
    def identity(name, values, labels, **settings):
        path = write(tmp_path / name / "test.parquet", table_of(values, labels), kind=kind)
        return load(path, **settings).identity

    first = identity("a", range(6), [0, 1] * 3)
    assert identity("b", range(6), [0, 1] * 3) == first
    assert identity("c", range(6), [1, 0] * 3) != first
    assert identity("d", range(7), [0, 1] * 3 + [0]) != first
    hashed = identity("a", range(6), [0, 1] * 3, hash_content=True)
    changed = [png(value) for value in (0, 1, 2, 3, 4, 99)]
    assert identity("e", changed, [0, 1] * 3, hash_content=True) != hashed


# --- images that cannot be decoded ----------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_image__that_is_missing_or_damaged_is_named(tmp_path, kind):
    table = table_of([1, None, b"", b"no image", 5], [0, 1, 0, 1, 0])
    found = load(write(tmp_path / "a.parquet", table, kind=kind))
    for index in (1, 2, 3):
        with pytest.raises(UndecodableImageError, match=f"test/00000{index}"):
            found.image(index)
    assert first_values(found, [0, 4]) == [1, 5]


def test_images__that_are_only_paths_are_refused_with_the_reason(tmp_path):
    path = write(tmp_path / "a.parquet", table_of([None, None], [0, 1]))
    with pytest.raises(UserError, match=r"none of the 2 .* test/000000: the row holds no image"):
        load(path)


def test_images__in_a_damaged_part_of_the_file_are_named_and_others_read(tmp_path):
    path = write(tmp_path / "a.parquet", table_of(range(40), [0, 1] * 20), rows=10)
    found = load(path)
    with pq.ParquetFile(path) as file:
        column = file.metadata.row_group(2).column(0)
        start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    fresh = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own bytes
    assert first_values(fresh, [*range(20), *range(30, 40)]) == [*range(20), *range(30, 40)]
    for index in range(20, 30):
        with pytest.raises(UndecodableImageError, match=f"test/0000{index}"):
            fresh.image(index)


@pytest.mark.parametrize("kind", FORMATS)
def test_colours__of_grey_images_are_one(tmp_path, kind):
    grey = [png(value, mode="L") for value in range(6)]
    assert load(write(tmp_path / "a.parquet", table_of(grey, [0, 1] * 3), kind=kind)).colours == 1
    mixed = [*grey[:5], png(7)]
    assert load(write(tmp_path / "b.parquet", table_of(mixed, [0, 1] * 3), kind=kind)).colours == 3


# --- memory ---------------------------------------------------------------------------------


def test_reader__large_row_group_is_read_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(columnar_files, "BLOCK_BYTES", 100_000)
    monkeypatch.setattr(columnar_reader, "CACHED_BYTES", 200_000)
    rng = np.random.default_rng(0)
    contents = [rng.bytes(10_000) for _ in range(4_000)]
    table = table_of(contents, [0] * 4_000)
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=4_000, write_batch_size=16, use_dictionary=False)
    del table
    (rows,) = ParquetImages(path, "image").contents("label").segments
    assert sum(rows) == 4_000
    assert 9 <= max(rows) <= 11
    blocks = tuple(Block(0, 0, position, count) for position, count in enumerate(rows))
    reader = ColumnarReader((path,), "image", blocks)
    before, peak = pa.total_allocated_bytes(), 0
    for row in range(4_000):
        assert reader.read(row) == contents[row]
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 8 * 2**20  # of 40 MB
    assert reader.read(5) == contents[5]


@pytest.mark.parametrize("kind", FORMATS)
def test_reader__neighbours_are_found_without_reading_again(tmp_path, kind, monkeypatch):
    path = write(tmp_path / "a.parquet", table_of(range(40), [0] * 40), kind=kind, rows=10)
    contents = open_columnar(path, "image").contents("label")
    blocks = tuple(
        Block(0, segment, position, rows)
        for segment, each in enumerate(contents.segments)
        for position, rows in enumerate(each)
    )
    reader = ColumnarReader((path,), "image", blocks)
    opened = []
    own = type(reader._files[0])
    original = own.blocks

    def counting(self, segment):
        opened.append(segment)
        return original(self, segment)

    monkeypatch.setattr(own, "blocks", counting)
    for row in (0, 12, 3, 11, 25, 14, 39, 22):
        assert reader.read(row) == png(row)
    assert len(opened) == len(contents.segments)


def test_files__of_other_endings_are_said_and_links_to_nothing_refused(tmp_path):
    write(tmp_path / "test-0.parquet", table_of(range(3), [0, 1, 0]))
    assert load(tmp_path).notes == ()
    for name in ("test-1.PARQUET", "test-2.parquet.gz", "README.md", ".test-3.csv", "train.csv"):
        (tmp_path / name).write_bytes(b"")
    assert load(tmp_path).notes == (
        "2 files of the test set left out, the first 'test-1.PARQUET': names of files end in .arrow, "
        ".feather, .ipc, .parquet",
    )
    (tmp_path / "test-4.parquet").symlink_to("/nowhere/blob")
    with pytest.raises(UserError, match=r"test-4.parquet is a link to nothing: mount"):
        load(tmp_path)
