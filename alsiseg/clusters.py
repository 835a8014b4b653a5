"""The workers of a dask.distributed cluster: how to reach them, and what they can see.

Neither dask nor distributed is imported before a cluster is asked for.
"""

import hashlib
import logging
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

import alsiseg

if TYPE_CHECKING:
    from distributed import Client

SECONDS_TO_ANSWER = 10


class Volume(Protocol):
    """What a worker must be able to read: a shape, a dtype, and slices along z."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of slices, rows and columns."""

    @property
    def dtype(self) -> Any:  # Any: whatever names a type of voxels
        """Type of a voxel."""

    def __getitem__(self, index: int, /) -> Any:  # Any: what NumPy can make an array of
        """Return a slice."""


@contextmanager
def connected(address: str | None) -> Iterator["Client | None"]:
    """Give a client of the dask scheduler at an address, closed at the end; None without an address.

    Parameters
    ----------
    address : str or None
        As `dask scheduler` prints it, e.g. "tcp://10.0.0.1:8786".

    Raises
    ------
    ValueError
        When distributed is not installed, or this is no address.
    OSError
        When no scheduler answers there.
    """
    if address is None:
        yield None
        return
    with _without_tracebacks(), _client(address) as client:
        yield client


@contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Keep distributed from logging what is raised here in one sentence, such as the loss of a scheduler."""
    logger = logging.getLogger("distributed.client")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _client(address: str) -> "Client":
    try:
        from distributed import Client
    except ImportError as error:
        raise ValueError(
            'workers need the package distributed, which is not installed; pip install "alsiseg[distributed]"'
        ) from error
    try:
        return Client(address, timeout=SECONDS_TO_ANSWER, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise OSError(
            f"needs a dask scheduler at {address}, found none that answers within {SECONDS_TO_ANSWER} s; start one "
            "with `dask scheduler` and give the address that it prints"
        ) from error
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"needs the address of a dask scheduler, such as tcp://10.0.0.1:8786, got {address!r} ({error}); give the "
            "one that `dask scheduler` prints"
        ) from error


def n_workers(client: "Client") -> int:
    """Workers (processes) that are there now."""
    return len(client.nthreads())


def asked(client: "Client", question: Callable, *arguments: Any) -> dict[str, Any]:
    """Have every worker answer, beside its work; Any: whatever the question is about.

    Returns
    -------
    dict
        By the address of the worker, its answer or the exception that it raised. Workers that went meanwhile are
        left out.
    """
    answers = client.run(question, *arguments, on_error="return")
    return {address: answer for address, answer in answers.items() if not isinstance(answer, OSError)}


def check_installed(client: "Client") -> None:
    """Refuse workers that have no alsiseg, or another version than this process.

    Raises
    ------
    ValueError
        It names a worker.
    """
    # A function of the standard library: one of alsiseg would fail to arrive where alsiseg is missing.
    for address, version in sorted(asked(client, pkgutil.resolve_name, "alsiseg:__version__").items()):
        if version != alsiseg.__version__:
            found = f"no alsiseg ({version})" if isinstance(version, Exception) else f"alsiseg {version}"
            raise ValueError(
                f"needs alsiseg {alsiseg.__version__} on every worker, found {found} on {address}; "
                "install the same version there and start the worker again"
            )


def fingerprint(volume_zyx: Volume) -> str:
    """Tell volumes apart by shape, type and the slice in the middle."""
    middle_yx = np.ascontiguousarray(volume_zyx[volume_zyx.shape[0] // 2])
    about = repr((tuple(map(int, volume_zyx.shape)), np.dtype(volume_zyx.dtype).name))
    return hashlib.sha256(about.encode() + middle_yx.tobytes()).hexdigest()


def why_unseen(opened_again: Callable[[], Volume], expected: str) -> str | None:
    """Ask in a worker: say why it does not see the volume of a fingerprint; None when it does."""
    try:
        found = fingerprint(opened_again())
    except (ValueError, TypeError, OSError) as error:
        return str(error)
    return None if found == expected else "another volume stands there under this path"


def blind_workers(client: "Client", opened_again: Callable[[], Volume], expected: str) -> dict[str, str]:
    """Name the workers that do not see a volume, and why."""
    answers = asked(client, why_unseen, opened_again, expected)
    return {address: str(why) for address, why in sorted(answers.items()) if why is not None}
