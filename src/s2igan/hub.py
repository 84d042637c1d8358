"""Models on the Hugging Face hub: what is sent, what is fetched, and what a card says of the people who spoke."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from s2igan.checkpoint import MODEL_FILES
from s2igan.errors import UserError

CARD = "README.md"
"""What the hub shows of a model."""
FILES = (*MODEL_FILES, CARD)
"""All that is sent."""
SHARED = (
    "speech_encoder",
    "image_encoder",
    "image_encoder_weights",
    "image_size",
    "generator",
    "latent_flow",
    "front_end",
    "recipe",
)
"""Entries of a model's config that say how it is built; nothing else of it leaves the machine."""
TAGS = ("s2igan", "speech-to-image")
NOT_STATED = "not stated"
USE = """## Use

```python
from s2igan import SpeechToImage

model = SpeechToImage.from_pretrained("FOLDER-OR-NAME-OF-THIS-MODEL")
model("description.wav", samples=4, seed=1).images[0].save("picture.png")
```
"""


@dataclass(frozen=True)
class Sharing:
    """What whoever shares a model states of the people whose voices and pictures it learnt from."""

    licence: str | None = None
    """Identifier of a licence as the hub knows it, such as cc-by-nc-4.0."""
    consent: str | None = None
    """Who agreed to what, and how, in a sentence."""
    community: str | None = None
    """Whose language it is, and whom to ask."""
    labels: tuple[str, ...] = ()
    """Labels that the community gave, such as Traditional Knowledge labels (localcontexts.org)."""
    languages: tuple[str, ...] = ()
    """Codes of the languages spoken: ISO 639-1 or 639-3."""


def is_repository(name: str) -> bool:
    """Whether this could be a name on the hub: `owner/name`."""
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None


def shared_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a model's config is sent: its networks' sizes and its recipe's name."""
    return {name: config[name] for name in SHARED if name in config}


def model_card(sharing: Sharing, about: str) -> str:
    """The card: what the hub reads (YAML), `about` the model (Markdown), and whose voices these are.

    `about` may be a whole card with YAML of its own, of which what `sharing` states takes the place.
    """
    from huggingface_hub import ModelCard, ModelCardData

    facts, text = ModelCardData(library_name="s2igan"), f"# Spoken descriptions to images\n\n{about}\n\n{USE}"
    if about.startswith("---"):
        given = ModelCard(about, ignore_metadata_errors=True)
        facts, text = cast(ModelCardData, given.data), given.text
    facts.tags = list(dict.fromkeys([*TAGS, *(facts.tags or [])]))
    facts.license = sharing.licence or facts.license
    facts.language = list(sharing.languages) or facts.language
    return f"""---
{facts.to_yaml()}
---

{text.strip()}

## The people who spoke

- Consent: {sharing.consent or NOT_STATED}
- Community: {sharing.community or NOT_STATED}
- Licence: {facts.license or NOT_STATED}
- Labels: {", ".join(sharing.labels) or NOT_STATED}

Here are networks' weights and sizes. No recording and no picture that they learnt from is here, and no speaker's name.
"""


def read_card(path: Path) -> str:
    """The text of a card; UserError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: this card cannot be read ({error}); name a Markdown file.") from error


def download(repository: str, *, revision: str | None, token: str | None, local_files_only: bool) -> Path:
    """The folder in the hub's cache that holds a model's two files; no other file is fetched.

    Raises:
        UserError: there is no such model, it is not yours to see, or the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            token=token,
            local_files_only=local_files_only,
            allow_patterns=list(MODEL_FILES),
        )
    except Exception as error:
        if not _of_the_hub(error):
            raise
        raise UserError(
            f"{repository}: no such folder is here, and the hub does not give it ({_reason(error)}); check the name, "
            "the network, and for a private model hf auth login."
        ) from error
    return Path(folder)


def upload(directory: Path, repository: str, *, private: bool, token: str | None) -> str:
    """Puts the model in a folder on the hub, and makes the repository where there is none; returns its address.

    Raises:
        UserError: the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    if not is_repository(repository):
        raise UserError(f"{repository}: not a name on the hub; give owner/name.")
    api = HfApi(token=token)
    try:
        address = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=directory, allow_patterns=list(FILES), commit_message="Model by s2igan"
        )
    except Exception as error:
        if not _of_the_hub(error):
            raise
        raise UserError(
            f"{repository}: the hub did not take it ({_reason(error)}); check the name, the network and hf auth login."
        ) from error
    return str(address)


def _of_the_hub(error: Exception) -> bool:
    """Whether a failure is the hub's, the network's or the name's, and no fault of this program."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    known = (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError)
    return isinstance(error, known) or type(error).__module__.partition(".")[0] in {"httpx", "httpx2"}


def _reason(error: Exception) -> str:
    """Its first line."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200].rstrip(".")
