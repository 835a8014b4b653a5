"""A network as ONNX: grey windows in, logits out, and what a user must know in the file's metadata."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from types import ModuleType
from typing import Any

import torch

import alsiseg
from alsiseg.prediction.inference import folded
from alsiseg.runs import Trained
from alsiseg.unet import ALIGNMENT, n_parameters

OPSET = 18  # what torch's exporter writes without a conversion; bilinear doubling is one Resize in it
INPUT, OUTPUT = "grey_bcyx", "logits_bcyx"
LARGEST_BYTES = 2**31 - 2**24  # of a protobuf message, with some room for the graph


def library(name: str) -> ModuleType:
    """Import a package of the extra `export`.

    Raises
    ------
    ImportError
        When it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f'ONNX needs the package {name}, which is not installed here; pip install "alsiseg[export]", or export '
            "as safetensors"
        ) from error


def check_installed() -> None:
    """Refuse before the work when a package is missing."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        library(name)


def made(trained: Trained, card: dict[str, Any]) -> tuple[bytes, dict[str, Any]]:
    """Make the ONNX file of a network.

    Its batch norms are folded into the convolutions, as `prediction` does it. Batch, rows and columns may have any
    size, rows and columns a multiple of 16.

    Returns
    -------
    content : bytes
    described : dict
        What the card says about the file.
    """
    onnx = library("onnx")
    if 4 * n_parameters(trained.network) > LARGEST_BYTES:
        raise ValueError(
            f"needs a network of at most {LARGEST_BYTES / 2**30:.1f} GiB for one ONNX file, this one has "
            f"{4 * n_parameters(trained.network) / 2**30:.1f} GiB; export it as safetensors"
        )
    model = _traced(trained)
    _leave_out_how_it_was_made(model.graph)
    model.producer_name, model.producer_version = "alsiseg", alsiseg.__version__
    model.doc_string = card["what"]
    onnx.helper.set_model_props(model, _metadata(card))
    onnx.checker.check_model(model, full_check=True)
    described = {"format": "ONNX", "opset": OPSET, "precision": "float32"}
    made_with = {name: version(name) for name in ("torch", "onnx", "onnxscript")}
    return model.SerializeToString(deterministic=True), described | {"made_with": made_with}


def _traced(trained: Trained) -> Any:  # a ModelProto, known only where onnx is installed
    """Trace the network into a model with a free number of images, rows and columns."""
    network = folded(trained.network)
    sizes = {0: torch.export.Dim("batch"), 2: ALIGNMENT * torch.export.Dim("rows")}
    sizes[3] = ALIGNMENT * torch.export.Dim("columns")
    example = torch.zeros(2, network.config.n_slices, 2 * ALIGNMENT, 3 * ALIGNMENT)
    with _without_remarks():
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes={INPUT: sizes},
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Keep torch from remarking that torchvision is missing, and that it calls an old name of its own."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*isinstance.treespec", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)


def _leave_out_how_it_was_made(graph: Any) -> None:
    """Remove traces of the exporter: lines of source and paths of this machine."""
    for part in [graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _metadata(card: dict[str, Any]) -> dict[str, str]:
    """What the file itself says; everything else stands in the card beside it."""
    network, data = card["network"], card["data"]
    return {
        "format": "alsiseg network 1",
        "phases": json.dumps(network["phases"], ensure_ascii=False),
        "n_slices": str(network["n_slices"]),
        "input": card["input"],
        "output": card["output"],
        "grey_scale_of_training": json.dumps(network["grey_scale_of_training"]),
        "voxel_size_um": str(data.get("voxel_size_um")),
        "epoch": str(network["epoch"]),
        "network_sha256": network["sha256"],
        "licence_of_the_code": card["licence_of_the_code"],
    }
