"""Segment a grey volume with a trained network, slab by slab."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from alsiseg import dataset, devices, runs, volumes
from alsiseg.dataset import GreyScale
from alsiseg.devices import Device
from alsiseg.progress import steps
from alsiseg.runs import Trained
from alsiseg.unet import ALIGNMENT, UNet

PIXELS_PER_BATCH = 2**19  # eight slices of 256 x 256: enough to keep two cores busy


def segment(
    grey_zyx: NDArray | volumes.Volume, trained: Trained | str | Path, *, device: str = "auto"
) -> NDArray[np.uint8]:
    """Give every voxel of a grey volume its phase.

    Parameters
    ----------
    grey_zyx : (Z, Y, X)
        Anything with `shape` that can be sliced; only a slab at a time is read. It is normalised by its own
        robust grey statistics, so that a scan with other grey levels can be segmented too.
    trained
        A network from `runs.load_network`, or a run folder (its last epoch).
    device
        "auto", "cpu", "cuda", ...

    Returns
    -------
    labels_zyx : uint8 (Z, Y, X)
        Phases. The outermost slice stands in for missing neighbours at both ends.
    """
    return np.stack(list(segmented_slices(grey_zyx, trained, device=device)))


def segment_to_file(
    grey: volumes.Volume, trained: Trained | str | Path, out: str | Path, *, device: str = "auto"
) -> Path:
    """Segment a volume on disk into a TIFF of labels; memory is that of a slab, whatever the volume's length."""
    slices = segmented_slices(grey, trained, device=device)
    return volumes.write(out, slices, voxel_size_um=grey.voxel_size_um, shape=grey.shape, dtype=np.uint8)


def segmented_slices(
    grey_zyx: NDArray | volumes.Volume, trained: Trained | str | Path, *, device: str = "auto"
) -> Iterator[NDArray[np.uint8]]:
    """Yield the labels of one slice (Y, X) after the other."""
    if not isinstance(trained, Trained):
        trained = runs.load_network(trained)
    if len(grey_zyx.shape) != 3:
        raise ValueError(f"needs a grey volume with three axes (z, y, x), got shape {tuple(grey_zyx.shape)}")
    on = devices.choose(device)
    network = on.place(trained.network).eval()
    scale = dataset.grey_scale(grey_zyx)
    n_total, *shape_yx = grey_zyx.shape
    per_batch = max(1, PIXELS_PER_BATCH // (shape_yx[0] * shape_yx[1]))
    with steps(None, "segmenting", n_total) as bar:
        for start in range(0, n_total, per_batch):
            window_zcyx = _windows(grey_zyx, range(start, min(start + per_batch, n_total)), scale, trained.network)
            yield from _labels(network, window_zcyx, on)
            bar.update(len(window_zcyx))


def _windows(grey_zyx: NDArray | volumes.Volume, z_range: range, scale: GreyScale, network: UNet) -> Tensor:
    """Normalised grey (B, n_slices, Y, X) around each slice of `z_range`."""
    n_slices, n_total = network.config.n_slices, grey_zyx.shape[0]
    first, last = max(z_range.start - n_slices // 2, 0), min(z_range.stop + n_slices // 2, n_total)
    slab = torch.from_numpy(scale.normalise(np.asarray(grey_zyx[first:last])))
    return torch.stack([slab[dataset.context_slices(z, n_total, n_slices) - first] for z in z_range])


def _labels(network: UNet, window_zcyx: Tensor, on: Device) -> NDArray[np.uint8]:
    """Run the network on slices of any size, mirrored up to the next multiple of 16."""
    rows, columns = window_zcyx.shape[2:]
    missing = [-size % ALIGNMENT for size in (rows, columns)]
    mode = "reflect" if missing[0] < rows and missing[1] < columns else "replicate"
    padded = functional.pad(window_zcyx, (0, missing[1], 0, missing[0]), mode=mode)
    with torch.inference_mode(), on.autocast():
        logits = network(on.images(padded))
    return logits[:, :, :rows, :columns].argmax(dim=1).to(torch.uint8).cpu().numpy()
