"""The settings of what is made of recordings: tables, maps and the page."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from activarium.schemas.settings import MOST_SEED, MOST_THREADS, Config, Distinct, Globs, Scheduler

Method = Literal["pca", "tsne", "umap", "autoencoder"]
Features = Literal["pixels", "pooled", "means", "logits"]
"""Numbers that stand for an image: the raw pixels, pooled features or channel means of a layer, or
what the model puts out."""
SHUFFLE = "shuffle"
"""The control of permuted labels."""


Width = Annotated[int, Field(ge=1, le=4_096)]
"""Units of a layer of the autoencoder."""


class AnalyseConfig(Config):
    """Class-preference statistics."""

    fdr: float = Field(default=0.01, ge=1e-9, le=0.5)
    """False discovery rate at which a unit counts as selective."""
    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Level of confidence intervals."""
    permutations: int = Field(default=999, ge=0, le=1_000_000)
    """Permutations of the labels for permutation_p, fwer_p and PERMANOVA; 0 leaves them out."""
    controls: Annotated[tuple[str, ...], Field(max_length=1_000), Distinct] = ()
    """What stands beside the real thing in `layers`: shuffle (the same with permuted labels), and
    the id of a recording of the untrained model, which is analysed already. `run` fills this in
    from its own `controls`."""
    where: str | None = None
    """Only the images for which this holds: an SQL condition over the columns of the table `images`,
    such as "correct and confidence > 0.9"."""
    where_of: str | None = None
    """Id of a recording of the same images whose answers `where` asks; by default the recording's
    own. `run` asks the model's own recording for its untrained control too."""
    classes: str | None = None
    """CSV file of class,group: classes are put together in groups; those it does not name are left
    out."""
    target: str | None = None
    """Numbers instead of classes: a column of the table `images`, or a CSV file of image,number."""
    name: str | None = Field(default=None, max_length=100)
    """Name of a selection (lower-case letters, digits, dot, dash, underscore); its tables carry the
    id <recording>~<name>. By default a fingerprint."""
    partial: bool = False
    """Analyse what is there of a recording that is not complete, and mark it."""
    exemplars: int = Field(default=8, ge=1, le=10_000)
    """Most and least activating images kept per unit."""
    class_exemplars: int = Field(default=3, ge=0, le=10_000)
    """Most and least activating images kept per unit within each class."""
    top_classes: int | None = Field(default=None, ge=0, le=1_000_000)
    """Classes of each unit that `unit_classes` and the exemplars within a class are kept of: those of
    its largest means; 0 keeps none. By default all. With 1,000 classes all are gigabytes."""
    top_images: int = Field(default=60, ge=1, le=1_000_000)
    """Images of the strongest response that top_precision looks at."""
    bins: int = Field(default=10, ge=2, le=1_000)
    """Bins of equally many images in mutual_information."""
    redundancy: float = Field(default=0.95, gt=0, le=1)
    """Correlation in size from which on a unit counts as a copy of another of its layer."""
    pair_classes: int = Field(default=100, ge=2, le=10_000)
    """Up to so many classes all pairs are compared, of more those of nearest classes."""
    pair_neighbours: int = Field(default=10, ge=1, le=10_000)
    """Nearest classes that each class is compared with, where there are more."""
    sample_images: int = Field(default=2_000, ge=2, le=20_000)
    """Images at most in ANOSIM and silhouette: a seeded sample."""
    knn_neighbours: int = Field(default=10, ge=1, le=1_000)
    """Neighbours per image in the k-NN purity."""
    knn_queries: int = Field(default=2_000, ge=2, le=1_000_000)
    """Images at most whose neighbours are looked up."""
    knn_images: int = Field(default=50_000, ge=2, le=10_000_000)
    """Images at most among which they are looked up: a seeded sample."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of permutations, samples and bootstrap."""
    scheduler: Scheduler = "threads"
    """Dask scheduler: threads, processes, or the address of a running one (tcp://host:port)."""

    @field_validator("name")
    @classmethod
    def _name_is_safe(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9_-])?", name):
            msg = (
                "expected lower-case letters, digits, dot, dash, underscore, a letter or digit "
                f"first, got {name!r}"
            )
            raise ValueError(msg)
        return name

    @model_validator(mode="after")
    def _settings_belong_to_a_selection(self) -> Self:
        if self.name is not None and not self.is_selection:
            msg = f"name {self.name!r} is for a selection: give where, classes or target with it"
            raise ValueError(msg)
        if self.where_of is not None and self.where is None:
            msg = f"where_of {self.where_of!r} needs the condition: give where with it"
            raise ValueError(msg)
        return self

    @property
    def is_selection(self) -> bool:
        """Whether less than the whole recording, or something else than its classes, is looked at."""
        return not (self.where is self.classes is self.target is None)

    @property
    def class_controls(self) -> tuple[str, ...]:
        """The controls that take part: none beside a target, which needs no classes."""
        return self.controls if self.target is None else ()


class EmbedConfig(Config):
    """Maps of the images."""

    features: Annotated[tuple[Features, ...], Field(min_length=1), Distinct] = ("pixels", "pooled")
    """What is embedded: pixels (the thumbnails), pooled (features of layers pooled to a grid), means
    (channel means of layers), logits."""
    layers: Globs = ("auto",)
    """Globs of layers whose pooled features or channel means are embedded; auto: the first, the
    middle and the last that have them."""
    methods: Annotated[tuple[Method, ...], Field(min_length=1), Distinct] = ("pca", "tsne", "umap")
    """Methods."""
    dimensions: Literal[2, 3] = 2
    """Dimensions of the maps."""
    pca_dimensions: int = Field(default=50, ge=2, le=10_000)
    """Dimensions that PCA leaves before t-SNE and UMAP."""
    perplexity: float = Field(default=30.0, gt=1, le=1_000_000)
    """Perplexity of t-SNE; lowered to the largest that fits a small set, which is told and recorded."""
    neighbours: int = Field(default=15, ge=2, le=10_000)
    """Neighbours of UMAP; lowered where there are fewer images, which is told and recorded."""
    hidden: Annotated[tuple[Width, ...], Field(max_length=8)] = ()
    """Widths of the autoencoder's layers before the bottleneck, mirrored after it; none makes it
    linear, and its map that of PCA."""
    quality_neighbours: int = Field(default=10, ge=1, le=1_000)
    """Neighbours in trustworthiness, continuity and k-NN purity."""
    quality_queries: int = Field(default=2_000, ge=2, le=1_000_000)
    """Images at most whose neighbours are looked up for them, and in silhouette and stress."""
    max_images: int = Field(default=10_000, ge=10, le=10_000_000)
    """Images at most that t-SNE, UMAP and the autoencoder are fitted to, and among which quality is
    measured: a seeded sample of larger sets. PCA takes all."""
    place_rest: bool = True
    """Place the other images in the map too; else only the sample is embedded, by PCA too."""
    into: str | None = None
    """Id of another recording whose maps the images are placed in, instead of maps of their own."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of the methods and of the sample."""
    threads: int | None = Field(default=None, ge=1, le=MOST_THREADS)
    """Threads of each map; by default all cores."""
    scheduler: Scheduler = "synchronous"
    """Dask scheduler: synchronous (one map after the other, each on all threads), processes, or
    the address of a running one (tcp://host:port)."""

    @field_validator("scheduler")
    @classmethod
    def _maps_do_not_share_threads(cls, scheduler: str) -> str:
        if scheduler == "threads":
            msg = (
                "expected synchronous, processes or tcp://host:port, got 'threads': maps of one "
                "process would share the threads of its libraries, and their last bits would depend "
                "on what runs beside them"
            )
            raise ValueError(msg)
        return scheduler


class ReportConfig(Config):
    """The report page."""

    title: str | None = None
    """Heading of the page; by default the model and the test set."""
