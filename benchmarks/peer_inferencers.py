"""The peers by their own export, preprocessing and calls."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import onnxruntime
from anomalib.deploy import OpenVINOInferencer, TorchInferencer
from anomalib.models import Padim
from anomalib.pre_processing import PreProcessor
from peer_anomavision import quiet
from peer_stage import Call, Stage, Timed, attempt
from peer_table import Subject
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import Compose, Normalize, Resize

from cada_edge.types import ImageSpec

_OWN = "its own inferencer"


def anomalib_inferencers(who: Subject, net: nn.Module, spec: ImageSpec, stage: Stage) -> Timed:
    """A torch model of anomalib's behind its own pre- and post-processor, exported and called by anomalib."""
    module, folder = _lightning(net, spec), stage.folder(who)
    openvino = partial(_openvino_inferencer, module, spec, folder, stage)
    name = f"{_OWN}: OpenVINOInferencer"
    yield from attempt(replace(who, way=name), partial(openvino, {"INFERENCE_PRECISION_HINT": "f32"}))
    if _has_bfloat16():  # then that is what it computes in as it comes
        yield from attempt(replace(who, way=f"{name} as it comes, bfloat16", rounded=True), partial(openvino, {}))
    yield from attempt(replace(who, way=f"{_OWN}: TorchInferencer"), partial(_torch_inferencer, module, folder, stage))


def _has_bfloat16() -> bool:
    if importlib.util.find_spec("openvino") is None:
        return False
    core = import_module("openvino").Core()
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _lightning(net: nn.Module, spec: ImageSpec) -> Any:
    """The module that anomalib exports; its PaDiM's `forward` is that of all: pre-processor, model, post-processor."""
    mean, std = ([x / 255 for x in values] for values in (spec.mean, spec.std))
    transform = Compose([Resize(spec.size_hw, antialias=True), Normalize(mean, std)])
    pre_processor = PreProcessor(transform=transform)
    module = Padim(pre_trained=False, pre_processor=pre_processor, evaluator=False, visualizer=False)
    module.model = net
    return module.eval()


def _openvino_inferencer(module: Any, spec: ImageSpec, folder: Path, stage: Stage, config: Mapping[str, str]) -> Call:
    with _inside(folder), quiet():
        # One picture, fixed: with its default, any number, its PatchCore comes out for two and cannot be called.
        one = {"dynamic_axes": None, "dynamic_shapes": None}
        path = module.to_openvino(folder, input_size=spec.size_hw, onnx_kwargs=one)
        inferencer = OpenVINOInferencer(path, "CPU", {"INFERENCE_NUM_THREADS": stage.threads, **config})
    return lambda: inferencer.predict(stage.image[0])


def _torch_inferencer(module: Any, folder: Path, stage: Stage) -> Call:
    os.environ["TRUST_REMOTE_CODE"] = "1"  # it asks before it unpickles; here that is what the next line has written
    inferencer = TorchInferencer(module.to_torch(folder), "cpu")
    return lambda: inferencer.predict(stage.image[0])


def anomavision_inferencers(who: Subject, net: nn.Module, spec: ImageSpec, stage: Stage) -> Timed:
    """AnomaVision's statistics file, its export and its backends, behind its own preprocessing of a picture."""
    file, batch = stage.folder(who) / "model.pth", _anomavision_batch(spec, stage)
    with quiet():
        net.get_submodule("padim").save_statistics(str(file), half=False)  # type: ignore[operator]  # theirs is untyped
    for name, make in (("OnnxBackend", _onnx_backend), ("TorchBackend", _torch_backend)):
        yield from attempt(replace(who, way=f"{_OWN}: {name}"), partial(make, file, spec, batch, stage))


def _anomavision_batch(spec: ImageSpec, stage: Stage) -> Callable[[], Tensor]:
    """From the picture to what its backends take, by its own transform; the resize has nothing to do."""
    utils = import_module("anomavision.utils")
    mean, std = ([x / 255 for x in values] for values in (spec.mean, spec.std))
    transform = utils.create_image_transform(spec.size_hw, None, mean=mean, std=std)
    return lambda: transform(Image.fromarray(stage.image[0])).unsqueeze(0)


def _torch_backend(file: Path, spec: ImageSpec, batch: Callable[[], Tensor], stage: Stage) -> Call:  # noqa: ARG001
    module = import_module("anomavision.inference.model.backends.torch_backend")
    with quiet():
        backend = module.TorchBackend(str(file), "cpu")
    return lambda: backend.predict(batch())


def _onnx_backend(file: Path, spec: ImageSpec, batch: Callable[[], Tensor], stage: Stage) -> Call:
    """Its backend, but for the number of threads: its own session takes every core."""
    module = import_module("anomavision.inference.model.backends.onnx_backend")
    path = str(_anomavision_onnx(file, spec))
    backend, options = module.OnnxBackend(path, "cpu"), onnxruntime.SessionOptions()
    options.intra_op_num_threads = stage.threads
    backend.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda: backend.predict(batch())


def _anomavision_onnx(file: Path, spec: ImageSpec) -> Path:
    """What its exporter makes of a statistics file; it logs a failure and gives nothing."""
    with quiet():
        exporter = import_module("anomavision.export").ModelExporter(
            file, file.parent, logging.getLogger("peers"), "cpu"
        )
        path = exporter.export_onnx((1, 3, *spec.size_hw))
    if path is None:
        raise RuntimeError("AnomaVision's export_onnx gave no file; its log says why")
    return Path(path)


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """anomalib leaves a cache in the working folder."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
