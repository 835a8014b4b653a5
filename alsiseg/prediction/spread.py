"""How far the measures of the networks differ between the views, or the dropout passes, of one prediction.

That is no interval for the truth: views and passes share what the network always gets wrong, and most truths of unseen
specimens lay outside (`python -m alsiseg.study.coverage` counts them). Intervals that know the errors of the network
come from `alsiseg.calibration`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from alsiseg import metrics
from alsiseg.topology import Connectivity, Sliceable

if TYPE_CHECKING:
    from distributed import Client

MEANING = (
    "low and high are the least and the largest value among the members (views, dropout passes) and their average "
    "prediction: how far the network disagrees with itself; not a confidence interval, nothing is said about how often "
    "the truth lies within"
)


@dataclass(frozen=True)
class Spread:
    """A measure, and between which values it lies in the members.

    Attributes
    ----------
    value : float
        Of the labels from the averaged probabilities.
    low, high : float
        Least and largest of `value` and `of_members`. They tell how far the network disagrees with itself; they
        are no confidence interval: all members share the network and the scan, and with them their errors.
    of_members : dict
        The measure of each member's own labels.
    """

    value: float
    low: float
    high: float
    of_members: dict[str, float]


def spread(
    labels_zyx: Sliceable,
    members: Mapping[str, Sliceable],
    *,
    voxel_size_um: float | None = None,
    connectivity: Connectivity = 26,
    client: "Client | None" = None,
) -> dict[str, dict[str, Spread]]:
    """Measure the networks of a prediction and of its members.

    Parameters
    ----------
    labels_zyx
        Volume (Z, Y, X) from the averaged probabilities.
    members
        Volumes of each view or pass by name, from `predict` with ``Options(members=True)``.
    voxel_size_um, connectivity, client
        As for `metrics.measure_networks`.

    Returns
    -------
    dict
        By network ("silicon", "aluminides", "hybrid"), then by the field of `metrics.NetworkMeasure`.

    Raises
    ------
    ValueError
        With fewer than two members.
    """
    if len(members) < 2:
        raise ValueError(f"the spread needs two members or more, got {len(members)}; ask for views or dropout passes")
    options: dict[str, Any] = {"voxel_size_um": voxel_size_um, "connectivity": connectivity, "client": client}
    average = metrics.as_dict(metrics.measure_networks(labels_zyx, **options))
    each = {name: metrics.as_dict(metrics.measure_networks(of, **options)) for name, of in members.items()}
    return {
        network: {
            measure: _spread(value, {name: measures[network][measure] for name, measures in each.items()})
            for measure, value in measures_of.items()
            if value is not None
        }
        for network, measures_of in average.items()
    }


def _spread(value: float, of_members: dict[str, Any]) -> Spread:
    values = [value, *of_members.values()]
    assert all(math.isfinite(one) for one in values)
    return Spread(value, min(values), max(values), of_members)


def as_json(spreads: Mapping[str, Mapping[str, Spread]]) -> dict[str, Any]:
    """Make plain dictionaries that JSON can hold, with a sentence on what the numbers mean."""
    networks = {name: {measure: asdict(one) for measure, one in found.items()} for name, found in spreads.items()}
    return {"meaning": MEANING, "networks": networks}
