"""The configuration of a run: frozen, checked at the border, described where it is typed."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from activarium.schemas.layout import Reduction

Source = Literal["digits", "fashion-mnist", "mnist", "cifar10", "imagefolder"]
Kind = Literal["conv", "linear", "block", "pool"]
Precision = Literal["float32", "bfloat16", "float16"]
Method = Literal["pca", "tsne", "umap"]
Interpolation = Literal["bilinear", "bicubic"]


class Config(BaseModel):
    """Base of all configurations: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TestSetConfig(Config):
    """A labelled image set."""

    __test__ = False

    source: Source
    """Kind of test set."""
    path: Path | None = None
    """Folder that holds the files; for imagefolder a folder or zip of <split>/<class>/<image>."""
    split: str = "test"
    """Split to use: train or test; for imagefolder any folder name, or `.` for no split folder."""
    name: str | None = None
    """Name in the atlas; by default the source, or the name of the folder or zip."""
    limit: int | None = Field(default=None, ge=2)
    """Use this many images only, spread evenly over the set."""
    hash_content: bool = False
    """Fingerprint the files' content too, not only their names, sizes and labels."""
    download: bool = True
    """Download what is missing, where the source has a download."""


class PreprocessingConfig(Config):
    """From a stored image to the model's input; what is left out follows from source and model."""

    resize: int | None = Field(default=None, ge=1)
    """Length of the shorter side before the crop, in pixels."""
    size: int | None = Field(default=None, ge=1)
    """Side of the square centre crop, in pixels; by default the images' own size. With size
    alone the shorter side is resized to it, so that the crop cuts the longer side only; pretrained
    weights bring a resize of their own, which grows with size where it would be smaller."""
    interpolation: Interpolation | None = None
    """How pixels are resized: by default as for the pretrained weights, else bilinear."""
    mean: tuple[float, ...] | None = None
    """Mean per colour, of values from 0 to 1."""
    sd: tuple[float, ...] | None = None
    """Standard deviation per colour, of values from 0 to 1."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> PreprocessingConfig:
        if self.resize is not None and self.size is not None and self.resize < self.size:
            msg = f"resize ({self.resize}) must be at least size ({self.size})"
            raise ValueError(msg)
        if self.sd is not None and min(self.sd, default=0.0) <= 0:
            msg = f"sd must be positive, got {self.sd}"
            raise ValueError(msg)
        return self


class ModelConfig(Config):
    """A model and where its weights come from."""

    architecture: str = "resnet18"
    """resnet18 (CIFAR stem), two-block-cnn, or any torchvision classification model by name;
    torchvision:resnet18 is torchvision's own."""
    width: int = Field(default=64, ge=1)
    """Channels of the first stage (resnet18) or of the first convolution (two-block-cnn)."""
    weights: str = "trained"
    """trained (by this run's training), untrained, a safetensors or state-dict file, or the name
    of torchvision's pretrained weights such as DEFAULT."""
    outputs: int | None = Field(default=None, ge=1)
    """Number of outputs; by default the number of classes, or what the pretrained weights have."""
    name: str | None = None
    """Name in the atlas; by default the architecture and width."""
    checkpoint: str | None = None
    """Name of this state of the model; by default it follows from the weights."""
    seed: int = Field(default=0, ge=0)
    """Seed of the initial weights."""
    colours: Literal[1, 3] | None = None
    """Colours of the input, 1 for grey; by default the test set's. Torchvision's models take 3."""
    transform_input: bool | None = None
    """Normalise the input once more inside googlenet and inception_v3, as torchvision's published
    weights expect; by default true for pretrained weights by name, false for files and others."""


class TrainingConfig(Config):
    """SGD with momentum and a cosine schedule; one checkpoint per epoch."""

    split: str = "train"
    """Split to train on."""
    epochs: int = Field(default=15, ge=1)
    """Passes over the training images."""
    batch_size: int = Field(default=128, ge=1)
    """Images per step."""
    learning_rate: float = Field(default=0.05, gt=0)
    """Learning rate at the start of the cosine."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """L2 penalty."""
    seed: int = Field(default=0, ge=0)
    """Seed of the order, the augmentation and dropout."""
    crop: int = Field(default=0, ge=0)
    """Random crop after padding by this many pixels on each side; 0 for none."""
    flip: bool = False
    """Mirror half of the images."""


class RecordConfig(Config):
    """What is recorded of every image."""

    layers: tuple[str, ...] = ("*",)
    """Glob patterns of layer names, such as layer4.*."""
    kinds: tuple[Kind, ...] = ("conv", "linear", "block", "pool")
    """Kinds of layers."""
    reductions: tuple[Reduction, ...] = ("mean", "active")
    """Reductions of each channel's map; the mean is always kept."""
    pooled_layers: tuple[str, ...] = ("auto",)
    """Globs of the layers whose pooled features are kept; auto: the last before the output at each
    map size."""
    pooled_grid: int = Field(default=2, ge=1, le=32)
    """Side of the grid that a map is average-pooled to."""
    thumbnail: int = Field(default=32, ge=0, le=256)
    """Side at most of the stored thumbnails, in pixels; 0 for none."""
    batch_size: int = Field(default=256, ge=1)
    """Images per forward pass."""
    device: str = "auto"
    """auto (CUDA where present), cpu, cuda or cuda:<n>."""
    precision: Precision = "float32"
    """Precision of the forward pass; reductions are always in float32."""
    compression: Literal["none", "zstd"] = "none"
    """Compression of the stored arrays."""
    shard_images: int | None = Field(default=None, ge=1)
    """Images per shard; by default up to 4,096."""

    @model_validator(mode="after")
    def _mean_is_kept(self) -> RecordConfig:
        if "mean" not in self.reductions:
            msg = f"reductions must contain mean, got {self.reductions}"
            raise ValueError(msg)
        return self


class AnalyseConfig(Config):
    """Class-preference statistics."""

    fdr: float = Field(default=0.01, gt=0, lt=1)
    """False discovery rate at which a unit counts as selective."""
    exemplars: int = Field(default=8, ge=1)
    """Most and least activating images kept per unit."""
    class_exemplars: int = Field(default=3, ge=0)
    """Most and least activating images kept per unit within each class."""
    knn_neighbours: int = Field(default=10, ge=1)
    """Neighbours per image in the k-NN purity."""
    knn_queries: int = Field(default=2_000, ge=2)
    """Images at most whose neighbours are looked up (among all images)."""
    scheduler: str = "threads"
    """Dask scheduler: threads, processes, or the address of a running one (tcp://host:port)."""


class EmbedConfig(Config):
    """Maps of the images."""

    layers: tuple[str, ...] = ("auto",)
    """Globs of layers with pooled features; auto: the first, the middle and the last of them."""
    pixels: bool = True
    """Embed the raw pixels (the thumbnails) too."""
    methods: tuple[Method, ...] = ("pca", "tsne", "umap")
    """Methods."""
    dimensions: Literal[2, 3] = 2
    """Dimensions of the maps."""
    pca_dimensions: int = Field(default=50, ge=2)
    """Dimensions that PCA leaves before t-SNE and UMAP."""
    perplexity: float = Field(default=30.0, gt=1)
    """Perplexity of t-SNE; lowered to the largest that fits a small set, which is recorded."""
    neighbours: int = Field(default=15, ge=2)
    """Neighbours of UMAP; lowered where there are fewer images, which is recorded."""
    quality_neighbours: int = Field(default=10, ge=1)
    """Neighbours in trustworthiness and k-NN purity."""
    quality_queries: int = Field(default=2_000, ge=2)
    """Images at most whose neighbours are looked up for them (among all that are embedded)."""
    max_images: int = Field(default=10_000, ge=10)
    """Images embedded at most: a seeded sample of larger sets."""
    seed: int = Field(default=0, ge=0)
    """Seed of the methods and of the sample."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of each map; by default all cores."""
    scheduler: str = "synchronous"
    """Dask scheduler: synchronous (one map after the other, each on all threads), processes, or
    the address of a running one (tcp://host:port)."""


class ReportConfig(Config):
    """The report page."""

    title: str | None = None
    """Heading of the page; by default the model and the test set."""


class RunConfig(Config):
    """One whole run: from a test set and a model to tables and a page."""

    name: str
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
    analyse: AnalyseConfig = AnalyseConfig()
    """The statistics."""
    embed: EmbedConfig = EmbedConfig()
    """The maps."""
    report: ReportConfig = ReportConfig()
    """The page."""
    controls: tuple[Literal["untrained"], ...] = ("untrained",)
    """Recordings made beside the model's own; untrained: the same architecture at its start."""

    @model_validator(mode="after")
    def _training_is_there(self) -> RunConfig:
        if self.model.weights == "trained" and self.training is None:
            msg = "model.weights is 'trained' but there is no `training` section"
            raise ValueError(msg)
        return self
