"""Engines of the GPU that is none, beside a bundle, and NVIDIA's modules that run them."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from fake_cuda import PLAN_MARK, FakeGpu, fake_cudart, fake_tensorrt

from cada_edge.bundle import Bundle
from cada_edge.engine_key import EngineKey, graph_name
from cada_edge.engine_store import EngineRecord, KernelReport, StoredEngine, engines_folder, store

# In the gate on x86-64 they may not be missing: the tests that need them then fail instead of being skipped.
_REQUIRED = "CADA_EDGE_CHECKOUT" in os.environ and (sys.platform, platform.machine()) == ("linux", "x86_64")
needs_builder = pytest.mark.skipif(
    not _REQUIRED and find_spec("tensorrt_rtx") is None,
    reason="the builder that needs no GPU is not installed; on x86-64 Linux: pip install 'cada-edge[dev]'",
)
needs_compiler = pytest.mark.skipif(
    not _REQUIRED and shutil.which("g++") is None, reason="g++, which compiles the plugin here, is not installed"
)


def fake_key(bundle: Bundle, **changes: Any) -> EngineKey:
    """The key of an engine that runs on the fake GPU."""
    onnx = hashlib.sha256(bundle.files[graph_name(changes.get("precision", "fp32"))]).hexdigest()
    fields = {"flavour": "tensorrt", "version": "10.3.0.30", "compute_capability": "8.7", "precision": "fp32"}
    return EngineKey(**{**fields, "onnx_sha256": onnx, "plugin_sha256": "", "batch": (1, 2, 4), **changes})


def build_fake(
    bundle: Bundle, line: Path, plugin: bytes = b"", *, graph: bytes | None = None, **changes: Any
) -> StoredEngine:
    """What the builder would leave: the bundle's graph, or `graph`, as the plan."""
    plan = PLAN_MARK + (graph or bundle.files[graph_name(changes.get("precision", "fp32"))])
    if plugin:
        changes["plugin_sha256"] = hashlib.sha256(plugin).hexdigest()
    digest = hashlib.sha256(plan).hexdigest()
    key = fake_key(bundle, **changes)
    record = EngineRecord(key, digest, len(plan), "2" if plugin else "", "0", {}, KernelReport())
    return store(engines_folder(line), record, plan, plugin or None)


def install(patch: pytest.MonkeyPatch, gpu: FakeGpu) -> None:
    """Put the stand-ins where NVIDIA's modules would be imported from, for one test."""
    for name, module in {"tensorrt": fake_tensorrt(gpu), "cuda.bindings.runtime": fake_cudart(gpu)}.items():
        module.__spec__ = ModuleSpec(name, None)
        patch.setitem(sys.modules, name, module)
