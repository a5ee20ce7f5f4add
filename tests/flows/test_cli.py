from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from activarium.flows.next_steps import Ending, where
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording_store import reopen

from .conftest import program


@pytest.fixture(scope="module")
def atlas(tmp_path_factory):
    """An atlas with one finished tiny run."""
    import yaml

    from .conftest import TINY

    folder = tmp_path_factory.mktemp("cli")
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(TINY))
    done = subprocess.run(
        [program("activarium"), "run", file, "--root", folder / "atlas", "--no-prefect"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert "next  " in done.stdout
    return folder / "atlas"


COMMANDS = [
    "demo", "run", "train", "record", "analyse", "embed", "compare", "watch", "report",
    "list", "verify", "query",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help__every_command_shows_an_example(activarium, command):
    code, out, _ = activarium(command, "--help")
    assert code == 0
    assert f"activarium {command}" in out.split("Example:")[1]


def test_run__second_run_makes_nothing_and_says_so(activarium, atlas):
    before = {path: path.stat().st_mtime_ns for path in atlas.rglob("*") if path.is_file()}
    code, out, _ = activarium("run", atlas.parent / "tiny.yaml", "--root", atlas, "--no-prefect")
    assert code == 0
    assert "nothing was made anew" in out
    after = {path: path.stat().st_mtime_ns for path in atlas.rglob("*") if path.is_file()}
    changed = {path.name for path in after if before.get(path) != after[path]}
    assert all(name.endswith(".lock") for name in changed)


def test_run__parts_record_theirs_and_the_last_goes_on(activarium, tiny_file, tmp_path):
    root = tmp_path / "parts"
    command = ["run", tiny_file, "--root", root, "--no-prefect"]
    code, out, _ = activarium(*command, "--part", "1/2")
    assert code == 0
    assert out.startswith("recorded part 1/2 of two-block-cnn")
    assert "3 shards are left for other parts; the part that completes them goes on" in out
    assert not (root / "tables").exists()
    code, out, _ = activarium(*command, "--part", "2/2", "--devices", "cpu:1")
    assert code == 0
    assert (root / "reports" / "tiny.html").exists()
    assert "accuracy" in out
    code, out, _ = activarium(*command, "--part", "1/2")
    assert "nothing was made anew" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--part", "3/2"], "part: expected i/n with i from 1 to n"),
        (["--part", "1/2", "--dask", "tcp://127.0.0.1:1"], "leave out --part and --devices"),
        (["--devices", "cpu:1", "--dask", "tcp://127.0.0.1:1"], "leave out --part and --devices"),
        (["--dask", "inproc://x"], "expected the address of a Dask scheduler"),
        (["--devices", "cuda:99"], "cuda:99"),
    ],
)
def test_run__options_that_cannot_be_are_one_line(activarium, atlas, options, message):
    file = atlas.parent / "tiny.yaml"
    code, _, err = activarium("run", file, "--root", atlas, "--no-prefect", *options)
    assert code == 2
    (line,) = err.strip().splitlines()
    assert message in line


def test_run__options_that_do_not_go_together_are_told_before_training(activarium, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "test_set: {source: digits, limit: 40}\nmodel: {architecture: two-block-cnn, width: 2}\n"
        "training: {epochs: 1, limit: 40}\n"
    )
    options = ["--root", tmp_path / "new", "--no-prefect", "--dask", "tcp://127.0.0.1:1"]
    code, _, err = activarium("run", file, *options, "--part", "1/2")
    assert code == 2
    assert err.startswith("error: --dask spreads")
    assert not list((tmp_path / "new").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("test_set.split=nope", "test_set.split"),
        ("record.layers=[nothing*]", "record.layers"),
        ("record.pooled_layers=[zz]", "record.pooled_layers"),
        ("model.output=zz", "model.output"),
        ("model.tokens=class", "model.tokens"),
        ("analyse.where=nope > 1", "nope"),
        ("analyse.where=confidence", "expected a condition, true or false"),
        ("analyse.controls=[nope]", "analyse.controls: no recording begins with 'nope'"),
        ("embed.into=nope", "embed.into: no recording begins with 'nope'"),
        ("embed.layers=[zz]", "embed.layers: 'zz' matches none"),
        ("analyse.scheduler=tcp://127.0.0.1:1", "no Dask scheduler answers"),
        ("embed.scheduler=tcp://127.0.0.1:1", "no Dask scheduler answers"),
    ],
)
def test_run__what_would_stop_a_later_stage_is_told_before_training(
    activarium, tmp_path, setting, message
):
    file = tmp_path / "run.yaml"
    file.write_text(
        "test_set: {source: digits, limit: 40}\nmodel: {architecture: two-block-cnn, width: 2}\n"
        "training: {epochs: 1, limit: 40}\n"
    )
    options = ["--root", tmp_path / "new", "--no-prefect", "--set", setting]
    code, _, err = activarium("run", file, *options)
    assert code == 2
    assert message in err.splitlines()[-1]
    assert not list((tmp_path / "new").rglob("*.safetensors"))


def test_list__json_names_recordings_with_their_tables(activarium, atlas):
    code, out, _ = activarium("list", "--root", atlas, "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["status"] for row in rows] == ["complete"] * 3
    assert {"units", "unit_classes", "layers"} <= set(rows[0]["tables"])
    assert [row["checkpoint"] for row in rows] == ["epoch-001", "untrained-3-draws", "untrained"]


def test_list__root_from_the_environment(activarium, atlas, monkeypatch):
    monkeypatch.setenv("ACTIVARIUM_ROOT", str(atlas))
    code, out, _ = activarium("list")
    assert code == 0
    assert "epoch-001" in out


def test_query__rows_as_json_and_as_a_table(activarium, atlas):
    sql = "SELECT layer, count(*) AS n FROM units GROUP BY ALL ORDER BY min(depth)"
    code, out, _ = activarium("query", sql, "--root", atlas, "--json")
    assert code == 0
    rows = json.loads(out)
    assert [row["layer"] for row in rows] == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert rows[0]["n"] == 2 * 4
    _, out, _ = activarium("query", sql, "--root", atlas)
    assert out.splitlines()[0].split() == ["layer", "n"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query", "SELECT nothing FROM units"], "nothing"),
        (["query", "SELECT * FROM similarities"], "tables in"),
        (["analyse", "no-such", "--no-prefect"], "no recording begins with 'no-such'"),
        (["embed", "two-block", "--no-prefect"], "2 recordings begin with 'two-block'"),
        (["embed", "two-block-cnn-w4-epoch", "--layer", "x*", "--no-prefect"], "embed.layers"),
        (["embed", "two-block-cnn-w4-epoch", "--method", "mds", "--no-prefect"], "methods"),
        (["verify", "no-such"], "no recording begins"),
        (["run", "none.yaml", "--no-prefect"], "cannot read the configuration"),
    ],
)
def test_errors__are_one_line_with_exit_code_2(activarium, atlas, arguments, message):
    code, out, err = activarium(*arguments, "--root", atlas)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.startswith("error:")
    assert err.count("\n") == 1


BRACKETS = "SELECT '[/b] x' AS \"[red]h\", ':smile:' AS e, '[bold]' AS b"


def test_query__text_that_looks_like_markup_is_printed_as_it_is(activarium, tmp_path):
    code, out, _ = activarium("query", BRACKETS, "--root", tmp_path)
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["[red]h", "e", "b"],
        ["[/b]", "x", ":smile:", "[bold]"],
    ]
    code, _, err = activarium("query", "SELECT * FROM '[/b] [red].parquet'", "--root", tmp_path)
    assert code == 2
    assert "[/b] [red].parquet" in err


def test_list__folder_that_looks_like_markup_is_named(activarium, tmp_path):
    root = tmp_path / "[red]a" / "[" / "b]"
    assert str(root) in activarium("list", "--root", root)[1]


def test_query__json_is_valid_for_values_that_json_lacks(activarium, tmp_path):
    sql = (
        "SELECT 'nan'::DOUBLE AS n, [1.0, '-inf'::DOUBLE] AS l, sum(3::BIGINT) AS s, "
        "1.50::DECIMAL(9, 2) AS d, DATE '2024-01-02' AS day, "
        "TIMESTAMP '2024-01-02 03:04:05' AS t, NULL AS nothing, true AS yes, '[/b]' AS x"
    )

    def refuse(constant):
        raise AssertionError(constant)

    code, out, _ = activarium("query", sql, "--root", tmp_path, "--json")
    assert code == 0
    assert json.loads(out, parse_constant=refuse) == [
        {
            "n": None, "l": [1.0, None], "s": 3, "d": 1.5, "day": "2024-01-02",
            "t": "2024-01-02T03:04:05", "nothing": None, "yes": True, "x": "[/b]",
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--no-prefect"],
        ["demo"],
        ["run", "TINY"],
        ["train", "TINY"],
        ["record", "TINY"],
        ["analyse", "x"],
        ["embed", "x"],
        ["compare", "x"],
        ["report", "x"],
    ],
)
def test_writing__folder_that_cannot_be_made_is_one_line(activarium, tiny_file, arguments):
    arguments = [tiny_file if each == "TINY" else each for each in arguments]
    code, out, err = activarium(*arguments, "--root", "/dev/null/x")
    assert (code, out) == (2, "")
    assert err.startswith("error: cannot make the atlas folder /dev/null/x")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["analyse", "x", "--fdr", "2"],
            "Invalid value for '--fdr': ",
        ),
        (["analyse", "x", "--fdr=2"], "got '2'; see `activarium analyse --help`"),
        (["embed", "x", "--dimensions", "7"], "got '7'; see `activarium embed --help`"),
        (["embed", "x", "--seed", "one"], "got 'one'"),
        (["analyse"], "Missing argument"),
        (["list", "--no-such"], "No such option"),
        (["analyze", "x"], "No such command 'analyze'"),
    ],
)
def test_command_line__that_cannot_be_read_is_one_line(activarium, arguments, message):
    code, out, err = activarium(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_command_line__without_a_command_shows_the_commands(activarium):
    code, out, err = activarium()
    assert code == 2
    assert "analyse" in out + err
    assert "error" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        ["query", "SELEC"],
        ["verify"],
        ["embed", "no-such", "--no-prefect"],
        ["run", "none.yaml"],
    ],
)
def test_verbose__traceback_follows_the_line(activarium, tmp_path, arguments):
    code, _, short = activarium(*arguments, "--root", tmp_path)
    assert (code, short.count("\n")) == (2, 1)
    code, _, long = activarium(*arguments, "-v", "--root", tmp_path)
    assert code == 2
    assert long.startswith(short + "Traceback")


@pytest.mark.parametrize("command", COMMANDS)
def test_verbose__every_command_has_it(activarium, command):
    assert "--verbose" in activarium(command, "--help")[1]


@pytest.mark.parametrize(("arguments", "message"), [(["nope"], "nope"), (["list", "-x"], "-x")])
def test_usage__error_is_exit_code_2(activarium, arguments, message):
    code, _, err = activarium(*arguments)
    assert code == 2
    assert message in err


def test_usage__nothing_asked_is_help(activarium):
    _, out, _ = activarium()
    assert "Commands" in out


def test_interrupt__says_what_to_do_and_exits_130(tiny_file, tmp_path):
    command = [
        program("activarium"), "run", tiny_file, "--set", "training.epochs=5000",
        "--root", tmp_path / "atlas", "--no-prefect",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        first = running.stderr.readline()
        time.sleep(1)
        running.send_signal(signal.SIGINT)
        _, rest = running.communicate(timeout=60)
    assert first.endswith(" ...\n")
    assert rest.splitlines()[-1] == "interrupted; run the same command again to go on"
    assert "Traceback" not in rest
    assert running.returncode == 130


def test_embed__features_threads_and_scheduler_are_options(activarium, atlas, tmp_path):
    copy = tmp_path / "atlas"
    shutil.copytree(atlas, copy)
    options = ["--features", "means", "--features", "logits", "--method", "pca"]
    options += ["--layer", "conv2", "--threads", "1", "--max-images", "50"]
    options += ["--scheduler", "synchronous", "--root", copy, "--no-prefect"]
    code, out, _ = activarium("embed", "two-block-cnn-w4-untrained", *options)
    assert code == 0
    assert "embedded" in out
    sql = (
        "SELECT DISTINCT features, layer FROM embeddings WHERE recording LIKE '%untrained%' "
        "ORDER BY features"
    )
    _, out, _ = activarium("query", sql, "--root", copy, "--json")
    expected = [("logits", "logits"), ("means", "conv2")]
    assert [tuple(row.values()) for row in json.loads(out)] == expected


def test_embed__checkpoints_share_one_map(activarium, atlas, tmp_path):
    copy = tmp_path / "atlas"
    shutil.copytree(atlas, copy)
    options = ["--features", "pooled", "--layer", "conv2", "--method", "pca"]
    options += ["--root", copy, "--no-prefect"]
    code, _, err = activarium("embed", "two-block-cnn-w4-untrained", "--into", "no-such", *options)
    assert code == 2
    assert "no recording begins with 'no-such'" in err
    into = ["--into", "two-block-cnn-w4-epoch"]
    code, _, _ = activarium("embed", "two-block-cnn-w4-untrained", *into, *options)
    assert code == 0
    sql = 'SELECT DISTINCT recording, "into", is_placed FROM embeddings WHERE "into" IS NOT NULL'
    _, out, _ = activarium("query", sql, "--root", copy, "--json")
    (row,) = json.loads(out)
    assert "untrained" in row["recording"]
    assert row["into"].startswith("two-block-cnn-w4-epoch")
    assert row["is_placed"] is True


def test_run__outputs_that_are_not_the_classes_are_said(activarium, tiny_file, tmp_path):
    options = ["--set", "model.weights=untrained", "--set", "model.outputs=7", "--no-prefect"]
    code, out, _ = activarium("run", tiny_file, *options, "--root", tmp_path / "atlas")
    assert code == 0
    assert "the model has 7 outputs, the test set 10 classes: predictions cannot be" in out
    assert "accuracy is left out" in out
    assert "accuracy -" not in out


def test_verify__atlas_without_recordings_is_an_error(activarium, tmp_path):
    code, _, err = activarium("verify", "--root", tmp_path)
    assert code == 2
    assert f"no recordings in {tmp_path / 'recordings'}" in err


def test_verify__tables_whose_recording_is_gone_are_checked(activarium, atlas, tmp_path):
    copy = tmp_path / "atlas"
    shutil.copytree(atlas, copy)
    (gone,) = copy.glob("recordings/*untrained-digits*.zarr")
    shutil.rmtree(gone)
    code, out, _ = activarium("verify", "--root", copy)
    assert code == 0
    assert f"{gone.stem}: the recording is gone, its tables were checked" in out


def test_verify__sound_atlas_is_0_and_a_flipped_byte_is_1(activarium, atlas, tmp_path):
    copy = tmp_path / "atlas"
    shutil.copytree(atlas, copy)
    assert activarium("verify", "--root", copy)[0] == 0
    chunk = next(copy.glob("recordings/*epoch*/channel_mean/c/1/0"))
    content = bytearray(chunk.read_bytes())
    content[17] ^= 4
    chunk.write_bytes(content)
    code, out, _ = activarium("verify", "--root", copy, "--json")
    assert code == 1
    faults = json.loads(out)["faults"]
    assert [fault["object"] for fault in faults] == ["channel_mean/c/1/0"]


def test_verify__unfinished_is_3_and_damaged_1_also_where_both(activarium, atlas, tmp_path):
    copy = tmp_path / "atlas"
    shutil.copytree(atlas, copy)
    (store,) = copy.glob("recordings/*epoch*")
    reopen(place_at(store))
    (store / "receipts" / "shard-00001.json").unlink()
    code, out, _ = activarium("verify", "--root", copy)
    assert code == 3
    assert f"{store.stem} is unfinished: the recording is not complete: 50 images" in out
    assert "0 damaged, 1 unfinished, 0 unknown" in out
    (page,) = copy.glob("reports/*.html")
    page.write_bytes(page.read_bytes()[:-100])
    (copy / "note.txt").write_bytes(b"mine")
    code, out, _ = activarium("verify", "--root", copy)
    assert code == 1
    assert f"reports/{page.name}: the content differs from its sha256 (`activarium report`" in out
    assert "note.txt is unknown: no checksum covers it" in out
    assert "1 damaged, 1 unfinished, 1 unknown" in out


def test_verify__mistyped_address_of_recordings_is_2(activarium, atlas, tmp_path):
    code, out, err = activarium("verify", "--root", atlas, "--recordings", tmp_path / "typo")
    assert (code, out) == (2, "")
    assert "is the address right?" in err


def test_analyse__other_settings_make_the_tables_anew(activarium, atlas):
    name = "two-block-cnn-w4-untrained"
    code, out, _ = activarium("analyse", name, "--fdr", "0.2", "--root", atlas, "--no-prefect")
    assert code == 0
    assert "analysed" in out
    assert "nothing made anew" not in out
    _, out, _ = activarium(
        "query", "SELECT DISTINCT fdr FROM layers ORDER BY 1", "--root", atlas, "--json"
    )
    assert {row["fdr"] for row in json.loads(out)} == {0.01, 0.2}


def test_report__names_its_page(activarium, atlas):
    code, out, _ = activarium(
        "report", "two-block-cnn-w4-epoch", "--name", "Mine", "--root", atlas, "--no-prefect"
    )
    assert code == 0
    assert (atlas / "reports" / "mine.html").is_file()
    assert "mine.html" in out


@pytest.mark.parametrize("name", ["a" * 300, ".hidden"])
def test_report__name_that_no_file_can_have_is_one_line(activarium, atlas, name):
    code, _, err = activarium(
        "report", "two-block-cnn-w4-epoch", "--name", name, "--root", atlas, "--no-prefect"
    )
    assert code == 2
    assert "--name: expected a name of 1 to 100 letters" in " ".join(err.split())


def test_module__importing_the_command_line_loads_neither_torch_nor_prefect():
    code = "import sys, activarium.flows.cli; print({'torch', 'prefect'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stdout.strip() == "set()"
    assert Path(program("activarium")).is_file()


def test_record__names_the_images_that_it_skipped(activarium, tmp_path):
    from PIL import Image

    for name in ("a", "b"):
        folder = tmp_path / "images" / "test" / name
        folder.mkdir(parents=True)
        for index in range(3):
            Image.new("RGB", (16, 16), (80 * index, 10, 10)).save(folder / f"{index}.png")
    (tmp_path / "images" / "test" / "b" / "torn.png").write_bytes(b"\x89PNG torn")
    file = tmp_path / "run.yaml"
    file.write_text(
        "test_set: {source: imagefolder, path: images}\n"
        "model: {architecture: two-block-cnn, width: 4, weights: untrained}\n"
    )
    code, out, _ = activarium("record", file, "--root", tmp_path / "atlas", "--no-prefect")
    assert code == 0
    assert "recorded 7 images" in out
    assert "1 image could not be decoded: test/b/torn.png" in out


def small_set(folder, classes, invalid=0):
    """A folder of images by class, the last ones of the first class no images, and its run."""
    from PIL import Image

    for code, (name, images) in enumerate(classes.items()):
        own = folder / "images" / "test" / name
        own.mkdir(parents=True)
        for index in range(images):
            colour = (40 * code, 255 - 20 * index, (70 * index) % 255)
            Image.new("RGB", (16, 16), colour).save(own / f"{index:02d}.png")
    for index in range(invalid):
        (folder / "images" / "test" / next(iter(classes)) / f"{90 + index}.png").write_bytes(b"-")
    file = folder / "run.yaml"
    file.write_text(
        "name: small\ntest_set: {source: imagefolder, path: images}\n"
        "model: {architecture: two-block-cnn, width: 4, weights: untrained}\n"
        "controls: [shuffle]\nanalyse: {permutations: 9}\n"
    )
    return file


@pytest.mark.parametrize(
    ("classes", "invalid", "said"),
    [
        ({"a": 3, "b": 3, "c": 3}, 0, "In the last hidden layer, "),
        ({"a": 2, "b": 1}, 12, "only a has two images or more: classes cannot be tested"),
        ({"a": 1, "b": 1}, 0, "1 image per class: classes cannot be tested"),
        ({"a": 1}, 0, "all images with a class are of one, a"),
    ],
    ids=["nine", "few that are valid", "two", "one"],
)
def test_run__few_images_have_all_but_maps(classes, invalid, said, activarium, tmp_path):
    file, atlas = small_set(tmp_path, classes, invalid), tmp_path / "atlas"
    code, out, err = activarium("run", file, "--root", atlas, "--no-prefect")
    assert code == 0, err
    assert (out + err).count(said) == 1
    assert "maps are left out, which need 10" in err
    assert "from the rest: AUROC" not in out or said.startswith("class preference")
    assert (atlas / "reports" / "small.html").exists()
    for table in ("units", "unit_classes", "layers", "images", "exemplars", "recordings"):
        assert list((atlas / "tables" / table).glob("*/*.parquet")), table
    name = next((atlas / "recordings").glob("*.zarr")).stem
    code, out, err = activarium("embed", name, "--root", atlas, "--no-prefect")
    assert code == 0
    assert out == f"no map of {name} was made\n"
    assert "maps are left out" in err


def test_analyse__selection_that_leaves_one_image_per_class_says_so(activarium, tmp_path):
    file, atlas = small_set(tmp_path, {"a": 3, "b": 3}), tmp_path / "atlas"
    assert activarium("record", file, "--root", atlas, "--no-prefect")[0] == 0
    name = next((atlas / "recordings").glob("*.zarr")).stem
    select = ["--where", "image LIKE '%00.png'", "--name", "first"]
    code, _, err = activarium("analyse", name, *select, "--root", atlas, "--no-prefect")
    assert code == 0
    assert err.count("1 image per class: classes cannot be tested") == 1


def test_query__recordings_can_be_named(activarium, atlas):
    sql = "SELECT DISTINCT recording FROM units"
    for wanted in ("*untrained*", "two-block-cnn-w4-untrained"):
        code, out, _ = activarium("query", sql, "--recording", wanted, "--root", atlas, "--json")
        assert code == 0
        (row,) = json.loads(out)
        assert "-untrained-" in row["recording"]
    code, _, err = activarium("query", sql, "--recording", "no-such", "--root", atlas)
    assert (code, err.count("\n")) == (2, 1)
    assert "--recording 'no-such'" in err


CONFIG = "tiny.yaml"
EPOCH = "two-block-cnn-w4-epoch"
QUICK = ("--permutations", "9")


@pytest.fixture(scope="module")
def own_atlas(atlas, tmp_path_factory):
    """A copy that tests may add to."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copy(atlas.parent / CONFIG, folder)
    return shutil.copytree(atlas, folder / "atlas")


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["train", CONFIG], ""),
        (["record", CONFIG], ""),
        (["record", CONFIG, "--checkpoints", "trained", "--series", "tiny"], ""),
        (["analyse", EPOCH, *QUICK], "the class is associated with"),
        (
            ["analyse", EPOCH, "--where", "label < 5", "--name", "a", *QUICK],
            "the class is associated with",
        ),
        (["analyse", EPOCH, "--target", "confidence", "--name", "b"], "follows confidence with"),
        (["embed", EPOCH, "--method", "pca", "--layer", "conv2"], "clearest map: pca of the"),
        (["compare", EPOCH], "of neighbouring layers: median"),
        (["compare", EPOCH, "two-block-cnn-w4-untrained"], "of the same layer of both: median"),
    ],
)
def test_end__says_what_was_found_and_a_next_command_that_works(
    activarium, own_atlas, arguments, found, monkeypatch
):
    monkeypatch.chdir(own_atlas.parent)
    code, out, err = activarium(*arguments, "--root", own_atlas, "--no-prefect")
    assert code == 0, err
    *lines, last = out.splitlines()
    assert any(found in line for line in lines)
    assert last.startswith("next: activarium ")
    code, out, err = activarium(*shlex.split(last)[2:])
    assert code == 0, err
    assert out


def test_end__json_is_the_document_alone(activarium, own_atlas):
    arguments = ("compare", EPOCH, "--root", own_atlas, "--no-prefect", "--json")
    assert json.loads(activarium(*arguments)[1])["recording"]


@pytest.mark.parametrize("root", ["my atlas", "it's", "$HOME/a", "-atlas", "ä\\b"])
def test_end__commands_are_quoted_as_a_shell_reads_them(root, monkeypatch):
    monkeypatch.delenv("ACTIVARIUM_ROOT", raising=False)
    ending = Ending(Path(root), "s3://bucket/a b", no_prefect=True)
    words = shlex.split(ending.command("report", "a~b"))
    assert words == [
        *("activarium", "report", "a~b", "--root", root),
        *("--recordings", "s3://bucket/a b", "--no-prefect"),
    ]
    sql = " ".join(["SELECT 'it''s', \"$HOME\" FROM units", where(recording="it's")])
    assert shlex.split(ending.query(sql)) == ["activarium", "query", sql, "--root", root]


def test_end__the_usual_root_is_not_repeated(monkeypatch):
    monkeypatch.delenv("ACTIVARIUM_ROOT", raising=False)
    assert Ending(Path("atlas")).command("list") == "activarium list"
    monkeypatch.setenv("ACTIVARIUM_ROOT", "elsewhere")
    assert Ending(Path("atlas")).command("list") == "activarium list --root atlas"
