"""A pretrained tiny autoencoder: the same as diffusers' class (with random weights; no network), folded to 8 x 8."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from s2igan.errors import UserError
from s2igan.models import pretrained_autoencoder
from s2igan.models.latent_flow import LatentFlow, LatentFlowConfig
from s2igan.models.pretrained_autoencoder import PretrainedAutoencoder, read_pretrained
from tiny_autoencoder import SMALL, write_tiny


def oracle(folder):
    from diffusers import AutoencoderTiny

    return AutoencoderTiny.from_pretrained(folder)


@pytest.mark.parametrize("sizes", [SMALL, {}, SMALL | {"latent_channels": 16}], ids=["small", "as published", "16"])
@torch.no_grad()
def test_it_is_what_diffusers_makes_of_the_same_weights(sizes, tmp_path):
    write_tiny(tmp_path / "tiny", **sizes)
    expected, network = oracle(tmp_path / "tiny"), read_pretrained(tmp_path / "tiny", 128)
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    own = expected.encode(images).latents
    assert own.shape[2:] == (16, 16)
    latents = network.encode(images)
    torch.testing.assert_close(latents, F.pixel_unshuffle(own, 2), atol=1e-5, rtol=1e-5)
    assert latents.shape[1:] == network.config.latent_shape == (4 * own.shape[1], 8, 8)
    far = 8 * latents  # where the decoder bends them
    drawn = expected.decode(F.pixel_shuffle(far, 2)).sample
    torch.testing.assert_close(network.decode(far), drawn, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("size", "channels"), [(64, 4), (128, 16), (256, 64)])
@torch.no_grad()
def test_every_size_has_8_x_8_places(size, channels, tmp_path):
    write_tiny(tmp_path, **SMALL)
    network = read_pretrained(tmp_path, size)
    latents = network.encode(torch.rand(1, 3, size, size))
    assert latents.shape == (1, channels, 8, 8)
    assert network.decode(latents).shape == (1, 3, size, size)


@torch.no_grad()
def test_normalised_latents_decode_to_the_same_picture(tmp_path):
    write_tiny(tmp_path, **SMALL)
    network = read_pretrained(tmp_path, 64)
    images = torch.rand(16, 3, 64, 64) * 2 - 1
    before = network.encode(images)
    pictures = network.decode(before)
    network.normalise(before)
    after = network.encode(images)
    torch.testing.assert_close(after.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(network.decode(after), pictures, atol=1e-4, rtol=1e-4)


def test_a_model_is_rebuilt_from_its_json_alone(tmp_path):
    from test_flow_in_use import CONFIG

    write_tiny(tmp_path / "tiny", **SMALL)
    network = read_pretrained(tmp_path / "tiny", 64)
    assert network.config.source == "tiny"
    values = json.loads(json.dumps(asdict(CONFIG) | {"autoencoder": asdict(network.config)}))
    config = LatentFlowConfig.from_json(values, Path("config.json"))
    assert config.autoencoder == network.config
    assert config.resolutions == (64,)
    assert config.noise == 4 * 64
    assert isinstance(LatentFlow(config).autoencoder, PretrainedAutoencoder)


def test_the_digest_is_that_of_the_weights(tmp_path):
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_tiny(tmp_path / name, seed=seed, **SMALL)
        found.append(read_pretrained(tmp_path / name, 64).config.sha256)
    assert found[0] == found[1] != found[2]


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path, monkeypatch):
    def refused(source, message, size=64):
        with pytest.raises(UserError, match=message) as error:
            read_pretrained(source, size)
        assert "\n" not in str(error.value)

    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"cannot be read .*config\.json")
    write_tiny(tmp_path / "silu", **SMALL, act_fn="silu")
    refused(tmp_path / "silu", "of a shape that is not read here")
    write_tiny(tmp_path / "other", **SMALL)
    refused(tmp_path / "other", r"do not fold to 8 x 8 places; choose --autoencoder.network.size 64", size=96)
    config = json.loads((tmp_path / "other/config.json").read_text())
    (tmp_path / "other/config.json").write_text(json.dumps(config | {"_class_name": "AutoencoderKL"}))
    refused(tmp_path / "other", "is a AutoencoderKL; only AutoencoderTiny")
    write_tiny(tmp_path / "pickled", safe_serialization=False, **SMALL)
    assert list((tmp_path / "pickled").glob("*.bin"))
    refused(tmp_path / "pickled", "cannot be read")

    from diffusers import AutoencoderTiny

    def offline(*_, **options):
        assert options["local_files_only"] is False
        raise OSError("no network\nand more")

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderTiny, "load_config", offline)
        refused("madebyollin/taesd", r"cannot be read \(no network\); name a folder")
    monkeypatch.setattr(pretrained_autoencoder.importlib.util, "find_spec", lambda name: None)
    refused(tmp_path / "silu", r"not installed: pip install 's2igan\[pretrained\]'")
