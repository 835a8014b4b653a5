"""Euler numbers of torch tensors, counted where they are."""

from typing import TYPE_CHECKING

from alsiseg.topology.reading import Connectivity, check_connectivity

if TYPE_CHECKING:
    from torch import Tensor

VOXELS_AT_ONCE = 2**28  # eight copies of a slab of booleans are made on the device


def euler_number_of_tensor(
    network_zyx: "Tensor", *, connectivity: Connectivity = 26, n_threads: int | None = None
) -> int:
    """Euler number of a boolean tensor (Z, Y, X); see `euler_number`.

    A tensor of the processor is counted as the array it shares its memory with, any other on its device.

    Raises
    ------
    TypeError, ValueError
        As `euler_number` does.
    """
    import torch

    check_connectivity(connectivity)
    if network_zyx.dtype != torch.bool:
        raise TypeError(
            f"euler_number needs a boolean network, got dtype {network_zyx.dtype}; "
            "select phases first, e.g. labels_zyx == Phase.SILICON"
        )
    if network_zyx.ndim != 3:
        raise ValueError(
            f"euler_number needs a volume with axes z, y, x, got shape {tuple(network_zyx.shape)}; "
            "a single slice is a volume too: labels_yx[None]"
        )
    if network_zyx.device.type == "cpu":
        from alsiseg.topology.euler import EulerCounts

        return EulerCounts.of(network_zyx.numpy(), connectivity=connectivity, n_threads=n_threads).number
    return euler_number_on_device(network_zyx, connectivity)


def euler_number_on_device(network_zyx: "Tensor", connectivity: Connectivity) -> int:
    """Count by torch operations: the same runs along z as in `EulerCounts`, a byte a voxel.

    About 25 bytes are moved for each voxel, so a device counts at about a twenty-fifth of its memory bandwidth.
    """
    import torch

    n_z, n_y, n_x = network_zyx.shape
    n_slices = max(1, VOXELS_AT_ONCE // max(1, n_y * n_x))
    below_yx = torch.zeros_like(network_zyx[:1])
    total = torch.zeros((), dtype=torch.int64, device=network_zyx.device)
    for z in range(0, n_z, n_slices):
        slab_zyx = network_zyx[z : z + n_slices]
        total += _starts(torch.cat([below_yx, slab_zyx]), connectivity)
        below_yx = slab_zyx[-1:]
    return int(total)


def _starts(slab_zyx: "Tensor", connectivity: Connectivity) -> "Tensor":
    """Signed number of runs along z that start behind the first slice."""
    from torch.nn.functional import pad

    padded = pad(slab_zyx, (1, 1, 1, 1))
    v, left, above, corner = padded[:, 1:, 1:], padded[:, 1:, :-1], padded[:, :-1, 1:], padded[:, :-1, :-1]
    if connectivity == 6:
        v_x, v_y, v_xy = v & left, v & above, v & left & above & corner
    else:
        v_x, v_y, v_xy = v | left, v | above, v | left | above | corner
    n, n_x, n_y, n_xy = ((runs[1:] > runs[:-1]).count_nonzero() for runs in (v, v_x, v_y, v_xy))
    number = n - n_x - n_y + n_xy
    return number + _corners(v, left, above, corner) if connectivity == 18 else number


def _corners(v: "Tensor", left: "Tensor", above: "Tensor", corner: "Tensor") -> "Tensor":
    """Count the corners where two voxels alone touch; see `EulerCounts`."""
    (a, ax, ay, axy), (b, bx, by, bxy) = ([x[z] for x in (v, left, above, corner)] for z in (slice(1, None), slice(-1)))
    first = (a ^ axy) & (b ^ bxy) & ~((a ^ bxy) | ax | ay | bx | by)
    second = (ax ^ ay) & (bx ^ by) & ~((ax ^ by) | a | axy | b | bxy)
    return (first | second).count_nonzero()
