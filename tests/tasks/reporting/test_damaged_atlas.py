"""What readers say of an atlas with damaged tables, tables of two analyses, damaged thumbnails."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.columns import IN_SET_KEY
from activarium.schemas.config import AnalyseConfig, EmbedConfig
from activarium.schemas.errors import UserError
from activarium.schemas.tables import IMAGES, RECORDINGS, UNIT_CLASSES
from activarium.tasks.analysis.analyse import WRITTEN, analyse
from activarium.tasks.embedding.embed import embed
from activarium.tasks.reporting.listing import list_recordings
from activarium.tasks.reporting.query import open_query
from activarium.tasks.reporting.report import write_report
from activarium.tasks.reporting.report_data import report_payload
from activarium.tasks.reporting.summary import summarise
from activarium.tasks.stores.checksum_files import checksum_file, checksum_line
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording import Recording
from activarium.tasks.stores.set_replacing import replacing_set
from activarium.tasks.stores.table_reading import read_settled, set_problems
from activarium.tasks.stores.table_sets import analysis_set
from activarium.tasks.stores.verify import verify

CONFIG = AnalyseConfig(scheduler="synchronous", fdr=0.05, knn_queries=20)
MAPS = EmbedConfig(features=("means",), layers=("fc:2",), methods=("pca",))


@pytest.fixture(scope="module")
def kept(analysed, tmp_path_factory):
    """Return an atlas with tables and a map; nobody may change it."""
    root = tmp_path_factory.mktemp("kept") / "atlas"
    shutil.copytree(analysed.atlas.root, root)
    atlas = Atlas(root)
    embed(atlas, opened(atlas), config=MAPS)
    return atlas


@pytest.fixture
def atlas(kept, tmp_path):
    """Return a copy of it."""
    shutil.copytree(kept.root, tmp_path / "atlas")
    return Atlas(tmp_path / "atlas")


def opened(atlas, name="toy"):
    return Recording(place_at(atlas.recording(name)))


def flipped(content, place):
    return content[:place] + bytes([content[place] ^ 0x20]) + content[place + 1 :]


def page(atlas):
    return write_report(atlas, ["toy", "untrained"], name="digits")


def failure(read, atlas):
    """Return what is said where something cannot be read; None where it can."""
    try:
        read(atlas)
    except UserError as error:
        return str(error)
    return None


def test_report__any_damaged_table_is_named_with_its_command(kept, tmp_path):
    atlas = Atlas(tmp_path / "atlas")
    shutil.copytree(kept.root, atlas.root)
    page(atlas)
    files = sorted(atlas.tables.glob("*/recording=toy/*.parquet"))
    assert len(files) == 11
    for number, file in enumerate(files):
        content = file.read_bytes()
        # In a page, in the dictionary that comes first, in the footer.
        place = (4 + number, len(content) // 2, len(content) - 9 - number)[number % 3]
        for damaged in (flipped(content, place), content[:-20]):
            file.write_bytes(damaged)
            stage = "embed" if file.parent.parent.name.startswith("embedding") else "analyse"
            said = failure(page, atlas)
            if said is None:
                # Densities are not on this page.
                assert file.stem == "densities"
                continue
            assert str(file.relative_to(atlas.root)) in said
            assert f"`activarium {stage} toy" in said
            assert "\n" not in said
        file.write_bytes(content)
    assert not page(atlas).made


def test_analyse__makes_a_damaged_table_anew(atlas):
    file = atlas.table_file(UNIT_CLASSES, "toy")
    content = file.read_bytes()
    file.write_bytes(flipped(content, len(content) // 2))
    assert analyse(atlas, opened(atlas), config=CONFIG).made
    assert file.read_bytes() == content
    assert not analyse(atlas, opened(atlas), config=CONFIG).made


def test_embed__makes_a_damaged_map_anew(atlas):
    (file,) = atlas.maps.glob("recording=toy/*.npz")
    content = file.read_bytes()
    file.write_bytes(flipped(content, len(content) - 300))
    assert embed(atlas, opened(atlas), config=MAPS).made
    assert file.read_bytes() == content
    assert not embed(atlas, opened(atlas), config=MAPS).made


def as_earlier_version(atlas):
    """Write the tables as a version did that knew no sets."""
    shutil.rmtree(atlas.sets)
    for file in atlas.tables.glob("*/recording=*/*.parquet"):
        table = pq.ParquetFile(file).read()
        told = {key: value for key, value in table.schema.metadata.items() if key != IN_SET_KEY}
        pq.write_table(table.replace_schema_metadata(told), file)
        checksum_file(file).write_bytes(checksum_line(file, file.name))


def test_earlier_version__its_tables_are_current_and_said_to_be_checked_less(atlas):
    as_earlier_version(atlas)
    assert not analyse(atlas, opened(atlas), config=CONFIG).made
    assert not embed(atlas, opened(atlas), config=MAPS).made
    found = verify(atlas, ["toy", "untrained"])
    assert (found.faults, found.checked_less) == ((), ("toy", "untrained"))
    assert page(atlas).notices == ()


@pytest.fixture
def other(atlas, tmp_path):
    """Return a copy of the atlas with another analysis."""
    found = Atlas(tmp_path / "other")
    shutil.copytree(atlas.root, found.root)
    analyse(found, opened(found), config=CONFIG.model_copy(update={"seed": 7, "fdr": 0.2}))
    return found


@pytest.fixture(params=["earlier", "this", "this with the checksum"])
def mixed(request, atlas, other):
    """Return an atlas in which one table is of another analysis, told by receipts or without."""
    if request.param == "earlier":
        as_earlier_version(atlas)
        as_earlier_version(other)
    source, file = (each.table_file(IMAGES, "toy") for each in (other, atlas))
    shutil.copy(source, file)
    if request.param != "this":
        shutil.copy(checksum_file(source), checksum_file(file))
    return atlas


def test_mixed__every_reader_names_it_and_the_command_mends_it(mixed):
    file = mixed.table_file(IMAGES, "toy")
    key = str(file.relative_to(mixed.root))
    assert [fault.object for fault in verify(mixed, ["toy"]).faults] == [key]
    rows = {row["recording"]: row for row in list_recordings(mixed)}
    assert rows["untrained"]["problem"] is None
    # A file whose sizes and checksums agree is read only where it is needed.
    assert file.name in (rows["toy"]["problem"] or failure(page, mixed))
    for read in (page, lambda atlas: summarise(atlas, ["toy"])):
        assert file.name in failure(read, mixed)
        assert "activarium analyse toy" in failure(read, mixed)
    result = open_query(mixed, "SELECT count(*) AS images FROM images WHERE recording = 'toy'")
    assert [line.split(" is damaged")[0] for line in result.notices] == [key]
    assert [row for batch in result.batches for row in batch.to_pylist()] == [{"images": 0}]
    assert analyse(mixed, opened(mixed), config=CONFIG).made
    assert verify(mixed, ["toy"]).faults == ()
    assert set_problems(mixed, ["toy"]) == {}


def test_list__damaged_table_is_named(atlas):
    file = atlas.table_file(RECORDINGS, "toy")
    file.write_bytes(flipped(file.read_bytes(), 60))
    rows = {row["recording"]: row for row in list_recordings(atlas)}
    assert "recordings.parquet is damaged" in rows["toy"]["problem"]
    assert (rows["untrained"]["problem"], rows["untrained"]["units"]) == (None, 20)


def sprites(atlas):
    """Return the pictures of a page."""
    return report_payload(atlas, ["toy", "untrained"])["sprites"]


@pytest.mark.parametrize("damage", ["flipped", "gone", "cut", "receipt"])
def test_report__damaged_thumbnails_are_left_out_and_named(damage, atlas):
    whole = sprites(atlas)
    store = Path(atlas.recording("toy"))
    file = store / "thumbnail/c/1/0/0/0"
    if damage == "receipt":
        file = store / "receipts/shard-00001.json"
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(content[:-9] if damage == "cut" else flipped(content, len(content) // 2))
    receipt = page(atlas)
    (notice,) = receipt.notices
    key = file.relative_to(store).as_posix()
    assert notice.startswith(f"the thumbnails of 25 images are left out: {key} of ")
    assert "`activarium record --repair` makes it again" in notice
    assert notice.split(" of /")[0] in receipt.path.read_text()
    assert len(sprites(atlas)[0]["images"]["data"]) < len(whole[0]["images"]["data"])
    if damage != "gone":
        file.write_bytes(content)
        assert sprites(atlas) == whole


@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_report__damaged_metadata_of_the_recording_costs_the_thumbnails_alone(place, atlas):
    file = Path(atlas.recording("toy")) / "zarr.json"
    content = file.read_bytes()
    file.write_bytes(flipped(content, int(len(content) * place)))
    receipt = page(atlas)
    assert len(receipt.notices) == 1
    assert "thumbnails" in receipt.notices[0]
    assert sprites(atlas) == []


def test_mixed__map_of_an_earlier_version_with_the_quality_of_another_is_named(atlas, tmp_path):
    other = Atlas(tmp_path / "other")
    shutil.copytree(atlas.root, other.root)
    embed(other, opened(other), config=MAPS.model_copy(update={"dimensions": 3}))
    as_earlier_version(atlas)
    as_earlier_version(other)
    (source,) = other.tables.glob("embedding_quality/recording=toy/*.parquet")
    file = atlas.root / source.relative_to(other.root)
    shutil.copy(source, file)
    shutil.copy(checksum_file(source), checksum_file(file))
    assert "embedding_quality" in set_problems(atlas, ["toy"])["toy"]
    assert "activarium embed toy" in failure(page, atlas)
    assert embed(atlas, opened(atlas), config=MAPS).made
    assert set_problems(atlas, ["toy"]) == {}


class Replacing:
    """Replaces the analysis of an atlas by that of another, and back, while others read."""

    def __init__(self, atlas, other, *, pause):
        self.turns = 0
        self._stop = threading.Event()
        self._sources = other, Atlas(atlas.root.with_name("first"))
        shutil.copytree(atlas.tables, self._sources[1].tables)
        self._atlas, self._pause = atlas, pause
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        while not self._stop.wait(self._pause):
            source = self._sources[self.turns % 2]
            found = analysis_set(self._atlas, "toy")
            with replacing_set(found, inputs=str(self.turns), command="analyse") as staged:
                for table in WRITTEN:
                    path = staged.path(self._atlas.table_file(table, "toy"))
                    shutil.copy(source.table_file(table, "toy"), path)
            self.turns += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def test_verify__beside_what_replaces_tables_gives_no_false_alarm(atlas, other):
    with Replacing(atlas, other, pause=0) as replacing:
        while replacing.turns < 20:
            assert verify(atlas, ["toy"]).faults == ()
            assert set_problems(atlas, ["toy"]) == {}


def test_report__while_tables_are_replaced_is_of_one_analysis(atlas, other):
    def read():
        return report_payload(atlas, ["toy", "untrained"])

    expected = [report_payload(each, ["toy", "untrained"]) for each in (atlas, other)]
    assert expected[0] != expected[1]
    with Replacing(atlas, other, pause=0.1) as replacing:
        while replacing.turns < 10:
            try:
                found = read_settled(atlas, ["toy"], read)
            except UserError as error:
                found = expected[0]
                replaced = "are being replaced again and again" in str(error)
                assert replaced
            assert found in expected
