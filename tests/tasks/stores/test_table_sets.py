"""Sets of tables: replaced as one, whoever is killed, and what does not belong together is named."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError
from activarium.schemas.receipts import Replacement, SetFile, SetReceipt
from activarium.schemas.tables import LAYERS, UNITS
from activarium.tasks.stores import set_replacing
from activarium.tasks.stores.checksum_files import checksum_file
from activarium.tasks.stores.receipt_files import sealed
from activarium.tasks.stores.set_replacing import moving, replacing_set, settle_tables
from activarium.tasks.stores.table_check import table_findings
from activarium.tasks.stores.table_reading import (
    broken_sets,
    read_settled,
    set_problems,
    table_problems,
)
from activarium.tasks.stores.table_sets import (
    TableSet,
    analysis_set,
    map_set,
    pair_set,
    series_set,
    set_of,
)
from activarium.tasks.stores.verify import verify

COMMAND = "activarium analyse toy --fdr 0.05"


def file(atlas, name, recording="toy"):
    return atlas.tables / name / f"recording={recording}" / f"{name}.parquet"


def write(found, files, value):
    """Write a set whose every file holds the value."""
    with replacing_set(found, inputs=value, command=COMMAND) as staged:
        for path in files:
            staged.path(path).write_text(f"{path.stem} {value}")


@pytest.fixture
def toy(atlas):
    """Return the atlas and the files of a set that is there."""
    files = [file(atlas, name) for name in ("units", "layers", "images")]
    write(analysis_set(atlas, "toy"), files, "old")
    return atlas, files


def problems(atlas):
    return {each.object: each.problem for each in table_findings(atlas, "toy") if each.problem}


@pytest.mark.parametrize("names", ["units,layers,images", "units,recordings"])
def test_replacing__killed_before_any_operation_leaves_the_old_set_or_the_new(names, tmp_path):
    script = Path(__file__).with_name("kill_everywhere.py")
    run = subprocess.run(
        [sys.executable, str(script), str(tmp_path), names], capture_output=True, check=True
    )
    rows = json.loads(run.stdout)
    assert len(rows) > 20
    new = dict.fromkeys(names.split(","), "new")
    whole = (dict.fromkeys(("units", "layers", "images"), "old"), new)
    for _, _, found, said, left, is_same in rows:
        assert (found in whole, said, left, is_same) == (True, [], [], True)
    # It was killed where files of both lay side by side, and after the last operation.
    assert any(mixed == ["new", "old"] for _, mixed, *_ in rows)
    assert rows[0][2] != new == rows[-1][2]


def left_half_done(toy, monkeypatch, *, moved=1):
    """Leave a set of which some files are moved, and one is not."""
    atlas, files = toy
    rename = set_replacing._rename
    left = [moved]

    def some(staged, destination):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        rename(staged, destination)

    with monkeypatch.context() as patch:
        patch.setattr(set_replacing, "_rename", some)
        with pytest.raises(KeyboardInterrupt):
            write(analysis_set(atlas, "toy"), files, "new")
    return atlas, files


def values(files):
    return [path.read_text().split()[1] for path in files]


def test_settle__finishes_what_was_left_and_says_nothing(toy, monkeypatch):
    atlas, files = left_half_done(toy, monkeypatch)
    assert values(files) == ["new", "old", "old"]
    assert settle_tables(atlas) == {}
    assert values(files) == ["new", "new", "new"]
    assert problems(atlas) == {}
    assert analysis_set(atlas, "toy").is_current("new", files)
    assert not list(atlas.staged.iterdir())


def test_is_current__not_while_something_is_left_to_finish(toy, monkeypatch):
    atlas, files = left_half_done(toy, monkeypatch, moved=0)
    assert not analysis_set(atlas, "toy").is_current("old", files)


@pytest.mark.parametrize("damage", ["note", "staged", "moved", "gone"])
def test_settle__what_cannot_be_finished_is_named_until_it_is_made_again(damage, toy, monkeypatch):
    atlas, files = left_half_done(toy, monkeypatch)
    found = analysis_set(atlas, "toy")
    (folder,) = atlas.staged.glob("*.partial")
    if damage == "note":
        found.replacement_file.write_bytes(found.replacement_file.read_bytes()[:-9])
    elif damage == "staged":
        next(folder.iterdir()).write_text("other")
    elif damage == "moved":
        files[0].write_text("other")
    else:
        shutil.rmtree(folder)
    for _ in range(2):
        left = settle_tables(atlas)
        assert list(left) == ["recording=toy"]
        assert "when a run was killed" in left["recording=toy"]
        assert f"run `{COMMAND}` again" in left["recording=toy"]
        assert "when a run was killed" in set_problems(atlas, ["toy", "other"])["toy"]
        with pytest.raises(UserError, match="the tables of toy cannot be read: they were being"):
            read_settled(atlas, ["toy"], list)
        assert read_settled(atlas, ["other"], list) == []
    write(found, files, "newer")
    assert settle_tables(atlas) == {}
    assert problems(atlas) == {}
    assert values(files) == ["newer"] * 3


STAGED = "tables/.staged/.set.partial/00000.parquet"
OUTSIDE = "../mine/units.parquet"


def strange_note(
    atlas, *, path="tables/units/recording=evil/units.parquet", staged=STAGED, gone=()
):
    """Write what a stranger may put into an atlas: a note that says what to move and delete."""
    waiting = atlas.root / STAGED
    waiting.parent.mkdir(parents=True, exist_ok=True)
    waiting.write_text("strange")
    listed = SetFile.model_construct(path=path, size=7, sha256=set_replacing.sha256_file(waiting))
    receipt = SetReceipt.model_construct(inputs="", command=COMMAND, files=(listed,))
    note = Replacement.model_construct(receipt=receipt, staged=(staged,), removed=gone)
    file = atlas.replacement("recording=evil", "analysis")
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(sealed(note))


@pytest.fixture
def mine(atlas):
    """Return a folder beside the atlas, with a file of each kind that a note may name."""
    folder = atlas.root.parent / "mine"
    folder.mkdir()
    for name in ("units.parquet", "units.parquet.sha256", "left.partial", "notes.txt"):
        (folder / name).write_text("mine")
    return folder


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("outside", [OUTSIDE, "{mine}/units.parquet", "tables/../" + OUTSIDE])
@pytest.mark.parametrize("said", ["path", "staged", "gone"])
def test_settle__a_strange_note_changes_nothing_outside_the_atlas(said, outside, atlas, mine):
    outside = outside.format(mine=mine)
    strange_note(atlas, **{said: (outside,) if said == "gone" else outside})
    before = contents(mine)
    assert "its note is damaged" in settle_tables(atlas)["recording=evil"]
    assert contents(mine) == before
    (fault,) = verify(atlas, [], others=True).faults
    assert fault.where == "tables/.staged/recording=evil"


@pytest.mark.parametrize("link", ["tables/units/recording=evil", "checksums/units/recording=evil"])
def test_settle__a_strange_note_moves_nothing_through_a_link(link, atlas, mine):
    strange_note(atlas)
    (atlas.root / link).parent.mkdir(parents=True)
    (atlas.root / link).symlink_to(mine)
    before = contents(mine)
    assert f"{link} is a link" in settle_tables(atlas)["recording=evil"]
    assert contents(mine) == before


def test_settle__litter_behind_a_link_is_not_swept(atlas, mine):
    atlas.tables.mkdir(parents=True)
    atlas.staged.symlink_to(mine)
    before = contents(mine)
    assert settle_tables(atlas) == {}
    assert contents(mine) == before


def test_replacing__a_strange_receipt_deletes_nothing_outside_the_atlas(toy, mine):
    atlas, files = toy
    found = analysis_set(atlas, "toy")
    listed = SetFile.model_construct(path=OUTSIDE, size=4, sha256="")
    receipt = found.receipt.model_copy(update={"files": (*found.receipt.files, listed)})
    found.receipt_file.write_bytes(sealed(receipt))
    before = contents(mine)
    write(analysis_set(atlas, "toy"), files, "new")
    assert contents(mine) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write everywhere")
def test_settle__who_may_not_write_is_told(toy, monkeypatch):
    atlas, _ = left_half_done(toy, monkeypatch)
    monkeypatch.setattr(set_replacing, "READ_SECONDS", 0.1)
    (atlas.root / ".locks").chmod(0o500)
    (atlas.root / ".locks/tables.lock").chmod(0o400)
    assert "that cannot be finished here" in settle_tables(atlas)["recording=toy"]


def test_settle__waits_for_a_process_that_is_moving_files(toy, monkeypatch):
    atlas, _ = left_half_done(toy, monkeypatch)
    monkeypatch.setattr(set_replacing, "WAIT_SECONDS", 0.05)
    with moving(atlas), pytest.raises(UserError, match="another process has been moving tables"):
        settle_tables(atlas)


def test_replacing__a_fault_while_writing_leaves_the_old_set_and_no_litter(toy):
    atlas, files = toy

    def fail():
        with replacing_set(analysis_set(atlas, "toy"), inputs="new", command="") as staged:
            staged.path(files[0]).write_text("half")
            raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        fail()
    assert values(files) == ["old"] * 3
    assert problems(atlas) == {}
    assert not list(atlas.staged.iterdir())


def test_replacing__folder_on_another_disk_works(atlas):
    other = Path("/dev/shm")  # noqa: S108 - what is there is a disk of its own
    if not other.is_dir() or other.stat().st_dev == atlas.root.parent.stat().st_dev:
        pytest.skip("there is no other disk")
    folder = other / f"activarium-{os.getpid()}"
    try:
        folder.mkdir()
        atlas.root.mkdir()
        atlas.maps.symlink_to(folder)
        drawn = file(atlas, "embeddings")
        paths = [drawn, atlas.maps / "recording=toy" / "embeddings.npz"]
        for value in ("old", "new"):
            write(map_set(atlas, "toy", drawn), paths, value)
            assert [path.read_text() for path in paths] == [f"embeddings {value}"] * 2
        assert problems(atlas) == {}
        assert not list(folder.rglob("*.partial"))
    finally:
        shutil.rmtree(folder)


def test_problems__file_of_another_piece_of_work_is_named_with_the_command(toy, tmp_path):
    atlas, files = toy
    other = Atlas(tmp_path / "other")
    write(analysis_set(other, "toy"), [file(other, "units")], "other")
    units = file(other, "units")
    # As an earlier version did, and as copies of one table do.
    shutil.copy(units, files[0])
    shutil.copy(checksum_file(units), checksum_file(files[0]))
    named = "tables/units/recording=toy/units.parquet"
    mixed = "it is of another piece of work than the rest of its set"
    assert problems(atlas) == {named: mixed}
    remedy = f"`{COMMAND}`, with the settings that it was made with, makes it anew"
    assert set_problems(atlas, ["toy"]) == {"toy": f"{named}: {mixed}; {remedy}"}
    # All files of the set are affected; each is told why.
    found = table_problems(atlas, files)
    assert found[files[0]] == f"{mixed}; {remedy}"
    assert found[files[1]] == f"{named}: {mixed}; {remedy}"
    assert not analysis_set(atlas, "toy").is_current("old", files)


def test_broken_sets__what_is_damaged_or_gone_leaves_the_others_what_they_are(toy):
    atlas, files = toy
    content = files[0].read_bytes()
    for damaged in (content[:-3], b"", None):
        if damaged is None:
            files[0].unlink()
        else:
            files[0].write_bytes(damaged)
        assert broken_sets(atlas, files) == {}
        assert set_problems(atlas, ["toy"]) != {}
    analysis_set(atlas, "toy").receipt_file.write_bytes(b"{}")
    assert broken_sets(atlas, files) == {}
    assert list(table_problems(atlas, files)) == files[:1]


def test_problems__every_flipped_bit_and_lost_file_is_told_from_the_others(toy):
    atlas, files = toy
    receipt = analysis_set(atlas, "toy").receipt_file
    for path in (*files, *map(checksum_file, files), receipt):
        content = path.read_bytes()
        for place in range(0, len(content), 7):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            checked = path.relative_to(atlas.root).as_posix()
            (named,) = problems(atlas)
            if path.suffix == ".sha256":
                assert "its checksum file is damaged" in problems(atlas)[named]
                assert table_problems(atlas, files) == {}
            else:
                assert named == checked
        path.unlink()
        # That a receipt is gone is told by tables' footers: test_verify looks at real ones.
        assert problems(atlas) or path == receipt
        path.write_bytes(content)
    assert problems(atlas) == {}


def test_read_settled__reads_again_what_was_replaced_meanwhile(toy):
    atlas, files = toy
    turns = iter(("new", "newer"))

    def read():
        first = values(files)[:1]
        for turn in turns:
            write(analysis_set(atlas, "toy"), files, turn)
            break
        return first + values(files)[1:]

    assert read_settled(atlas, ["toy"], read) == ["newer"] * 3


def test_read_settled__endless_replacing_ends_in_one_line(toy):
    atlas, files = toy

    def read():
        write(analysis_set(atlas, "toy"), files, "again")

    with pytest.raises(UserError, match="are being replaced again and again"):
        read_settled(atlas, ["toy"], read)


def test_read_settled__other_recordings_do_not_matter(toy):
    atlas, _ = toy

    def read():
        write(analysis_set(atlas, "other"), [file(atlas, "units", "other")], "again")
        return "read"

    assert read_settled(atlas, ["toy"], read) == "read"


def test_set_of__every_file_leads_to_its_set(atlas):
    drawn = (
        atlas.table_file(UNITS, "toy").parent.parent.parent / "embeddings/recording=toy/pca.parquet"
    )
    similar = atlas.tables / "similarities/recording=toy/other.parquet"
    changes = [file(atlas, "layer_changes", name) for name in ("a", "b")]
    write(series_set(atlas, "Run 1"), changes, "x")
    expected = {
        atlas.table_file(LAYERS, "toy"): analysis_set(atlas, "toy"),
        drawn: map_set(atlas, "toy", drawn),
        atlas.maps / "recording=toy/pca.npz": map_set(atlas, "toy", drawn),
        atlas.tables / "embedding_quality/recording=toy/pca.parquet": map_set(atlas, "toy", drawn),
        similar: pair_set(atlas, "toy", similar),
        atlas.tables / "unit_matches/recording=toy/other.parquet": pair_set(atlas, "toy", similar),
        changes[0]: series_set(atlas, "Run 1"),
        changes[1]: series_set(atlas, "Run 1"),
        atlas.root / "elsewhere.parquet": None,
    }
    assert {path: set_of(path) for path in expected} == expected


def test_replacing__names_as_long_as_names_can_be(atlas):
    path = atlas.tables / "similarities/recording=toy" / f"{'n' * 218}.parquet"
    found = pair_set(atlas, "toy", path)
    write(found, [path], "old")
    assert problems(atlas) == {}
    assert set_of(path) == found
    assert set_problems(atlas, ["toy"]) == {}
    path.write_text("other")
    assert found.kind == "pair"
    assert "expected" in set_problems(atlas, ["toy"])["toy"]


def test_command__of_tables_of_earlier_versions_follows_from_their_kind(atlas):
    kinds = {"analysis": "analyse toy", "map-pca": "embed toy", "pair-other": "compare toy other"}
    for part, command in kinds.items():
        assert TableSet(atlas, "recording=toy", part).command == f"activarium {command}"


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf ~",
        "activarium analyse toy; rm -rf ~",
        "activarium analyse $(id)",
        "activarium analyse toy\nid",
        "activarium analyse 'toy",
        "activarium run strange.yaml",
        "activarium embed toy --scheduler tcp://strange:8786",
        "activarium analyse toy --root=/home",
        "",
    ],
)
def test_command__of_a_strange_receipt_is_not_told(command, toy):
    atlas, files = toy
    with replacing_set(analysis_set(atlas, "toy"), inputs="new", command=command) as staged:
        staged.path(files[0]).write_text("new")
    assert analysis_set(atlas, "toy").command == "activarium analyse toy"


def test_command__names_that_mean_something_to_a_shell_are_quoted(atlas):
    assert TableSet(atlas, "recording=a;b", "analysis").command == "activarium analyse 'a;b'"
    assert TableSet(atlas, "series=$(id)", "changes").command.endswith("--series '$(id)'")


def test_replacing__files_that_a_set_has_no_more_are_gone_with_their_checksums(toy):
    atlas, files = toy
    write(analysis_set(atlas, "toy"), files[:1], "new")
    assert not any(path.exists() or checksum_file(path).exists() for path in files[1:])
    assert problems(atlas) == {}
