"""How far a network's measures lie from the truth, learned on specimens whose truth is known.

A network errs the same way again and again: it breaks thin branches, or takes noise for particles. Views and dropout
passes share that error, and so do all blocks of a volume, so that neither their spread nor a bootstrap tells of it.
Specimens with a known truth do. For each measure of each network the errors on some of them, which served neither
training nor test, give the mean error, by which a new value is corrected, and the scatter about it, from which comes
the interval: Student's prediction interval for one more specimen, mean -+ t sqrt(1 + 1/n) s.

The error of an amount (a fraction, a number of particles, a length) is the logarithm of truth / measured; that of the
Euler density, whose sign may change, and of the interconnectivity, which ends at 1, is truth - measured.

An interval promises nothing for a scan unlike those specimens: another casting, voxel size or dose. `likeness` warns
of such scans. And it belongs to one network, segmented and measured in one way: `Calibration.unlike` says when a use
differs. Of a smaller volume measures scatter more than the interval says, of a larger one less.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alsiseg import metrics, prediction, runs
from alsiseg.phases import NETWORKS, network_mask
from alsiseg.progress import steps
from alsiseg.runs.files import contents_of, read_header, write_json
from alsiseg.topology import Connectivity
from alsiseg.volumes import Volume

FILE = "calibration.json"
MIN_SPECIMENS = 3
Scale = Literal["ratio", "difference"]
# How the error of each measure is counted, and between which values the measure itself can lie.
SCALES: dict[str, Scale] = {
    "volume_fraction_pct": "ratio",
    "interconnectivity": "difference",
    "euler_density_per_mm3": "difference",
    "euler_density_corrected_per_mm3": "difference",
    "n_components": "ratio",
    "mean_chord_um": "ratio",
}
NOT_DECIDING = ("uncertainty", "members", "precision", "tile_px")  # of `prediction.Options`
BOUNDS = {"volume_fraction_pct": (0.0, 100.0), "interconnectivity": (0.0, 1.0)}
Measures = dict[str, dict[str, float]]  # by network, then by measure


@dataclass(frozen=True)
class Corrected:
    """A measure without the usual error of the network, and where the truth lies at `level` (0..1)."""

    value: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class Errors:
    """What a network got wrong in one measure, specimen by specimen.

    Attributes
    ----------
    scale : str
        "ratio": logarithms of truth / measured; "difference": truth - measured.
    of_specimens : tuple of float
    """

    scale: Scale
    of_specimens: tuple[float, ...]

    @classmethod
    def between(cls, measured: Sequence[float], truth: Sequence[float], scale: Scale) -> "Errors":
        """Compare measures with the truth; where one is not above zero there is no ratio, and differences are taken."""
        ours, true = np.asarray(measured, float), np.asarray(truth, float)
        if scale == "ratio" and min(ours.min(), true.min()) > 0:
            return cls("ratio", tuple(np.log(true / ours).tolist()))
        return cls("difference", tuple((true - ours).tolist()))

    def corrected(self, value: float, level: float, bounds: tuple[float, float]) -> Corrected:
        """Correct one more value; a ratio leaves a value that is not above zero as it is."""
        from scipy import stats

        n = len(self.of_specimens)
        scatter = float(np.std(self.of_specimens, ddof=1)) * math.sqrt(1 + 1 / n)
        half = float(stats.t.ppf((1 + level) / 2, n - 1)) * scatter
        mean = float(np.mean(self.of_specimens))
        at = [value * math.exp(e) if self.scale == "ratio" else value + e for e in (mean, mean - half, mean + half)]
        middle, low, high = np.clip(at, *bounds).tolist()
        return Corrected(middle, low, high, level)


@dataclass(frozen=True)
class Calibration:
    """The errors of one network, and for which use they were measured.

    Attributes
    ----------
    network_sha256, epoch : str, int
        Which network it was.
    options : dict
        How it segmented (`prediction.Options`), as far as that decides the labels.
    connectivity, min_voxels
        How labels were measured: neighbours, and the least voxels of a particle that is kept.
    voxel_size_um, n_voxels
        Of the specimens; the least voxels of one of them.
    specimens : str
        What they were, in words.
    errors : dict
        `Errors` by network, then by measure.
    """

    network_sha256: str
    epoch: int
    options: dict[str, Any]
    connectivity: int
    min_voxels: int
    voxel_size_um: float
    n_voxels: int
    specimens: str
    errors: dict[str, dict[str, Errors]] = field(repr=False)

    @property
    def n_specimens(self) -> int:
        """On how many specimens the errors were measured."""
        return max(len(errors.of_specimens) for by_measure in self.errors.values() for errors in by_measure.values())

    def corrected(self, measures: Mapping[str, Mapping[str, float | None]], *, level: float = 0.95) -> dict[str, dict]:
        """Correct measures and give their intervals.

        Parameters
        ----------
        measures
            By network, then by the field of `metrics.NetworkMeasure`, as `metrics.as_dict` gives them; those that are
            None or of which no errors are known are left out.
        level
            Share of such intervals that hold the truth, 0..1.

        Returns
        -------
        dict
            `Corrected` by network, then by measure.
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie between 0 and 1, got {level}; 0.95 is usual")
        return {
            network: {
                name: errors.corrected(float(value), level, BOUNDS.get(name, (-math.inf, math.inf)))
                for name, errors in by_measure.items()
                if (value := measures[network].get(name)) is not None
            }
            for network, by_measure in self.errors.items()
            if network in measures
        }

    def unlike(
        self,
        *,
        trained: runs.Trained | None = None,
        options: prediction.Options | None = None,
        connectivity: int = 26,
        min_voxels: int = 1,
        voxel_size_um: float | None = None,
        n_voxels: int | None = None,
    ) -> list[str]:
        """Say in which ways a use is not the one that was calibrated, one sentence each; None is not compared."""
        found = []
        if trained is not None and checksum(trained) != self.network_sha256:
            found.append(f"the errors are those of another network (epoch {self.epoch}): calibrate this one")
        here = {"connectivity": connectivity, "min_voxels": min_voxels}
        here |= {} if options is None else decisive(options)
        usual = decisive(prediction.Options())  # for options that are younger than the calibration
        known = {"connectivity": self.connectivity, "min_voxels": self.min_voxels, **usual, **self.options}
        found += [
            f"the errors were measured with {name} = {known[name]}, here it is {value}: use that, or calibrate anew"
            for name, value in here.items()
            if known[name] != value
        ]
        if voxel_size_um is not None and not math.isclose(voxel_size_um, self.voxel_size_um, rel_tol=0.01):
            found.append(f"the errors were measured at {self.voxel_size_um:g} um a voxel, here it is {voxel_size_um:g}")
        if n_voxels is not None and n_voxels < self.n_voxels / 2:
            found.append(
                f"the errors were measured on volumes of {self.n_voxels:,} voxels, this one has {n_voxels:,}: smaller "
                "ones scatter more, so that the intervals are too narrow"
            )
        return found


def checksum(trained: runs.Trained) -> str:
    """SHA-256 of the weights of a network."""
    weights = [tensor.float().cpu().numpy().ravel() for _, tensor in sorted(trained.network.state_dict().items())]
    return runs.checksum(np.concatenate(weights))


def decisive(options: prediction.Options) -> dict[str, Any]:
    """Keep of the options those that decide which labels come out."""
    return {name: value for name, value in asdict(options).items() if name not in NOT_DECIDING}


def measured(
    labels_zyx: NDArray[np.uint8], *, voxel_size_um: float, connectivity: Connectivity = 26, min_voxels: int = 1
) -> Measures:
    """Measure the networks of labels (Z, Y, X) as a calibration does; a network without a chord has none."""
    if min_voxels > 1:
        labels_zyx = metrics.without_specks(labels_zyx, min_voxels, connectivity=connectivity)
    found = metrics.measure_networks(labels_zyx, connectivity=connectivity, voxel_size_um=voxel_size_um)
    lengths = {name: metrics.mean_chord_um(network_mask(labels_zyx, name), voxel_size_um) for name in NETWORKS}
    numbers = metrics.as_dict({name: replace(of, mean_chord_um=lengths[name]) for name, of in found.items()})
    return {
        network: {name: float(of[name]) for name in SCALES if of[name] is not None and math.isfinite(of[name])}  # type: ignore[arg-type]
        for network, of in numbers.items()
    }


def errors_of(pairs: Sequence[tuple[Measures, Measures]]) -> dict[str, dict[str, Errors]]:
    """Errors by network and measure of pairs (measured, truth), specimen by specimen.

    Raises
    ------
    ValueError
        With fewer than three specimens.
    """
    if len(pairs) < MIN_SPECIMENS:
        raise ValueError(
            f"a calibration needs {MIN_SPECIMENS} specimens of known truth or more, got {len(pairs)}; ten are usual"
        )
    errors: dict[str, dict[str, Errors]] = {}
    for network in NETWORKS:
        known = [name for name in SCALES if all(name in of[network] for pair in pairs for of in pair)]
        errors[network] = {}
        for name in known:
            ours, truth = ([of[network][name] for of in side] for side in zip(*pairs, strict=True))
            errors[network][name] = Errors.between(ours, truth, SCALES[name])
    return errors


def calibrate(
    run_dir: str | Path,
    pairs: Sequence[tuple[Volume | NDArray[Any], Volume | NDArray[np.uint8]]],
    *,
    voxel_size_um: float,
    specimens: str,
    epoch: int | None = None,
    options: prediction.Options | None = None,
    connectivity: Connectivity = 26,
    min_voxels: int = 1,
    device: str = "auto",
) -> Calibration:
    """Segment scans whose truth is known, measure the errors, and store them with the run (`calibration.json`).

    Parameters
    ----------
    run_dir
        The run folder.
    pairs
        Scan and true labels, each (Z, Y, X), of specimens that served neither training nor any test.
    voxel_size_um
        Edge of a voxel of all of them.
    specimens
        What they are, in a few words: what the intervals hold for.
    epoch
        The last kept one unless given.
    options
        How to segment; `prediction.Options()` unless given.
    connectivity, min_voxels
        How to measure, as in `metrics.Options`.
    device
        "auto", "cpu", "cuda", ...

    Raises
    ------
    ValueError
        With fewer than three pairs, or when the network cannot segment them.
    OSError
        When there is no run, or it cannot be written to.
    """
    options = options or prediction.Options()
    trained = runs.load_network(run_dir, epoch)
    how: dict[str, Any] = {"voxel_size_um": voxel_size_um, "connectivity": connectivity, "min_voxels": min_voxels}
    found = []
    for grey_zyx, truth_zyx in steps(pairs, "calibrating", total=len(pairs), unit=" specimens"):
        labels_zyx = prediction.segment(grey_zyx, trained, device=device, options=options)
        found.append((measured(labels_zyx, **how), measured(np.asarray(truth_zyx[:]), **how)))
    smallest = min((math.prod(grey_zyx.shape) for grey_zyx, _ in pairs), default=0)
    whose: dict[str, Any] = {"network_sha256": checksum(trained), "epoch": trained.epoch, "options": decisive(options)}
    made = Calibration(**whose, **how, n_voxels=smallest, specimens=specimens, errors=errors_of(found))
    save(made, trained.run_dir)
    return made


def save(calibration: Calibration, run_dir: str | Path) -> Path:
    """Store a calibration with its run."""
    path = Path(run_dir) / FILE
    write_json(path, {"format": runs.FORMAT, **asdict(calibration)})
    return path


def read(run_dir: str | Path) -> Calibration | None:
    """Read the calibration of a run folder, or of a network that comes with alsiseg; None when it has none.

    Raises
    ------
    ValueError
        When the file is damaged or was not written by alsiseg.
    FileNotFoundError
        When there is no such run.
    """
    path = runs.located(run_dir) / FILE
    if not path.is_file():
        return None
    with contents_of(path):
        content = read_header(path)
        content.pop("format")
        errors = {
            network: {name: Errors(of["scale"], tuple(of["of_specimens"])) for name, of in by_measure.items()}
            for network, by_measure in content.pop("errors").items()
        }
        return Calibration(errors=errors, **content)


def required(run_dir: str | Path) -> Calibration:
    """Read the calibration of a run that must have one.

    Raises
    ------
    ValueError
        When it has none, and as `read` does.
    """
    if (found := read(run_dir)) is None:
        raise ValueError(
            f"needs {FILE} in {run_dir}, found none; python -m alsiseg.study.coverage --run {run_dir} makes it"
        )
    return found


def as_text(corrected: Mapping[str, Mapping[str, Corrected]], calibration: Calibration, *, level: float) -> str:
    """Write measures that were corrected with intervals of `level` for people, and what they rest on."""
    plain = {
        name: {field: (of.value, of.low, of.high) for field, of in found.items()} for name, found in corrected.items()
    }
    return f"{metrics.estimates_table(plain, heading='corrected', level=level)}\n{_basis(calibration)}"


def as_json(corrected: Mapping[str, Mapping[str, Corrected]], calibration: Calibration) -> dict[str, Any]:
    """Make plain dictionaries that JSON can hold, with a sentence on what they rest on."""
    networks = {name: {measure: asdict(of) for measure, of in found.items()} for name, found in corrected.items()}
    return {"meaning": _basis(calibration), "networks": networks}


def _basis(calibration: Calibration) -> str:
    chosen = [f"{name} = {value}" for name, value in calibration.options.items() if value]
    return (
        f"corrected by the mean error of the network of epoch {calibration.epoch} on {calibration.n_specimens} "
        f"specimens of known truth ({calibration.specimens}); holds for labels of that network, segmented with "
        f"{', '.join(chosen) or 'slices along z alone'}, of scans like those only"
    )
