"""The configuration of a run: frozen, checked at the border, described where it is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, JsonValue, model_validator

from activarium.schemas.analysis_config import (
    AnalyseConfig,
    EmbedConfig,
    Features,
    Method,
    ReportConfig,
)
from activarium.schemas.atlas import UNTRAINED, given_name
from activarium.schemas.layers import Tokens
from activarium.schemas.record_config import (
    Engine,
    Precision,
    RecordCall,
    RecordConfig,
    UntrainedConfig,
)
from activarium.schemas.settings import MOST_IMAGES, MOST_PIXELS, MOST_SEED, Config, Distinct
from activarium.schemas.training_config import TrainingConfig

__all__ = [
    "AnalyseConfig",
    "ClassOrder",
    "Config",
    "EmbedConfig",
    "Engine",
    "Features",
    "Interpolation",
    "Method",
    "ModelConfig",
    "Precision",
    "PreprocessingConfig",
    "RecordCall",
    "RecordConfig",
    "ReportConfig",
    "RunConfig",
    "Source",
    "TestSetConfig",
    "TrainingConfig",
    "UntrainedConfig",
]

Source = Literal[
    "digits",
    "mnist",
    "fashion-mnist",
    "cifar10",
    "cifar100",
    "svhn",
    "stl10",
    "oxford-iiit-pet",
    "flowers102",
    "stanford-dogs",
    "imagenet",
    "imagefolder",
    "parquet",
    "entry-point",
]
Name = Annotated[str, AfterValidator(given_name)]
"""A name that becomes part of files' names."""
Interpolation = Literal["bilinear", "bicubic"]
Colours = Annotated[
    tuple[Annotated[float, Field(ge=-1_000, le=1_000)], ...], Field(min_length=1, max_length=3)
]
"""A number per colour."""
Spread = Annotated[float, Field(ge=1e-6, le=1_000)]
ClassOrder = Literal["text", "natural"]


class TestSetConfig(Config):
    """A labelled image set."""

    __test__ = False

    source: Source
    """Kind of test set: docs/sources.md says which files each one looks for."""
    path: Path | None = None
    """Folder that holds the files; for imagefolder a folder or zip of <split>/<class>/<image>, for
    parquet a Parquet or Arrow file or a folder of them, for entry-point the folder of its module
    (by default the current one)."""
    split: str = "test"
    """Split to use: test or train; imagenet has val and train, svhn extra and flowers102 val too,
    oxford-iiit-pet trainval instead of train; for imagefolder any folder name, for parquet what the
    files' names begin with; `.` for imagefolder and parquet without splits."""
    name: Name | None = None
    """Name in the atlas; by default the source, or the name of the folder, zip or file."""
    limit: int | None = Field(default=None, ge=2, le=MOST_IMAGES)
    """Use this many images only, spread evenly over the set."""
    hash_content: bool = False
    """Fingerprint the files' content too, not only their names, sizes and labels."""
    download: bool = True
    """Download what is missing, where the source has a download."""
    image_column: str = "image"
    """Column of parquet that holds the images."""
    label_column: str | None = None
    """Column of parquet that holds the labels, by default `label`; for cifar100 fine_labels (the
    default) or coarse_labels."""
    class_order: ClassOrder = "text"
    """Order of classes that are told by their names: text (1, 10, 2), as torchvision's ImageFolder
    sorts its folders, or natural (1, 2, 10), where the model's outputs are in that order. For
    imagefolder, and for parquet and entry-point where labels are texts."""
    entry_point: str | None = None
    """package.module:function that returns a torch dataset, for the source entry-point."""
    options: dict[str, JsonValue] = Field(default={})
    """Keyword arguments of that function; a function that has a `split` is given the split."""
    version: str | None = None
    """Text that stands for the images' content in the fingerprint of an entry-point; change it when
    they change. Without it every image is read once more to hash it, at each start."""

    @model_validator(mode="after")
    def _settings_belong_to_the_source(self) -> TestSetConfig:
        if self.source == "entry-point" and self.entry_point is None:
            msg = "source entry-point needs entry_point: package.module:function"
            raise ValueError(msg)
        if self.source == "digits" and self.path is not None:
            msg = f"path: the digits come with scikit-learn, got {self.path}: leave it out"
            raise ValueError(msg)
        owners = {"entry_point": "entry-point", "options": "entry-point", "version": "entry-point"}
        owners |= {"image_column": "parquet", "label_column": "parquet and cifar100"}
        owners |= {"class_order": "imagefolder and parquet and entry-point"}
        for key, owner in owners.items():
            is_set = getattr(self, key) != type(self).model_fields[key].default
            if is_set and self.source not in owner.split(" and "):
                msg = f"{key} is a setting of the source {owner}, got source {self.source}"
                raise ValueError(msg)
        coarseness = (None, "fine_labels", "coarse_labels")
        if self.source == "cifar100" and self.label_column not in coarseness:
            msg = f"label_column of cifar100: fine_labels or coarse_labels, got {self.label_column}"
            raise ValueError(msg)
        return self


class PreprocessingConfig(Config):
    """From a stored image to the model's input; what is left out follows from source and model."""

    resize: int | None = Field(default=None, ge=1, le=MOST_PIXELS)
    """Length of the shorter side before the crop, in pixels."""
    size: int | None = Field(default=None, ge=1, le=MOST_PIXELS)
    """Side of the square centre crop, in pixels; by default the images' own size. With size
    alone the shorter side is resized to it, so that the crop cuts the longer side only; pretrained
    weights bring a resize of their own, which grows with size where it would be smaller."""
    squash: bool | None = None
    """Resize both sides to the length of resize, whatever the image's proportions, as some of
    timm's models expect; by default as for the weights, else false."""
    interpolation: Interpolation | None = None
    """How pixels are resized: by default as for the pretrained weights, else bilinear."""
    mean: Colours | None = None
    """Mean per colour, of values from 0 to 1."""
    sd: Annotated[tuple[Spread, ...], Field(min_length=1, max_length=3)] | None = None
    """Standard deviation per colour, of values from 0 to 1."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> PreprocessingConfig:
        if self.resize is not None and self.size is not None and self.resize < self.size:
            msg = f"resize ({self.resize}) must be at least size ({self.size})"
            raise ValueError(msg)
        return self


class ModelConfig(Config):
    """A model and where its weights come from."""

    architecture: str = "resnet18"
    """resnet18 (CIFAR stem), two-block-cnn, any torchvision classification or segmentation model by
    name (torchvision:resnet18 is torchvision's own), timm:NAME, export:FILE of torch.export, or
    package.module:function that returns a module; see docs/models.md."""
    options: dict[str, JsonValue] = Field(default={})
    """Keyword arguments of the function that makes the model: an entry point's, torchvision's or
    timm's."""
    width: int = Field(default=64, ge=1, le=4_096)
    """Channels of the first stage (resnet18) or of the first convolution (two-block-cnn)."""
    weights: str = "trained"
    """trained (by this run's training), untrained, a safetensors or state-dict file, or the name
    of weights that the model's source brings, such as DEFAULT: torchvision's and timm's pretrained
    ones, or an entry point's model as it is returned. restarted draws all weights of an entry
    point's or exported model anew. A .pt2 file alone is a whole model: leave architecture out."""
    output: str | None = None
    """Which of several tensors that the model returns is its output: a key such as logits, a place
    such as 0, or several joined by dots; by default what is called logits or out, else the first."""
    tokens: Tokens = "mean"
    """What is averaged of a sequence of tokens, in layers and in the output: mean (all of them), class
    (the class token alone) or patches (all but the class token and others before the patches).
    Layers without a class token are averaged whole."""
    weights_key: str | None = None
    """Which state dict of a file of weights is meant, where it holds several: a key such as ema, keys
    joined by dots, or what the names begin with; by default the one that fits the model, and of
    several that of the likeliest key, which is said."""
    outputs: int | None = Field(default=None, ge=1, le=1_000_000)
    """Number of outputs; by default the number of classes, or what the pretrained weights have."""
    name: Name | None = None
    """Name in the atlas; by default the architecture and width."""
    checkpoint: Name | None = None
    """Name of this state of the model; by default it follows from the weights."""
    checkpoints: str | None = None
    """A series of states instead of one, recorded each, in the order of their steps: a folder of
    weights files, a glob of files or of folders, or `trained` for all checkpoints of this run's
    training; see docs/training.md."""
    series: Name | None = None
    """Name of the series; by default the name of the folder that holds the files."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of the initial weights."""
    colours: Literal[1, 3] | None = None
    """Colours of the input, 1 for grey; by default what the model takes, where that is known, else
    the test set's. Torchvision's models take 3."""
    transform_input: bool | None = None
    """Normalise the input once more inside googlenet and inception_v3, as torchvision's published
    weights expect; by default true for pretrained weights by name, false for files and others."""

    @model_validator(mode="before")
    @classmethod
    def _exported_model_is_whole(cls, settings: Any) -> Any:
        """Take a .pt2 file for architecture and weights alike."""
        if not isinstance(settings, dict):
            return settings
        weights, architecture = settings.get("weights"), settings.get("architecture")
        if isinstance(weights, str) and weights.endswith(".pt2") and architecture is None:
            return {**settings, "architecture": f"export:{weights}", "weights": "DEFAULT"}
        is_export = isinstance(architecture, str) and architecture.startswith("export:")
        return {"weights": "DEFAULT", **settings} if is_export else settings

    @model_validator(mode="after")
    def _one_state_or_a_series(self) -> ModelConfig:
        if self.checkpoints is None and self.series is not None:
            msg = "series names a series of checkpoints: set checkpoints too"
            raise ValueError(msg)
        if self.checkpoints is not None and self.checkpoint is not None:
            msg = "checkpoint names one state; leave it out with checkpoints"
            raise ValueError(msg)
        if self.checkpoint == UNTRAINED and self.weights not in {UNTRAINED, "restarted"}:
            msg = (
                f"checkpoint: {UNTRAINED} names controls, got it for weights {self.weights}: give "
                "this state another name"
            )
            raise ValueError(msg)
        if self.checkpoints == "trained" and self.weights != "trained":
            msg = f"checkpoints: trained needs weights: trained, got weights: {self.weights}"
            raise ValueError(msg)
        return self

    @property
    def is_trained_here(self) -> bool:
        """Whether the run trains the model."""
        return self.weights == "trained" and self.checkpoints in {None, "trained"}


class RunConfig(Config):
    """One whole run: from a test set and a model to tables and a page."""

    name: Name
    """Name of the run: the report is reports/<name>.html."""
    test_set: TestSetConfig
    """The images."""
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    """From image to input."""
    model: ModelConfig = ModelConfig()
    """The model."""
    training: TrainingConfig | None = None
    """How to train, where model.weights is `trained`."""
    record: RecordConfig = RecordConfig()
    """What is recorded."""
    untrained: UntrainedConfig = UntrainedConfig()
    """The untrained networks, where untrained is among the controls."""
    analyse: AnalyseConfig = AnalyseConfig()
    """The statistics."""
    embed: EmbedConfig = EmbedConfig()
    """The maps."""
    report: ReportConfig = ReportConfig()
    """The page."""
    controls: Annotated[tuple[Literal["untrained", "shuffle"], ...], Distinct] = (
        "untrained",
        "shuffle",
    )
    """What stands beside the model's own recording. untrained: networks of the same architecture at
    their start, as the section untrained says, and one of them (model.seed) over all images; shuffle: the same statistics with permuted labels."""

    @model_validator(mode="after")
    def _classes_are_looked_at(self) -> RunConfig:
        if self.analyse.target is not None:
            msg = "analyse.target is for `activarium analyse`: a run compares classes"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _training_is_there(self) -> RunConfig:
        if self.model.is_trained_here and self.training is None:
            msg = (
                "model.weights is 'trained' but there is no `training` section: add one, or set "
                "model.weights to untrained, a file or DEFAULT"
            )
            raise ValueError(msg)
        starts = None if self.training is None else self.training.initial_weights
        if self.model.is_trained_here and self.model.weights_key is not None and starts is None:
            msg = (
                "model.weights_key chooses within a file of weights: set model.weights or "
                "training.initial_weights to one"
            )
            raise ValueError(msg)
        return self
