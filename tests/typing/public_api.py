"""Type-checked by tests/typing/test_typing.py, never run: what the public API promises to a type checker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from typing_extensions import Self, assert_type

from cada_edge import (
    Bundle,
    CadaEdgeError,
    Frame,
    ImageSpec,
    Manifest,
    MapSpec,
    Prediction,
    Runner,
    Sink,
    Source,
    Threshold,
    Verdict,
    decide,
    image_score,
    normalise,
)

Float32 = npt.NDArray[np.float32]


class MyRunner:
    """An adapter needs no base class."""

    spec: ImageSpec = ImageSpec()
    map_spec: MapSpec = MapSpec()

    def infer(self, batch: npt.NDArray[np.uint8]) -> Prediction:
        return Prediction(*(np.zeros(len(batch), np.float32) for _ in range(5)))

    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None: ...


class MySource:
    """Structural, like the runner."""

    def frames(self) -> Iterator[Frame]:
        yield Frame(None, "mine", 0, 0, 0)

    def healthy(self) -> bool:
        return True

    def close(self) -> None: ...


class MySink:
    """Structural, like the runner."""

    def send(self, verdict: Verdict, frame: Frame, prediction: Prediction | None) -> None: ...

    def healthy(self) -> bool:
        return True

    def close(self) -> None: ...


def adapters() -> tuple[Runner, Source, Sink]:
    return MyRunner(), MySource(), MySink()


def judge(runner: Runner, frame: Frame, threshold: Threshold | None) -> str:
    if frame.image is None:
        return "no picture"
    with runner as entered:
        prediction = entered.infer(frame.image[None])
    assert_type(prediction, Prediction)
    assert_type(prediction.score, Float32)
    assert_type(prediction.raw_score, Float32)
    assert_type(prediction.finite(), npt.NDArray[np.bool_])
    assert_type(len(prediction), int)
    assert_type(image_score(prediction.map, runner.map_spec), Float32)
    assert_type(normalise(prediction.raw_map, prediction.u, prediction.gamma), Float32)
    verdict = decide(frame, prediction, threshold, 0)
    assert_type(verdict, Verdict)
    assert_type(verdict.status, Literal["ok", "ng", "undecided"])
    assert_type(verdict.score, float | None)
    return verdict.reason


def read(path: Path) -> float | None:
    try:
        bundle = Bundle.read(path)
    except CadaEdgeError as error:
        assert_type(error, CadaEdgeError)
        return None
    assert_type(bundle.manifest, Manifest)
    assert_type(bundle.sha256, str)
    assert_type(bundle.file("model.onnx"), bytes)
    assert_type(bundle.manifest.threshold, Threshold | None)
    return bundle.manifest.threshold.value if bundle.manifest.threshold else None


def misuse(bundle: Bundle, verdict: Verdict) -> None:
    """Each of these is an error to the checker; an ignore without an error is one too."""
    bundle.manifest = bundle.manifest  # type: ignore[misc]
    verdict.status = "ok"  # type: ignore[misc]
    Verdict("pass", None, None, "cam", 0, 0, 0, "")  # type: ignore[arg-type]
    ImageSpec(resize="crop")  # type: ignore[arg-type]
    bundle.files["x.json"] = b""  # type: ignore[index]
