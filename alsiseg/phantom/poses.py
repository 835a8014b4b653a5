"""How the specimen sits in a scan: a hidden rigid move and, in the laboratory, coarser voxels."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from alsiseg.phantom.settings import MODALITIES

Shape = tuple[int, int, int]
Triple = tuple[float, float, float]
Volume = NDArray[np.float32]

SPLINE_REACH = 8  # slices after which a cubic spline has forgotten where its volume was cut


@dataclass(frozen=True)
class Misalignment:
    """How a specimen sits in a scan: the scan at x shows the specimen at R (x - c) + c + shift."""

    shift_zyx_voxel: Triple = (0.0, 0.0, 0.0)
    rotation_zyx_deg: Triple = (0.0, 0.0, 0.0)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The rotation R, for offsets (z, y, x)."""
        return Rotation.from_euler("xyz", self.rotation_zyx_deg, degrees=True).as_matrix()

    def move(self, volume_zyx: Volume) -> Volume:
        """Resample `volume_zyx` as the scan sees it."""
        frame = Frame(volume_zyx.shape, pose=self)  # type: ignore[arg-type]
        return frame.sample(lambda z: volume_zyx[z], range(len(volume_zyx)))


def misalignment(modality: str, seed: int) -> Misalignment:
    """Draw the hidden pose of a specimen; the synchrotron scan defines the frame."""
    if modality == "synchrotron":
        return Misalignment()
    rng = np.random.default_rng([seed, MODALITIES.index(modality), 1])
    shift = rng.uniform(-3, 3, 3)
    rotation = rng.uniform(-0.6, 0.6, 3)
    return Misalignment(tuple(map(float, shift)), tuple(map(float, rotation)))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Frame:
    """The voxels of a scan in the specimen, both centred on each other.

    Attributes
    ----------
    specimen_zyx
        Shape of the specimen in its own voxels.
    binning
        Edge of a scan voxel in voxels of the specimen, 1 or more.
    pose
        Where the scan sees the specimen.
    """

    specimen_zyx: Shape
    binning: float = 1.0
    pose: Misalignment = field(default_factory=Misalignment)

    @property
    def shape_zyx(self) -> Shape:
        """Voxels of the scan."""
        n_z, n_y, n_x = (math.ceil(n / self.binning) for n in self.specimen_zyx)
        return n_z, n_y, n_x

    def sample(self, read: Callable[[slice], Volume], z: range) -> Volume:
        """Read the slices `z` of the scan, also beyond its faces, where it is mirrored.

        `read` gives slices of the specimen. Coarse voxels hold the mean over their extent (to
        second order), moved ones the cubic spline through their neighbours.
        """
        if self.binning == 1 and self.pose == Misalignment():
            return self._read_mirrored(read, z)
        matrix = self.pose.matrix * self.binning
        first = self._in_specimen(np.array([z.start, 0, 0]))
        needed = self._slices_seen(z)
        specimen_zyx = self._read_mirrored(read, needed)
        if self.binning > 1:
            specimen_zyx = ndimage.gaussian_filter(specimen_zyx, math.sqrt((self.binning**2 - 1) / 12), mode="reflect")
        return ndimage.affine_transform(
            specimen_zyx,
            matrix,
            first - np.array([needed.start, 0, 0]),
            output_shape=(len(z), *self.shape_zyx[1:]),
            output=np.float32,
            order=3,
            mode="reflect",
        )

    def slices_around(self, z: slice) -> range:
        """Slices of the scan needed to know it at the slices `z` of the specimen."""
        if self.binning == 1:
            return range(z.start, z.stop)
        low, high = (self._in_scan(n) for n in (z.start, z.stop - 1))
        first, last = math.floor(low) - SPLINE_REACH, math.ceil(high) + SPLINE_REACH
        return range(max(0, first), min(self.shape_zyx[0], last + 1))

    def refine(self, scan_zyx: Volume, around: range, z: slice) -> Volume:
        """Interpolate (cubic) from the voxels of the scan to those of the specimen, pose kept.

        `scan_zyx` holds the slices `around`; the answer holds the slices `z` of the specimen.
        """
        if self.binning == 1:
            return scan_zyx
        offset = np.array([self._in_scan(z.start) - around.start, self._in_scan(0, 1), self._in_scan(0, 2)])
        return ndimage.affine_transform(
            scan_zyx,
            np.full(3, 1 / self.binning),
            offset,
            output_shape=(z.stop - z.start, *self.specimen_zyx[1:]),
            output=np.float32,
            order=3,
            mode="nearest",
        )

    def _in_specimen(self, point_zyx: NDArray) -> NDArray[np.float64]:
        """Specimen coordinates of scan coordinates."""
        centre = (np.array(self.specimen_zyx) - 1) / 2
        offset = (point_zyx - (np.array(self.shape_zyx) - 1) / 2) * self.binning
        return self.pose.matrix @ offset + centre + np.array(self.pose.shift_zyx_voxel)

    def _in_scan(self, index: float, axis: int = 0) -> float:
        """Scan coordinate of a specimen coordinate when the pose is left aside."""
        return (index - (self.specimen_zyx[axis] - 1) / 2) / self.binning + (self.shape_zyx[axis] - 1) / 2

    def _slices_seen(self, z: range) -> range:
        """Specimen slices that the scan slices `z` cut, with what the spline needs beyond."""
        faces = [(n, y, x) for n in (z[0], z[-1]) for y in (0, self.shape_zyx[1]) for x in (0, self.shape_zyx[2])]
        heights = [self._in_specimen(np.array(point))[0] for point in faces]
        return range(math.floor(min(heights)) - SPLINE_REACH, math.ceil(max(heights)) + SPLINE_REACH + 1)

    def _read_mirrored(self, read: Callable[[slice], Volume], z: range) -> Volume:
        """Read slices of the specimen; beyond its faces lie their mirror images."""
        n_z = self.specimen_zyx[0]
        folded = np.mod(np.arange(z.start, z.stop), 2 * n_z)
        indices = np.minimum(folded, 2 * n_z - 1 - folded)
        low = int(indices.min())
        return read(slice(low, int(indices.max()) + 1))[indices - low]
