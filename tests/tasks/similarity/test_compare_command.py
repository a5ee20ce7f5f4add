"""`activarium compare` from the command line, plain and as a Prefect flow."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from activarium.flows.cli import main
from activarium.schemas.atlas import Atlas


@pytest.fixture(scope="module")
def atlas(tmp_path_factory, make_raw, write_recording):
    """An atlas with two recordings of the same images, and one of fewer."""
    atlas = Atlas(tmp_path_factory.mktemp("command"))
    raw = make_raw()
    write_recording(atlas, raw, "net-001")
    write_recording(atlas, replace(raw, responses=make_raw(seed=1).responses), "net-002")
    write_recording(atlas, make_raw(images=40), "small")
    return atlas


@pytest.fixture
def activarium(monkeypatch, capsys, atlas):
    """Return a function that runs a command in this process: exit code, output and errors."""
    from activarium.flows import output

    def call(*arguments):
        command = ["activarium", *map(str, arguments), "--root", str(atlas.root)]
        monkeypatch.setattr(sys, "argv", command)
        monkeypatch.setattr(output.out, "file", sys.stdout)
        monkeypatch.setattr(output.err, "file", sys.stderr)
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return stopped.value.code or 0, captured.out, captured.err

    return call


def query(activarium, sql):
    code, out, err = activarium("query", sql, "--json")
    assert code == 0, err
    return json.loads(out)


def test_compare__writes_tables_that_can_be_queried_and_says_so_again(activarium, atlas):
    page = atlas.report("layers-of-net-001-with-net-002")
    code, out, err = activarium("compare", "net-001", "net-002", "--no-prefect")
    assert (code, out.replace("\n", "")) == (0, f"compared net-001, net-002: {page}")
    assert "Debiased CKA" in page.read_text("utf-8")
    assert "net-001 with net-002: 2 images that could not be decoded are left out" in err
    sql = "SELECT count(*) AS n, min(cka) > 0 AS some, max(rsa_images) AS r FROM similarities"
    assert query(activarium, sql) == [{"n": 9, "some": True, "r": 59}]
    sql = "SELECT recording, other_recording, count(*) AS n FROM unit_matches GROUP BY ALL"
    assert query(activarium, sql) == [
        {"recording": "net-001", "other_recording": "net-002", "n": 20}
    ]
    code, out, _ = activarium("compare", "net-001", "net-002", "--no-prefect")
    assert code == 0
    assert " ".join(out.split()).endswith("(was there already, nothing made anew)")
    assert activarium("verify")[0] == 0


def test_compare__options_reach_the_comparison(activarium):
    options = ["--layer", "conv*", "--layer", "fc*", "--measure", "rsa", "--rsa-images", "20"]
    options += ["--seed", "3", "--scheduler", "synchronous", "--no-prefect", "--json"]
    code, out, _ = activarium("compare", "net-001", *options)
    receipt = json.loads(out)
    assert (code, receipt["made"], receipt["recording"]) == (0, True, "net-001")
    assert Path(receipt["page"]).name == "layers-of-net-001.html"
    assert [Path(file).name for file in receipt["files"]] == ["net-001.parquet"]
    sql = "SELECT DISTINCT layer, rsa_images, seed, cka FROM similarities WHERE recording = 'net-001' AND other_recording = 'net-001' ORDER BY 1"
    assert query(activarium, sql) == [
        {"layer": layer, "rsa_images": 20, "seed": 3, "cka": None} for layer in ("conv1", "fc:2")
    ]


def test_compare__with_names_the_recording_to_compare_with(activarium):
    options = ["--with", "net-001", "--measure", "cka", "--json", "--no-prefect"]
    code, out, _ = activarium("compare", "net-002", *options)
    (file,) = json.loads(out)["files"]
    assert code == 0
    assert file.endswith("similarities/recording=net-002/net-001.parquet")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["net"], "2 recordings begin with 'net'"),
        (["no-such"], "no recording begins with 'no-such'"),
        (["net-001", "small"], "row 40 is 'set/0040.png' in the first and missing in the second"),
        (["net-001", "--layer", "x*"], "compare.layers: 'x*' matches none of conv1"),
        (["net-001", "--features", "pixels"], "features: expected 'means' or 'pooled'"),
        (["--series", "net", "--features", "pooled"], "series are compared by channel means"),
        (["net-001", "--measure", "cca"], "measures.0: expected 'cka'"),
        (["net-001", "--rsa-images", "10001"], "rsa_images"),
        (["net-001", "--with", "net-001"], "expected recordings to compare with net-001, got none"),
        (["net-001", "--scheduler", "slurm"], "scheduler: expected one of"),
    ],
)
def test_compare__errors_are_one_line_with_exit_code_2(activarium, arguments, message):
    code, out, err = activarium("compare", *arguments, "--no-prefect")
    assert (code, out) == (2, "")
    assert message in err
    assert err.splitlines()[-1].startswith("error:")
    assert err.count("error") == 1
