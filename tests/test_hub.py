"""Models on the hub: exactly three files go there, privately; two are fetched; every refusal is a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pytest
import yaml
from huggingface_hub import HfApi
from huggingface_hub.errors import LocalEntryNotFoundError, RepositoryNotFoundError

from s2igan import SpeechToImage, hub
from s2igan.checkpoint import load_model, save_model
from s2igan.errors import UserError
from tiny_models import export_rdg

SHARING = hub.Sharing(
    licence="cc-by-nc-4.0",
    consent="All twelve speakers agreed in writing, 2026",
    community="River people; ask the council",
    labels=("TK NC",),
    languages=("gbe",),
)


@pytest.fixture
def model(tmp_path):
    """Its config also has what must stay at home."""
    folder = export_rdg(tmp_path / "mother")
    config, weights = load_model(folder)
    private = {"recordings": "/home/ana/village/ana.wav", "speakers": ["Ana"]}
    save_model(folder, {**config, **private}, weights)
    (folder / "ana.wav").write_bytes(b"a voice")
    return SpeechToImage.load(folder)


@pytest.fixture
def sent(monkeypatch):
    """The hub's client, which refuses arguments that it does not know; what it would have uploaded is kept."""
    client = mock.create_autospec(HfApi, instance=True)
    client.create_repo.return_value = "https://hub/ana/river"
    client.files = {}

    def keep(**options):
        found = sorted(Path(options["folder_path"]).iterdir())
        client.files = {path.name: path.read_bytes() for path in found}

    client.upload_folder.side_effect = keep
    monkeypatch.setattr("huggingface_hub.HfApi", lambda token=None: client)
    return client


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_three_files_are_sent_and_seen_by_nobody_else(model, sent):
    assert model.push_to_hub("ana/river", sharing=SHARING) == "https://hub/ana/river"
    sent.create_repo.assert_called_once_with("ana/river", private=True, exist_ok=True)
    assert set(sent.files) == set(sent.upload_folder.call_args.kwargs["allow_patterns"]) == set(hub.FILES)
    for name, content in sent.files.items():
        assert b"Ana" not in content, name
        assert b"/home" not in content, name
        assert b".wav" not in content or name == hub.CARD
    assert set(json.loads(sent.files["config.json"])["config"]) <= set(hub.SHARED)
    card = sent.files["README.md"].decode()
    assert front_matter(card) == {
        "language": ["gbe"],
        "license": "cc-by-nc-4.0",
        "library_name": "s2igan",
        "tags": ["s2igan", "speech-to-image"],
    }
    for said in (SHARING.consent, SHARING.community, "TK NC", "16 px", "birds-rdg"):
        assert said in card


def test_public_only_where_asked(model, sent):
    model.push_to_hub("ana/river", private=False)
    assert sent.create_repo.call_args.kwargs["private"] is False


def test_a_card_claims_nothing_that_was_not_stated(model, tmp_path):
    text = (model.save_pretrained(tmp_path / "shared", card="# Scores\n\nHead 97 %") / "README.md").read_text()
    assert text.count("not stated") == 4
    assert "license" not in front_matter(text)
    assert "Head 97 %" in text


def test_a_whole_card_keeps_its_facts():
    whole = "---\nlicense: other\nlanguage: [en]\ntags: [speech]\nmodel-index: []\n---\n\n# birds\n\nHead 97 %\n"
    kept = hub.model_card(hub.Sharing(), whole)
    assert front_matter(kept) | {"model-index": []} == {
        "license": "other",
        "language": ["en"],
        "tags": ["s2igan", "speech-to-image", "speech"],
        "model-index": [],
    }
    assert "# birds\n\nHead 97 %\n\n## The people who spoke" in kept
    changed = hub.model_card(SHARING, whole)
    assert (front_matter(changed)["license"], front_matter(changed)["language"]) == ("cc-by-nc-4.0", ["gbe"])


def test_a_card_from_a_file(tmp_path):
    (tmp_path / "card.md").write_text("Head 97 %")
    assert hub.read_card(tmp_path / "card.md") == "Head 97 %"
    with pytest.raises(UserError, match=r"none\.md: this card cannot be read"):
        hub.read_card(tmp_path / "none.md")


def test_a_name_that_is_none_and_a_hub_that_refuses(model, sent, monkeypatch):
    with pytest.raises(UserError, match="river: not a name on the hub; give owner/name"):
        model.push_to_hub("river")
    sent.create_repo.side_effect = LocalEntryNotFoundError("no network\nand more")
    with pytest.raises(UserError, match=r"ana/river: the hub did not take it \(no network\)"):
        model.push_to_hub("ana/river")
    sent.create_repo.side_effect = ZeroDivisionError
    with pytest.raises(ZeroDivisionError):
        model.push_to_hub("ana/river")


def test_two_files_are_fetched(model, tmp_path, monkeypatch):
    shared = model.save_pretrained(tmp_path / "cache")
    with mock.patch("huggingface_hub.snapshot_download", autospec=True, return_value=str(shared)) as fetch:
        again = SpeechToImage.from_pretrained("ana/river", revision="v1", local_files_only=True)
    assert again.scales == model.scales
    fetch.assert_called_once_with(
        "ana/river",
        revision="v1",
        token=None,
        local_files_only=True,
        allow_patterns=["config.json", "weights.safetensors"],
    )


def test_a_model_that_the_hub_does_not_give():
    with pytest.raises(UserError, match="ana/never-there: no such folder is here, and the hub does not give it"):
        SpeechToImage.from_pretrained("ana/never-there", local_files_only=True)
    refused = mock.Mock(side_effect=RepositoryNotFoundError("404", response=mock.Mock()))
    with mock.patch("huggingface_hub.snapshot_download", refused), pytest.raises(UserError, match="404"):
        SpeechToImage.from_pretrained("ana/private")


@pytest.mark.parametrize(
    ("name", "known"),
    [("ana/river", True), ("runs/demo", True), ("birds", False), ("a/b/c", False), ("../x", False), ("/tmp/x", False)],
)
def test_names_on_the_hub(name, known):
    assert hub.is_repository(name) is known
