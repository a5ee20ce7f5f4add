"""The benchmarks run: those of the statistics in short, that of the GPU with few packages."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[1]
NEEDED = ("torch", "torchvision", "numpy", "zarr")
NOT_NEEDED = ("pydantic", "numba", "prefect", "pandas", "dask", "scipy", "pyarrow", "duckdb")


def with_requirements(names: tuple[str, ...]) -> set[str]:
    """Names of distributions with all that they require in turn."""
    found: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop().lower().replace("_", "-")
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # meant for another system
            continue
        if name not in found:
            found.add(name)
            wanted = [each for each in requirements if "extra ==" not in each]
            pending += [re.split(r"[^\w.-]", each, maxsplit=1)[0] for each in wanted]
            # torch's CUDA libraries are asked for as an extra of one that holds nothing
            pending += [each for each in _installed() if name == "torch" and each[:6] == "nvidia"]
    return found


def _installed() -> list[str]:
    return [each.metadata["Name"] for each in metadata.distributions()]


@pytest.fixture
def site(tmp_path):
    """A folder of links to these packages and to no others."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name in with_requirements(NEEDED):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).is_symlink():
                (folder / top).symlink_to(distribution.locate_file(top))
    return folder


def python(site, *arguments):
    command = [sys.executable, "-S", *arguments]
    path = f"{site}:{REPOSITORY / '.src'}"
    environment = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "HOME": str(site)}
    return subprocess.run(
        command, env=environment, cwd=site, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.slow
def test_gpu_benchmark__runs_on_the_cpu_with_four_packages_alone(site, tmp_path):
    absent = f"import importlib.util as u; print([n for n in {NOT_NEEDED} if u.find_spec(n)])"
    assert python(site, "-c", absent).stdout == "[]\n"
    script = str(REPOSITORY / "benchmarks" / "gpu.py")
    output = tmp_path / "output"
    done = python(site, script, "--output", str(output), "--store", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "no GPU here" in done.stdout or "CUDA" in done.stdout
    rows = json.loads((output / "gpu.json").read_text())
    assert {row["precision"] for row in rows} >= {"float32", "bfloat16"}
    works = " ".join(row["work"] for row in rows)
    assert "hooks" in works
    assert "stored" in works
    assert all(row["images_per_second"] > 0 for row in rows)
    assert not list(tmp_path.glob("tmp*"))


@pytest.fixture
def benchmark(monkeypatch):
    """A function that imports a module of the folder of benchmarks."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    return importlib.import_module


def cells_of(text):
    """Return the lines of all tables in a text, headings too, as lists of cells."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def small(benchmark):
    """Return a case of more than one block, and its responses."""
    made = benchmark("synthetic_responses")
    case = made.Case(60, 300, 4)
    return made, case, made.responses_of(case, "half zero")


def test_read_units__is_the_stored_matrix_the_other_way_round(benchmark, monkeypatch):
    made, case, responses = small(benchmark)
    monkeypatch.setattr(made, "CHUNK_IMAGES", 25)
    stored = made.as_stored(responses)
    found = [made.read_units(stored, units) for units in case.blocks]
    assert [len(each) for each in found] == [256, 44]
    np.testing.assert_array_equal(np.concatenate(found), responses)
    assert 0.3 < (responses == 0).mean() < 0.7


def test_class_statistics__both_layouts_give_the_same_tables_with_q_values(benchmark):
    _, case, responses = small(benchmark)
    module = benchmark("class_statistics")
    works = module.works_of(case, responses, 1)
    own, stored = works[module.OWN](), works[module.OWN_STORED]()
    assert [len(own["units"]["unit"]), len(own["unit_classes"]["unit"])] == [300, 1200]
    for name, columns in own.items():
        assert {"q_value"} <= columns.keys() == stored[name].keys()
        for column, values in columns.items():
            one, other = np.asarray(values), np.asarray(stored[name][column])
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other, err_msg=column)


def test_class_statistics__scipy_s_time_is_scaled_to_all_units(benchmark):
    module, times = benchmark("class_statistics"), benchmark("timings").Times
    taken = {module.OWN: 2.0, module.OWN_STORED: 4.0, module.SORT: 1.0, module.SORT_STORED: 8.0}
    seconds = {name: times((each,)) for name, each in taken.items()}
    lines = module.compared(seconds | {module.SCIPY: times((3.0,))}, module.CASES["few"], 100.0)
    assert [line[-3:] for line in lines] == [
        ["2", "1", "no"],
        ["0.5", "1", "yes"],
        ["0.00667", "0.01", "yes"],
    ]
    assert lines[2][3] == "300.000 s"


def test_class_statistics__quick_run_reports_ratios_and_functions(benchmark, capsys):
    benchmark("class_statistics").main(["--quick", "--repeats", "1", "--case", "few"])
    rows = cells_of(capsys.readouterr().out)
    assert [row[-1] in {"yes", "no"} for row in rows if "ours" in row[0]] == [True] * 6
    shares = {row[0]: row[-1] for row in rows if len(row) == 5}
    assert {"ranking.rank_units", "moments.class_moments"} <= shares.keys()


def test_permutation_speed__matrix_products_give_effects_of_the_same_size(benchmark):
    _, case, responses = small(benchmark)
    module = benchmark("permutation_speed")
    own = module.own_effects(case, responses, 2)
    product = module.product_effects(case, module.standardise(responses), 200)
    # Under permuted labels eta squared is (classes - 1) / (images - 1) on average.
    for effects in (own, product):
        np.testing.assert_allclose(effects.mean(), 3 / 59, rtol=0.02)
    assert own.shape == (300, 999)
    assert product.shape == (300, 200)


def test_permutation_speed__quick_run_compares_threads_and_products(benchmark, capsys):
    benchmark("permutation_speed").main(["--quick", "--repeats", "1"])
    rows = cells_of(capsys.readouterr().out)
    assert [row[0] for row in rows[2:]] == ["half zero"] * 3 + ["continuous"] * 3
    assert [row[-1] for row in rows[2::3]] == ["yes", "yes"]


def test_block_scheduling__quick_run_compares_dask_with_plain_threads(benchmark, capsys, tmp_path):
    arguments = ["--quick", "--repeats", "1", "--folder", str(tmp_path)]
    benchmark("block_scheduling").main(arguments)
    rows = cells_of(capsys.readouterr().out)
    assert [rows[2][0], rows[2][2]] == ["Dask, threads", "plain threads"]
    assert float(rows[2][4]) > 0
    assert not list(tmp_path.iterdir())


def test_synthetic_recordings__are_complete_and_half_zero(benchmark, tmp_path):
    made, recordings = benchmark("synthetic_responses"), benchmark("synthetic_recordings")
    recording = recordings.write_recording(tmp_path / "made.zarr", made.Case(5_000, 300, 3))
    assert recording.attributes["status"] == "complete"
    responses = recording.read("channel_mean")
    assert responses.shape == (5_000, 300)
    assert 0.3 < (responses == 0).mean() < 0.6
    assert [block.columns for block in recordings.blocks_of(recording)] == [
        slice(0, 256),
        slice(256, 300),
    ]
    assert recordings.choice_of(recording).labelled == 5_000


def test_statistics_growth__memory_is_that_beyond_one_block(benchmark):
    made, module = benchmark("synthetic_responses"), benchmark("statistics_growth")
    few, many = made.Case(1_024, 256, 10), made.Case(2_048, 512, 10)
    first = few, module.Measured(1.0, 2**30, 2**30 + 3 * 2**20)
    found = module.cells(many, module.Measured(6.0, 2**30, 2**30 + 4 * 2**20), first)
    assert found[4:] == ["1.50", "2 MiB", "1,028 MiB", "2 MiB", "1,024 B"]


@pytest.mark.slow
def test_statistics_growth__quick_run_analyses_in_processes_of_their_own(
    benchmark, capsys, tmp_path
):
    benchmark("statistics_growth").main(["--quick", "--folder", str(tmp_path)])
    rows = cells_of(capsys.readouterr().out)
    assert [row[:2] for row in rows[2:]] == [["1,000", "64"], ["2,000", "300"]]
    assert all(float(row[3].removesuffix(" ns")) > 0 for row in rows[2:])
    assert not list(tmp_path.iterdir())


def test_whole_analysis__quick_run_tells_stages_and_peak(benchmark, capsys, tmp_path):
    benchmark("whole_analysis").main(["--quick", "--case", "images", "--folder", str(tmp_path)])
    line = capsys.readouterr().out.splitlines()[-1]
    assert "2,000 images x 300 units x 10 classes, 2 layers" in line
    held, peak, tables = (int(size) for size in re.findall(r"([\d]+) MiB", line.replace(",", "")))
    assert peak > held > tables > 0
    assert "measuring the layers of" in line


def test_statistics_peers__quick_run_names_peers_that_are_not_installed(
    benchmark, capsys, monkeypatch
):
    for name in ("anndata", "illico", "scanpy"):
        monkeypatch.setitem(sys.modules, name, None)
    benchmark("statistics_peers").main(["--quick", "--repeats", "1"])
    rows = cells_of(capsys.readouterr().out)
    ours = [row for row in rows if row[1].startswith("ours")]
    assert len(ours) == 4
    absent = {row[1]: row[-1] for row in rows if row[-1].startswith("ModuleNotFoundError")}
    assert absent.keys() == {"illico, dense", "illico, sparse by column", "scanpy"}


def test_statistics_peers__difference_is_relative_but_for_p_that_underflow(benchmark):
    module = benchmark("statistics_peers")
    own = np.array([[2.0, 4.0]]), np.array([[0.5, 1e-310]])
    other = np.array([[2.0, 4.1]]), np.array([[0.5, 0.0]])
    assert module.largest_difference(own, other) == pytest.approx(0.025)


def test_similarity__direct_cka_is_that_of_formulas_and_pairs_are_spread(benchmark):
    module = benchmark("similarity")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 4)).astype(np.float32)
    y = (x @ rng.normal(size=(4, 3)) + rng.normal(size=(30, 3))).astype(np.float32)
    k, l = module.centred_gram(x), module.centred_gram(y)  # noqa: E741
    cosine = (k * l).sum() / np.linalg.norm(k) / np.linalg.norm(l)
    cka, debiased = module.direct_cka(k, l)
    assert cka == pytest.approx(cosine)
    assert 0 < debiased < cka
    assert sum(module.layer_sizes(64)) == 14_026
    assert len(module.layer_sizes(64)) == 59
    names = {name for pair in module.some_pairs(59, 3) for name in pair}
    assert names <= {f"layer{place + 1}" for place in range(59)}


def test_similarity__quick_run_agrees_with_matrices_of_images(benchmark, capsys, tmp_path):
    arguments = ["--quick", "--pairs", "1", "--folder", str(tmp_path)]
    benchmark("similarity").main(arguments)
    rows = cells_of(capsys.readouterr().out)[2:]
    assert [row[0].partition(",")[0] for row in rows[:3]] == ["cka", "procrustes", "rsa"]
    assert rows[0][4].startswith("1 / ")
    assert float(rows[0][5].split()[1]) < 1e-9
    assert not list(tmp_path.iterdir())


def test_embedding__quick_run_compares_maps_with_their_libraries(benchmark, capsys, tmp_path):
    arguments = ["--quick", "--repeats", "1", "--folder", str(tmp_path)]
    benchmark("embedding").main([*arguments, "--case", "pca", "--case", "tsne", "--case", "memory"])
    rows = cells_of(capsys.readouterr().out)
    times = [row for row in rows if len(row) == 8][2:]
    assert [row[0] for row in times] == ["pca, 600 x 64", "tsne, 600 x 64"]
    assert [row[2] for row in times] == ["scikit-learn", "openTSNE"]
    assert all(float(row[4]) > 0 for row in times)
    (peak,) = [row for row in rows if row[0] == "pca, 5,000 x 64"]
    assert peak[2:] == ["4,096 MiB", "yes"]
    assert not list(tmp_path.iterdir())


@pytest.mark.shared
@pytest.mark.slow
def test_known_maps__few_images_already_show_what_the_network_untangles(
    benchmark, capsys, tmp_path
):
    module = benchmark("known_maps")
    if not (module.SHARED / "data" / "mnist-test-png.zip").is_file():
        pytest.skip("the real sets are not there")
    module.main(["--images", "400", "--method", "pca", "--root", str(tmp_path)])
    rows = {tuple(row[:3]): row for row in cells_of(capsys.readouterr().out)}
    purity = {key: float(row[5]) for key, row in rows.items() if key[2] == "PCA"}
    assert purity["MNIST", "pixels", "PCA"] > 0.5
    assert purity["CIFAR-10", "pixels", "PCA"] < 0.3
    assert purity["CIFAR-10", "avgpool", "PCA"] > 0.7
