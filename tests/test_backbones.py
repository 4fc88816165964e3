"""Backbones by timm: the right weights give the right features, and everything else is refused in words."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from kka.detectors.backbones import load_backbone
from kka.errors import UserError
from kka.settings.backbone import BackboneSettings

NAME = "mobilenetv2_035"
PICTURES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small whole model on disk, as people have it."""
    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_file(timm.create_model(NAME, pretrained=False, pad_type="same").state_dict(), path)
    return path


def test_features_are_those_of_the_whole_model(file: Path) -> None:
    """Against timm's own whole model with the same weights, stage by stage, by hooks."""
    whole = timm.create_model(NAME, pretrained=False, pad_type="same").eval()
    whole.load_state_dict(load_file(file))
    backbone = load_backbone(BackboneSettings(name=NAME, weights=str(file), padding="same"), strides=(8, 16, 32))
    assert backbone.strides == [8, 16, 32] and not backbone.training
    with torch.no_grad():
        maps = backbone(PICTURES)
        x, seen = whole.bn1(whole.conv_stem(PICTURES)), {}
        for block in whole.blocks:
            x = block(x)
            seen[64 // x.shape[-1]] = x  # the last stage of a stride
    for found, stride, channels in zip(maps, (8, 16, 32), backbone.channels, strict=True):
        assert found.shape == (2, channels, 64 // stride, 64 // stride)
        torch.testing.assert_close(found, seen[stride])


def test_padding_matters(file: Path) -> None:
    """Weights that were trained with TensorFlow's padding give other features without it: the option must arrive."""
    options = [BackboneSettings(name=NAME, weights=str(file), padding=padding) for padding in ("same", None)]
    with torch.no_grad():
        first, second = (load_backbone(o, strides=(16,))(PICTURES)[0] for o in options)
    assert (first - second).abs().max() > 1e-3


def test_random_weights_by_seed() -> None:
    """Equal seeds, equal weights, and the global random state untouched."""
    options = BackboneSettings(name=NAME, weights="random")
    state = torch.get_rng_state()
    a, b, c = (load_backbone(options, strides=(8,), seed=seed)(PICTURES)[0].detach() for seed in (1, 1, 2))
    assert (torch.get_rng_state() == state).all()
    assert (a == b).all() and (a != c).any()


def test_input_statistics() -> None:
    """timm's by default; one number serves all three channels; two are nobody's."""
    assert load_backbone(BackboneSettings(name=NAME, weights="random"), strides=(8,)).mean == (0.485, 0.456, 0.406)
    halves = BackboneSettings(name=NAME, weights="random", mean=(0.5,), std=(0.25, 0.5, 1.0))
    backbone = load_backbone(halves, strides=(8,))
    assert backbone.mean == (0.5, 0.5, 0.5) and backbone.std == (0.25, 0.5, 1.0)
    with pytest.raises(UserError, match="one number or three"):
        BackboneSettings(mean=(0.5, 0.5))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("conv_stem.weight"), r"missing: conv_stem\.weight"),
        (lambda t: t.update({"extra": torch.zeros(1)}), "not of this model: extra"),
        (lambda t: t.update({"conv_stem.weight": torch.zeros(1, 3, 3, 3)}), r"of another shape: conv_stem\.weight"),
    ],
)
def test_weights_that_fit_in_part_are_refused(file: Path, tmp_path: Path, change, said: str) -> None:
    """One missing, left-over or misshapen tensor: a network that is random in part scores nonsense in silence."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, tmp_path / "wrong.safetensors")
    with pytest.raises(UserError, match=said):
        load_backbone(BackboneSettings(name=NAME, weights=str(tmp_path / "wrong.safetensors")), strides=(8,))


def test_wrong_architecture_file_and_names(file: Path, tmp_path: Path) -> None:
    """Each mistake a person makes, with what to do."""
    with pytest.raises(UserError, match=r"does not hold the weights of resnet18 .*Name the architecture"):
        load_backbone(BackboneSettings(name="resnet18", weights=str(file)), strides=(8,))
    with pytest.raises(UserError, match="does not exist"):
        load_backbone(BackboneSettings(name=NAME, weights=str(tmp_path / "none.safetensors")), strides=(8,))
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04nonsense")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        load_backbone(BackboneSettings(name=NAME, weights=str(tmp_path / "bad.safetensors")), strides=(8,))
    with pytest.raises(UserError, match="architecture that timm knows; got 'mobilnet'"):
        load_backbone(BackboneSettings(name="mobilnet", weights="random"), strides=(8,))
    with pytest.raises(UserError, match=r"expected strides among \[2, 4, 8, 16, 32\]; got \[7\]"):
        load_backbone(BackboneSettings(name=NAME, weights="random"), strides=(7,))
    with pytest.raises(UserError, match="has no such option"):
        load_backbone(BackboneSettings(name="resnet18", weights="random", padding="same"), strides=(8,))
    with pytest.raises(UserError, match=r"expected backbone\.padding to be 'same'; got backbone\.padding = 'valid'"):
        BackboneSettings(padding="valid")


def test_a_hub_out_of_reach_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the default backbone must say what to give instead."""
    monkeypatch.setattr("timm.models._builder.load_model_config_from_hf", None, raising=False)

    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("timm.models._builder.load_pretrained", refuse)
    with pytest.raises(UserError, match=r"could not be downloaded \(OSError: no route.*--backbone.weights FILE"):
        load_backbone(BackboneSettings(name="resnet18.tv_in1k"), strides=(8,))


def test_a_backbone_of_the_default_family() -> None:
    """Layers 2 and 3 of the published WideResNet50-2 are strides 8 and 16, with 512 and 1024 channels."""
    backbone = load_backbone(BackboneSettings(weights="random"), strides=(8, 16))
    assert backbone.channels == [512, 1024] and backbone.mean == pytest.approx((0.485, 0.456, 0.406))
    assert np.isfinite(backbone(PICTURES)[1].detach().numpy()).all()
