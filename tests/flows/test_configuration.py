from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from activarium.flows.configuration import load_run_config
from activarium.schemas.errors import UserError

from .conftest import REPOSITORY, TINY


def load(path, *overrides, cwd=Path("/elsewhere")):
    return load_run_config(path, overrides, cwd=cwd)


@pytest.mark.parametrize("path", sorted((REPOSITORY / "examples").glob("*.yaml")), ids=str)
def test_load__every_example_is_valid(path):
    assert load(path).name


def test_load__set_overrides_one_setting(tiny_file):
    config = load(tiny_file, "training.epochs=7", "embed.methods=[pca, umap]", "analyse.fdr=0.05")
    assert config.training.epochs == 7
    assert config.embed.methods == ("pca", "umap")
    assert config.analyse.fdr == 0.05
    assert config.training.batch_size == TINY["training"]["batch_size"]


def test_load__paths_are_relative_to_the_file_and_overrides_to_the_folder(tmp_path):
    file = tmp_path / "run.yaml"
    settings = {
        "test_set": {"source": "imagefolder", "path": "images"},
        "model": {"weights": "weights.safetensors"},
    }
    file.write_text(yaml.safe_dump(settings))
    config = load(file)
    assert config.test_set.path == tmp_path / "images"
    assert config.model.weights == str(tmp_path / "weights.safetensors")
    config = load(file, "test_set.path=other.zip", cwd=Path("/here"))
    assert config.test_set.path == Path("/here/other.zip")
    assert config.model.weights == str(tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    "model", [{"weights": "net.pt2"}, {"architecture": "export:net.pt2"}], ids=["file", "export"]
)
def test_load__exported_models_are_found_beside_the_file(tmp_path, model):
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"test_set": {"source": "digits"}, "model": model}))
    config = load(file)
    assert config.model.architecture == f"export:{tmp_path / 'net.pt2'}"
    assert config.model.weights == "DEFAULT"
    over = load(file, f"model.{next(iter(model))}={next(iter(model.values()))}", cwd=Path("/here"))
    assert over.model.architecture == "export:/here/net.pt2"


def test_load__entry_points_and_timm_names_are_no_paths(tmp_path):
    file = tmp_path / "run.yaml"
    for name in ("package.module:build", "timm:resnet18.a1_in1k", "segmentation/fcn_resnet50"):
        model = {"architecture": name, "weights": "DEFAULT", "options": {"depth": 3}}
        file.write_text(yaml.safe_dump({"test_set": {"source": "digits"}, "model": model}))
        config = load(file)
        assert config.model.architecture == name
        assert config.model.options == {"depth": 3}


def test_load__checkpoints_and_initial_weights_are_found_beside_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    settings = {
        "test_set": {"source": "digits"},
        "model": {"checkpoints": "runs/*/step-*.pt"},
        "training": {"initial_weights": "first.pt"},
    }
    file.write_text(yaml.safe_dump(settings))
    config = load(file)
    assert config.model.checkpoints == str(tmp_path / "runs/*/step-*.pt")
    assert config.training.initial_weights == str(tmp_path / "first.pt")
    config = load(file, "model.checkpoints=here", "training.initial_weights=DEFAULT", cwd=tmp_path)
    assert config.model.checkpoints == str(tmp_path / "here")
    assert config.training.initial_weights == "DEFAULT"
    assert load(file, "model.checkpoints=trained").model.checkpoints == "trained"


def test_load__names_of_weights_are_no_paths(tiny_file):
    for weights in ("untrained", "DEFAULT", "IMAGENET1K_V1"):
        assert load(tiny_file, f"model.weights={weights}").model.weights == weights


def test_load__name_is_the_file_name_by_default(tmp_path):
    file = tmp_path / "night.yaml"
    file.write_text("test_set: {source: digits}\nmodel: {weights: untrained}\n")
    assert load(file).name == "night"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle: {}\n", r"modle: no such setting; did you mean model\? allowed: model, "),
        (
            "record: {layres: [x]}\n",
            r"record\.layres: no such setting; did you mean layers\? allowed: layers, .*thumbnail",
        ),
        ("training: {lr: 1}\n", r"training\.lr: no such setting; .*allowed: .*learning_rate"),
        ("record: {zzz: 1}\n", r"record\.zzz: no such setting; allowed: "),
        ("test_set: {source: digitz}\n", "test_set.source: .*'digits', .*got 'digitz'"),
        (
            "embed: {methods: [mds]}\n",
            "embed.methods.0: .*'pca', 'tsne', 'umap' or 'autoencoder', got 'mds'",
        ),
        ("record: {reductions: [max]}\n", r"record: reductions must contain mean, got \('max',\)"),
        ("test_set: {source: digits}\n", "no `training` section"),
        ("model: {weights: untrained}\n", "test_set: is needed"),
        ("just text", "expected settings"),
        ("a: [", "not valid YAML"),
    ],
)
def test_load__faults_are_one_line(tmp_path, text, message):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load(file)
    assert "\n" not in str(caught.value)


def test_load__wrong_item_of_a_list_is_one_fault(tiny_file):
    with pytest.raises(UserError) as caught:
        load(tiny_file, "embed.features=[foo]")
    assert str(caught.value).endswith("or 'logits', got 'foo'")


def test_load__missing_file_and_bad_override_are_errors(tiny_file, tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        load(tmp_path / "none.yaml")
    with pytest.raises(UserError, match=r"section\.key=value"):
        load(tiny_file, "training.epochs")
    with pytest.raises(UserError, match="'name' is a value"):
        load(tiny_file, "name.first=1")
