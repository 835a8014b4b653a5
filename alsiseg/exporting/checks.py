"""Whether an ONNX file gives the labels that alsiseg gives."""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from alsiseg import dataset, prediction
from alsiseg.exporting.onnx_files import INPUT, library
from alsiseg.prediction.slabs import normalised
from alsiseg.runs import Trained
from alsiseg.volumes import Volume

Grey = NDArray[Any] | Volume  # Any: whatever whole numbers or floats a scan has
LARGEST_SLAB = 8, 512, 512
ROUNDING = 1e-3  # of the largest logit; float32 kernels of all kinds stay far below


@dataclass(frozen=True)
class Check:
    """How an ONNX file and alsiseg agree on a slab, both in float32 on a CPU.

    Attributes
    ----------
    shape_zyx : tuple of int
        Voxels of the slab.
    n_differ : int
        Voxels to which they give different phases.
    largest_logit_difference, largest_logit : float
        Between the logits of onnxruntime and those of the network, and of these.
    onnxruntime : str
        Its version.
    """

    shape_zyx: tuple[int, ...]
    n_differ: int
    largest_logit_difference: float
    largest_logit: float
    onnxruntime: str

    def __str__(self) -> str:
        shape = " x ".join(map(str, self.shape_zyx))
        return (
            f"{self.n_differ} of {shape} voxels differ between onnxruntime and alsiseg, logits by up to "
            f"{self.largest_logit_difference:.1e} of {self.largest_logit:.1f}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Make a plain dictionary, its numbers rounded to what they are good for."""
        rounded = {name: float(f"{getattr(self, name):.3g}") for name in ("largest_logit_difference", "largest_logit")}
        return asdict(self) | {"shape_zyx": list(self.shape_zyx)} | rounded

    def refuse_another_function(self) -> None:
        """Refuse logits that differ by more than rounding.

        Labels may differ where two phases are equally likely up to rounding; that is counted, not refused.
        """
        if not self.largest_logit_difference <= ROUNDING * max(self.largest_logit, 1):
            raise ValueError(
                f"needs an ONNX file that computes what the network computes, found logits that differ by "
                f"{self.largest_logit_difference:.3g} (largest logit {self.largest_logit:.3g}); nothing was written: "
                "try another version of torch, onnxscript or onnxruntime, or export as safetensors"
            )


def check_onnx(path: str | Path, trained: Trained, grey_zyx: Grey) -> int:
    """Count the voxels of a scan's central slab to which an ONNX file and alsiseg give different phases.

    Parameters
    ----------
    path
        An ONNX file from `export`.
    trained
        The network it was made from.
    grey_zyx : (Z, Y, X)
        A scan; at most the central 8 x 512 x 512 voxels are taken.

    Returns
    -------
    int
        0 but for ties that rounding decides.

    Raises
    ------
    ValueError
        When it is no such ONNX file.
    ImportError
        When onnxruntime is not installed.
    """
    return compare(Path(path).read_bytes(), trained, grey_zyx).n_differ


def compare(content: bytes, trained: Trained, grey_zyx: Grey) -> Check:
    """Run an ONNX file beside alsiseg; see `check_onnx`."""
    session = _session(content, trained.network.config.n_slices)
    slab_zyx = _central_slab(grey_zyx)
    options = prediction.Options(precision="float32")
    labels_zyx = prediction.segment(slab_zyx, trained, device="cpu", options=options)
    n_differ, difference, largest = 0, 0.0, 0.0
    for window_cyx, expected_yx in zip(_windows(slab_zyx, trained), labels_zyx, strict=True):
        found = session.run(None, {INPUT: window_cyx[None].numpy()})[0][0]
        with torch.inference_mode():
            own = trained.network(window_cyx[None])[0].numpy()
        rows, columns = expected_yx.shape
        n_differ += int((found.argmax(axis=0)[:rows, :columns] != expected_yx).sum())
        difference = max(difference, float(np.abs(found - own).max()))
        largest = max(largest, float(np.abs(own).max()))
    return Check(tuple(slab_zyx.shape), n_differ, difference, largest, version("onnxruntime"))


def _session(content: bytes, n_slices: int) -> Any:  # of onnxruntime, known only where it is installed
    """Load a network into onnxruntime, after a look whether it takes what alsiseg gives."""
    try:
        session = library("onnxruntime").InferenceSession(content, providers=["CPUExecutionProvider"])
        found = [(images.name, images.shape[1]) for images in session.get_inputs()]
    except ImportError:
        raise
    except Exception as error:  # what onnxruntime raises on damaged bytes has no class of its own
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"needs a readable ONNX network, onnxruntime says: {reason}; export it again") from error
    if found != [(INPUT, n_slices)]:
        raise ValueError(
            f"needs an ONNX network of alsiseg for {n_slices} slices, found the inputs {found}; export it from its run"
        )
    return session


def _central_slab(grey_zyx: Grey) -> NDArray[Any]:
    starts = [max(0, (n - largest) // 2) for n, largest in zip(grey_zyx.shape, LARGEST_SLAB, strict=True)]
    z, y, x = (slice(start, start + largest) for start, largest in zip(starts, LARGEST_SLAB, strict=True))
    return np.asarray(grey_zyx[z])[:, y, x]


def _windows(slab_zyx: NDArray[Any], trained: Trained) -> list[torch.Tensor]:
    """Normalised windows (n_slices, Y, X), rows and columns mirrored to a multiple of 16."""
    grey_zyx = normalised(slab_zyx, dataset.grey_scale(slab_zyx))
    n_z, n_slices = len(slab_zyx), trained.network.config.n_slices
    return [grey_zyx[torch.from_numpy(dataset.context_slices(z, n_z, n_slices))] for z in range(n_z)]


def generated_grey() -> NDArray[np.float32]:
    """Grey of blobs and noise, the same at every call, in slices that are no multiples of 16."""
    noise_zyx = np.random.default_rng(0).standard_normal((6, 90, 70)).astype(np.float32)
    blobs_zyx = ndimage.gaussian_filter(noise_zyx, 2)
    return blobs_zyx / blobs_zyx.std() + 0.2 * noise_zyx
