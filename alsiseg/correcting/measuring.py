"""What the network makes of the slices that count, measured on whole slices after every epoch."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional

from alsiseg import metrics, training
from alsiseg.correcting.material import Material
from alsiseg.correcting.patches import weight_of_region
from alsiseg.devices import Device
from alsiseg.metrics import NetworkMeasure
from alsiseg.phases import Phase
from alsiseg.training import Section, Task
from alsiseg.unet import ALIGNMENT, UNet


@dataclass(frozen=True)
class Measured:
    """A network on the corrected slices, and on test slices of its first training where those are known.

    Attributes
    ----------
    loss : float
        Per pixel that counts.
    labels_nyx : uint8 (N, Y, X)
        What the network gives the corrected slices.
    accuracy_n : (N,) float64
        Its agreement with the user where it counts in each corrected slice, 0..1.
    corrections_accuracy : float
        The same on the painted pixels alone, or where whole slices count on these.
    original_accuracy : float or None
        Accuracy on test slices of the first training, which no training has seen.
    """

    loss: float
    labels_nyx: NDArray[np.uint8]
    accuracy_n: NDArray[np.float64]
    corrections_accuracy: float
    original_accuracy: float | None

    @property
    def accuracy(self) -> float:
        """Mean over the corrected slices."""
        return float(self.accuracy_n.mean())

    def row(self, epoch: int, corrected: Material, images_per_s: float) -> dict[str, float]:
        """Make the row of `history.csv`: train and test section are both the corrected slices."""
        row: dict[str, float] = {"epoch": epoch, "train_loss": self.loss, "test_loss": self.loss}
        row["accuracy"] = self.accuracy
        row["interface_accuracy"] = metrics.interface_accuracy(self.labels_nyx, corrected.labels_nyx.numpy())
        for name, measure in networks(self.labels_nyx, corrected.z_numbers).items():
            row[f"{name}_volume_fraction_pct"] = measure.volume_fraction_pct
            row[f"{name}_interconnectivity"] = measure.interconnectivity
            row[f"{name}_euler_number"] = measure.euler_number
        row["corrections_accuracy"] = self.corrections_accuracy
        if self.original_accuracy is not None:
            row["original_accuracy"] = self.original_accuracy
        return row | {"images_per_s": images_per_s}


def networks(
    labels_nyx: NDArray[np.uint8], z_numbers: list[int], *, voxel_size_um: float | None = None
) -> dict[str, NetworkMeasure]:
    """Measure the networks of single slices: those that are no neighbours in the volume do not touch."""
    gaps = 1 + np.flatnonzero(np.diff(z_numbers) > 1)
    apart_zyx = np.insert(labels_nyx, gaps, np.uint8(Phase.MATRIX), axis=0)
    measures = metrics.measure_networks(apart_zyx, voxel_size_um=voxel_size_um)
    share = len(apart_zyx) / len(labels_nyx)  # the slices laid between are no part of the specimen
    return {name: _of_less(measure, share) for name, measure in measures.items()}


def _of_less(measure: NetworkMeasure, share: float) -> NetworkMeasure:
    density = measure.euler_density_per_mm3
    return replace(
        measure,
        volume_fraction_pct=measure.volume_fraction_pct * share,
        euler_density_per_mm3=None if density is None else density * share,
        euler_density_corrected_per_mm3=None,  # it has no meaning for single slices
    )


def measure(network: UNet, task: Task, corrected: Material, original: Material | None, device: Device) -> Measured:
    """Segment the corrected slices, and those of the first training to watch, one whole slice at a time."""
    loss, labels_nyx = _segment(network, task, corrected, device)
    counted_nyx, right_nyx = corrected.counted_nyx, labels_nyx == corrected.labels_nyx.numpy()
    accuracy_n = (right_nyx & counted_nyx).sum(axis=(1, 2)) / counted_nyx.sum(axis=(1, 2))
    of_original = None
    if original is not None:
        of_original = float(np.mean(_segment(network, task, original, device)[1] == original.labels_nyx.numpy()))
    return Measured(loss, labels_nyx, accuracy_n, _painted_share(right_nyx, corrected), of_original)


def _painted_share(right_nyx: NDArray[np.bool_], material: Material) -> float:
    if material.painted is None:
        return float(right_nyx.mean())
    painted = [right_yx.reshape(-1)[pixels] for right_yx, pixels in zip(right_nyx, material.painted, strict=True)]
    return float(np.concatenate(painted).mean())


def _segment(network: UNet, task: Task, material: Material, device: Device) -> tuple[float, NDArray[np.uint8]]:
    """Loss per pixel that counts, and labels, slice by slice."""
    n_y, n_x = material.shape_yx
    loss_sum, labels = 0.0, []
    for index in range(len(material)):
        section = _whole_slice(material, index, task)
        loss, labels_1yx = training.predict_section(network, task, section, device)
        loss_sum += loss * section.labels_zyx.numel()  # per pixel of the image, most of which may have no weight
        labels.append(labels_1yx[:, :n_y, :n_x])
    return loss_sum / int(material.counted_nyx.sum()), np.concatenate(labels)


def _whole_slice(material: Material, index: int, task: Task) -> Section:
    """One slice, mirrored up to a multiple of 16 as prediction does it; what is added has the weight 0."""
    sides = [(0, -n % ALIGNMENT) for n in material.shape_yx]
    pad = (*sides[1], *sides[0])
    mirrored = all(after < n for (_, after), n in zip(sides, material.shape_yx, strict=True))
    grey_cyx = functional.pad(material.window(index), pad, mode="reflect" if mirrored else "replicate")
    labels_yx = functional.pad(material.labels_nyx[index], pad)
    weights = weight_of_region(task.config.weights)
    weight_yx = functional.pad(weights[material.region_nyx[index].long()], pad)
    return Section(grey_cyx[None], labels_yx[None], weight_yx[None])
