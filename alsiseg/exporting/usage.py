"""How an exported network is used: commands, and lines of Python that a test runs."""

from typing import Any

ONNX = """\
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("{name}")
sampled = np.unique(np.linspace(0, len(grey_zyx) - 1, 32).round().astype(int))
sample = np.stack([grey_zyx[z] for z in sampled]).astype(np.float32)
sample = sample.clip(*np.percentile(sample, [0.5, 99.5]))
normal = ((grey_zyx.astype(np.float32) - float(sample.mean())) / float(sample.std())).astype(np.float32)
_, n_y, n_x = normal.shape
normal = np.pad(normal, ((0, 0), (0, -n_y % 16), (0, -n_x % 16)), mode="reflect")
padded = np.pad(normal, (({side}, {side}), (0, 0), (0, 0)), mode="edge")
windows = (padded[None, z : z + {n_slices}] for z in range(len(normal)))
labels = [session.run(None, {{"grey_bcyx": window}})[0][0].argmax(axis=0) for window in windows]
labels_zyx = np.stack(labels)[:, :n_y, :n_x].astype(np.uint8)
"""
SAFETENSORS = """\
from alsiseg import prediction
labels_zyx = prediction.segment(grey_zyx, "{name}")
"""


def commands(run: str, epoch: int) -> dict[str, list[str]]:
    """Say how to use the network of a run folder."""
    return {
        "With the run folder": [
            f"alsiseg segment SCAN LABELS.zarr --run {run} --epoch {epoch}",
            "alsiseg measure LABELS.zarr",
        ]
    }


def python_lines(name: str, network: dict[str, Any]) -> dict[str, list[str]]:
    """Say how to use a file that `export` wrote; in the lines `grey_zyx` is the scan as an array."""
    lines = ONNX if name.endswith(".onnx") else SAFETENSORS
    values = {"name": name, "n_slices": network["n_slices"], "side": network["n_slices"] // 2}
    command = {} if lines is ONNX else {"With this file": [f"alsiseg segment SCAN LABELS.zarr --run {name}"]}
    return command | {"With this file alone, in Python": lines.format(**values).splitlines()}
