"""What is scored: a run, or an exported or shipped model, which is all that remains of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2igan.checkpoint import MODEL_FILES, file_digest
from s2igan.models.exported import ExportedModel, find_model, shipped_models
from s2igan.run_directory import MODEL_FOLDER, RunDirectory
from s2igan.training.stage_results import finished_sen


@dataclass(frozen=True)
class Subject:
    """A run, an exported model, or a shipped one by its name."""

    path: Path
    """Directory of the run or of the model."""
    recipe: str | None
    """Name of what was trained."""
    store: str | None
    """Fingerprint of the store that it was trained on; None where an exported model does not record it."""
    data: Path | None
    """Where that store was, of a run."""
    is_run: bool

    @classmethod
    def of(cls, model: str | Path) -> Subject:
        """What a user names.

        Raises:
            UserError: there is neither a run nor a model, or it cannot be read.
        """
        path = Path(model)
        if not path.is_dir() and str(model) in shipped_models():
            path = shipped_models()[str(model)]
        if path.is_dir() and not (path / MODEL_FOLDER).is_dir() and (path / MODEL_FILES[1]).is_file():
            config: Mapping[str, Any] = ExportedModel.read(path).config
            return cls(path, config.get("recipe"), config.get("store"), None, is_run=False)
        run = RunDirectory.open(path)
        data = run.config.get("data")
        recipe = run.config.get("recipe", {}).get("name")
        return cls(path, recipe, run.config.get("store"), None if data is None else Path(data), is_run=True)

    @property
    def backbone(self) -> str:
        """Name of the frozen network of its image encoder, whose weights need not be there."""
        if self.is_run:
            return str(RunDirectory.open(self.path).config["recipe"]["sen"]["image"]["backbone"])
        return str(ExportedModel.read(self.path).config["image_encoder"]["backbone"])

    @property
    def trained(self) -> bool:
        """Whether there is a finished stage 2, and not stage 1 alone."""
        return not self.is_run or (self.path / MODEL_FOLDER).is_dir()

    def exported(self) -> ExportedModel:
        """Its networks: those of the exported model, or of stage 1 alone where that is all there is.

        Raises:
            UserError: not even stage 1 is finished, or the files are of another version.
        """
        return ExportedModel.read(find_model(self.path)) if self.trained else finished_sen(self.path)

    @property
    def evaluation(self) -> Path:
        """Where its scores are written unless another folder is named: in a run, or beside where the command runs."""
        return self.path / "evaluation" if self.is_run else Path(f"{self.path.resolve().name}-evaluation")

    @property
    def record(self) -> dict[str, Any]:
        """Name, and SHA-256 of the weights."""
        exported = self.exported().directory
        return {"name": self.path.resolve().name, "sha256": file_digest(exported / MODEL_FILES[1])}
