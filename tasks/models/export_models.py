"""Files of `torch.export` as a source of models."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from activarium.schemas.config import PreprocessingConfig
from activarium.schemas.errors import UserError
from activarium.tasks.models.export_files import ExportFile, read_export_file
from activarium.tasks.models.model_sources import (
    DEFAULT,
    RESTARTED,
    ReadyModelSource,
    agreed_colours,
)

if TYPE_CHECKING:
    from torch import nn

PREFIX = "export:"


class ExportedModelFile(ReadyModelSource):
    """A program of `torch.export` with its weights, as `export:<path>`."""

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self.config.architecture.removeprefix(PREFIX))

    @cached_property
    def _file(self) -> ExportFile:
        return read_export_file(self.path)

    @property
    def name(self) -> str:
        """Name of the file without its ending."""
        return self.path.stem

    @property
    def architecture(self) -> str:
        """The name of the file, without its folder."""
        return f"{PREFIX}{self.path.name}"

    @property
    def own_weights(self) -> str | None:
        """Name of the state in which the model was exported, or restarted."""
        names = {DEFAULT: "exported", RESTARTED: RESTARTED}
        if self.config.weights not in names:
            raise UserError(
                f"model.weights: {self.path.name} holds its weights; expected DEFAULT or "
                f"restarted (all weights drawn anew), got {self.config.weights!r}"
            )
        return names[self.config.weights]

    @property
    def preprocessing(self) -> PreprocessingConfig | None:
        """What the file holds of it; at least the size that the program takes."""
        file = self._file
        if file.size is None or file.size[0] != file.size[1]:
            return file.preprocessing
        offered = {} if file.preprocessing is None else file.preprocessing.model_dump()
        return PreprocessingConfig.model_validate(
            {"size": file.size[0]} | {key: value for key, value in offered.items() if value}
        )

    @property
    def definition(self) -> str:
        """Checksum of the file."""
        return self._file.sha256

    def colours(self, of_images: int) -> int:
        """Return what the program takes."""
        return agreed_colours(self.config, self._file.colours, of_images)

    def build(self, *, classes: int, colours: int, size: tuple[int, int]) -> nn.Module:
        """Return the model as it was exported."""
        del classes, colours, size
        self.refuse_options()
        if self.config.outputs is not None:
            raise UserError(f"model.outputs: {self.path.name} has its own; leave the setting out")
        model = self._file.model
        del self._file
        return model

    def control(self) -> dict[str, object]:
        """Return the changes for the model with all weights drawn anew."""
        return {"weights": RESTARTED, "checkpoint": "untrained"}
