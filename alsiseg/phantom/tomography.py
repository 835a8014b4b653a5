"""Parallel-beam projection and filtered back-projection, all slices of a slab at once.

One sparse matrix spreads every pixel linearly over the rays next to it at each of a few
neighbouring angles, so that the pixels are read once for all of them. Its transpose projects; the
matrix of one ray per detector column back-projects. SciPy multiplies on a CPU: pixel after pixel,
in the order of memory, into detector rows that fit the processor's cache. Torch does so on other
devices.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

if TYPE_CHECKING:
    import torch

ANGLES_AT_ONCE = 8


@dataclass(frozen=True)
class Views:
    """Slices seen under a few angles.

    Attributes
    ----------
    numbers
        Which of all angles these are.
    rays, columns
        Weight of every pixel on every ray, in every detector column, of every angle: (pixel, angle and ray),
        (pixel, angle and column).
    device
        Where torch computes.
    """

    numbers: range
    rays: sparse.csr_array
    columns: sparse.csr_array
    device: str

    def project(self, slices_pz: torch.Tensor) -> torch.Tensor:
        """Integrate every slice along the rays, in voxels: (angle, ray, slice)."""
        return self._product(self.rays.T, slices_pz).reshape(len(self.numbers), -1, slices_pz.shape[1])

    def back_project(self, images_acz: torch.Tensor) -> torch.Tensor:
        """Sum over the angles what every pixel is seen as: (pixel, slice)."""
        return self._product(self.columns, images_acz.reshape(-1, images_acz.shape[2]))

    def _product(self, matrix: sparse.sparray, dense: torch.Tensor) -> torch.Tensor:
        import torch

        if self.device == "cpu":
            return torch.from_numpy(matrix @ dense.contiguous().numpy())
        return _tensor(matrix.tocsr(), self.device) @ dense


@dataclass(frozen=True)
class ParallelBeam:
    """Rows and columns of the slices in the beam; the axis of rotation is their centre.

    More rays than one per detector column let an image be blurred before it is sampled, as light is. Sampled
    first, fringes too fine for the columns would come back as grain.
    """

    n_y: int
    n_x: int
    rays_per_column: int = 1

    @property
    def n_columns(self) -> int:
        """Detector columns of one voxel each that hold the slice at every angle."""
        return 2 * math.ceil(math.hypot(self.n_y, self.n_x) / 2) + 4

    def all_views(self, angles_rad: NDArray[np.floating], device: str = "cpu") -> Iterator[Views]:
        """Views of all angles, a few at a time."""
        for start in range(0, len(angles_rad), ANGLES_AT_ONCE):
            numbers = range(start, min(start + ANGLES_AT_ONCE, len(angles_rad)))
            columns = self._weights(angles_rad[start : numbers.stop], 1)
            fine = self.rays_per_column
            rays = columns if fine == 1 else self._weights(angles_rad[start : numbers.stop], fine)
            yield Views(numbers, rays, columns, device)

    def _weights(self, angles_rad: NDArray[np.floating], fine: int) -> sparse.csr_array:
        """Weight of every pixel on the rays it reaches, `fine` of them to a column.

        A pixel is a cone two columns wide, whatever the angle: linear interpolation for one ray per column.
        """
        y = np.arange(self.n_y)[:, None] - (self.n_y - 1) / 2
        x = np.arange(self.n_x) - (self.n_x - 1) / 2
        n_rays = fine * self.n_columns
        shape = (self.n_y * self.n_x, len(angles_rad), 2 * fine)
        rays, weights = np.empty(shape, dtype=np.int32), np.empty(shape, dtype=np.float32)
        for a, angle in enumerate(angles_rad):
            position = (x * math.cos(angle) + y * math.sin(angle)).ravel() + (self.n_columns - 1) / 2
            position = fine * position + (fine - 1) / 2
            first = position.astype(np.int32) - (fine - 1)
            for reached in range(2 * fine):
                weights[:, a, reached] = 1 - np.abs(first + reached - position) / fine
                rays[:, a, reached] = first + reached + a * n_rays
        starts = np.arange(0, rays.size + 1, 2 * fine * len(angles_rad), dtype=np.int32)
        return sparse.csr_array((weights.ravel(), rays.ravel(), starts), shape=(shape[0], len(angles_rad) * n_rays))


def angles_rad(n_angles: int) -> NDArray[np.floating]:
    """Evenly spaced angles over half a turn."""
    return np.arange(n_angles) * (np.pi / n_angles)


def ramp_filter(images_acz: torch.Tensor) -> torch.Tensor:
    """Filter (angle, column, slice) images along the columns with the ramp of Kak and Slaney (1988), eq. 61."""
    import torch

    n_columns = images_acz.shape[1]
    n_padded = fft.next_fast_len(2 * n_columns, real=True)
    response = _ramp(n_padded, str(images_acz.device))[:, None]
    spectrum = torch.fft.rfft(images_acz, n=n_padded, dim=1) * response
    return torch.fft.irfft(spectrum, n=n_padded, dim=1)[:, :n_columns]


@lru_cache(maxsize=8)
def _ramp(n_padded: int, device: str) -> torch.Tensor:
    """Response of the ramp sampled in space, so that a constant keeps its value."""
    import torch

    offset = np.minimum(np.arange(n_padded), n_padded - np.arange(n_padded))
    kernel = np.where(offset % 2 == 1, -1 / (np.pi * np.maximum(offset, 1)) ** 2, 0.0)
    kernel[0] = 0.25
    return torch.from_numpy(fft.rfft(kernel).real.astype(np.float32)).to(device)


def _tensor(matrix: sparse.csr_array, device: str) -> torch.Tensor:
    """Compressed sparse rows as a tensor, without torch's notice that they are new."""
    import torch

    starts, columns, values = (torch.from_numpy(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, size=matrix.shape, check_invariants=False).to(device)
