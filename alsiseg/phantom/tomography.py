"""Parallel-beam projection and filtered back-projection, all slices of a slab at once.

One sparse matrix per angle spreads every pixel linearly over two detector columns. Its product
with all slices projects them, the product of its transpose back-projects them.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ParallelBeam:
    """Rows and columns of the slices in the beam; the axis of rotation is their centre."""

    n_y: int
    n_x: int

    @property
    def n_columns(self) -> int:
        """Detector columns of one voxel each that hold the slice at every angle."""
        return 2 * math.ceil(math.hypot(self.n_y, self.n_x) / 2) + 4

    def spread(self, angle_rad: float, device: str = "cpu") -> torch.Tensor:
        """Sparse (pixel, column) matrix that back-projects; its transpose projects."""
        column, weight = self._footprint(angle_rad)
        starts = np.arange(0, len(column) + 1, 2)
        return _csr(starts, column, weight, (self.n_y * self.n_x, self.n_columns), device)

    def gather(self, angle_rad: float, device: str = "cpu") -> torch.Tensor:
        """Sparse (column, pixel) matrix that projects."""
        column, weight = self._footprint(angle_rad)
        order = np.argsort(column, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(column, minlength=self.n_columns))])
        return _csr(starts, order // 2, weight[order], (self.n_columns, self.n_y * self.n_x), device)

    def _footprint(self, angle_rad: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Two detector columns per pixel and their weights, flat and in pixel order."""
        y = np.arange(self.n_y)[:, None] - (self.n_y - 1) / 2
        x = np.arange(self.n_x) - (self.n_x - 1) / 2
        position = (x * math.cos(angle_rad) + y * math.sin(angle_rad)).ravel() + (self.n_columns - 1) / 2
        left = np.floor(position).astype(np.int64)
        right_weight = (position - left).astype(np.float32)
        columns = np.stack([left, left + 1], axis=1).ravel()
        return columns, np.stack([1 - right_weight, right_weight], axis=1).ravel()


def angles_rad(n_angles: int) -> NDArray[np.floating]:
    """Evenly spaced angles over half a turn."""
    return np.arange(n_angles) * (np.pi / n_angles)


def ramp_filter(projection_cz: torch.Tensor) -> torch.Tensor:
    """Filter a (column, slice) projection with the band-limited ramp of Kak and Slaney (1988), eq. 61."""
    import torch

    n_columns = projection_cz.shape[0]
    n_padded = 2 ** math.ceil(math.log2(2 * n_columns))
    response = _ramp(n_padded).to(projection_cz.device)[:, None]
    spectrum = torch.fft.rfft(projection_cz, n=n_padded, dim=0) * response
    return torch.fft.irfft(spectrum, n=n_padded, dim=0)[:n_columns].contiguous()


def _ramp(n_padded: int) -> torch.Tensor:
    """Response of the ramp sampled in space, so that a constant keeps its value."""
    import torch

    offset = torch.minimum(torch.arange(n_padded), n_padded - torch.arange(n_padded)).double()
    kernel = torch.where(offset % 2 == 1, -1 / (math.pi * offset.clamp(min=1)) ** 2, 0.0)
    kernel[0] = 0.25
    return torch.fft.rfft(kernel).real.float()


def _csr(
    starts: NDArray[np.int64],
    columns: NDArray[np.int64],
    weights: NDArray[np.float32],
    shape: tuple[int, int],
    device: str,
) -> torch.Tensor:
    """Compressed sparse rows as a tensor, without torch's notice that they are new."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
        rows, where, values = torch.from_numpy(starts), torch.from_numpy(columns), torch.from_numpy(weights)
        matrix = torch.sparse_csr_tensor(rows, where, values, size=shape, check_invariants=False)
        return matrix.to(device)
