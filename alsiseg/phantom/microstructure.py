"""The specimen: dendrite arms of alpha-Al, a silicon network and aluminides between them.

Lengths follow PAPER.md, section 4 (eutectic silicon 0.5-3 um thick, 40-80 um wide); volume
fractions and connectivity follow the two samples of the paper. Every phase is the cut of a
distance-like field, so its share of the volume is met by a quantile at any shape.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alsiseg.phantom import fields
from alsiseg.phantom.fields import Field, Shape
from alsiseg.phantom.materials import Variant
from alsiseg.phases import Phase

MIN_AXIS = 16


@dataclass(frozen=True)
class Specimen:
    """What the generator needs to know of a casting; lengths in um, fractions of the volume.

    `arm_spacing_um` is the secondary dendrite arm spacing, `silicon_spacing_um` and
    `script_spacing_um` the distance of neighbouring sheets of eutectic silicon and script
    aluminides; `silicon_holes` and `script_holes` the share of a sheet that is missing;
    `broken_colonies` the share of the eutectic in which silicon grew as separate pieces.
    """

    silicon: float
    aluminides: float
    primary_silicon: float
    flat_plates: float
    arms: float
    arm_spacing_um: float
    silicon_spacing_um: float
    script_spacing_um: float
    silicon_holes: float
    script_holes: float
    broken_colonies: float


SPECIMENS: dict[str, Specimen] = {
    "slow": Specimen(
        silicon=0.155,
        aluminides=0.11,
        primary_silicon=0.025,
        flat_plates=0.03,
        arms=0.45,
        arm_spacing_um=36.0,
        silicon_spacing_um=9.6,
        script_spacing_um=24.0,
        silicon_holes=0.22,
        script_holes=0.3,
        broken_colonies=0.0,
    ),
    "fast": Specimen(
        silicon=0.14,
        aluminides=0.18,
        primary_silicon=0.01,
        flat_plates=0.04,
        arms=0.42,
        arm_spacing_um=22.0,
        silicon_spacing_um=7.2,
        script_spacing_um=15.0,
        silicon_holes=0.3,
        script_holes=0.3,
        broken_colonies=0.33,
    ),
}

# Shares of the script aluminides, from the alloy's Cu, Ni, Fe and Mn.
SCRIPT_SHARES: dict[Variant, float] = {
    Variant.AL7CU4NI: 0.45,
    Variant.AL3NI: 0.2,
    Variant.AL15FEMN3SI2: 0.2,
    Variant.AL2CU: 0.12,
    Variant.AL4CU2MG8SI7: 0.03,
}
N_COLONY_ORIENTATIONS = 5
# Pieces that no metallographer would call a particle.
MIN_SILICON_VOXELS = 12
MIN_ALUMINIDE_VOXELS = 24


@dataclass(frozen=True)
class Microstructure:
    """Labels (uint8, `Phase`) and constituents (uint8, `Variant`) of a specimen, both zyx."""

    labels_zyx: NDArray[np.uint8]
    variants_zyx: NDArray[np.uint8]
    voxel_size_um: float


def grow(shape_zyx: Shape, *, specimen: str = "slow", seed: int = 0, voxel_size_um: float = 1.2) -> Microstructure:
    """Draw a specimen; the same arguments give the same bytes.

    Parameters
    ----------
    shape_zyx
        Voxels along z, y and x, each at least 16.
    specimen
        "slow" (the paper's training sample) or "fast" (its second volume).
    seed
        Number of the specimen, not negative.
    voxel_size_um
        Edge of a voxel; features keep their size in um.

    Raises
    ------
    ValueError
        For a shape, a voxel size, a seed or a name that cannot be grown.
    """
    shape_zyx = check_request(shape_zyx, specimen, seed, voxel_size_um)
    recipe = SPECIMENS[specimen]
    rng = np.random.default_rng([seed, list(SPECIMENS).index(specimen)])
    arm_depth = _arm_depth(shape_zyx, recipe, rng, voxel_size_um)
    plate_level, script_level = _aluminide_levels(arm_depth, recipe, rng, voxel_size_um)
    plates, script = _cut_aluminides(plate_level, script_level, recipe.aluminides)
    aluminides = _without_specks(plates | script, MIN_ALUMINIDE_VOXELS)
    silicon = _without_specks(_silicon(arm_depth, aluminides, recipe, rng, voxel_size_um), MIN_SILICON_VOXELS)
    labels_zyx = np.zeros(shape_zyx, dtype=np.uint8)
    labels_zyx[silicon] = Phase.SILICON
    labels_zyx[aluminides] = Phase.ALUMINIDE
    return Microstructure(
        labels_zyx, _variants(labels_zyx, plates & aluminides, rng, recipe, voxel_size_um), voxel_size_um
    )


def check_request(shape_zyx: Shape, specimen: str, seed: int, voxel_size_um: float) -> Shape:
    """Return the shape as three integers, or say in one sentence what is wrong."""
    shape = tuple(int(n) for n in shape_zyx)
    if len(shape) != 3 or min(shape) < MIN_AXIS:
        raise ValueError(
            f"a specimen needs a shape of three axes (z, y, x) of at least {MIN_AXIS} voxels, "
            f"got {tuple(shape_zyx)}; ask for a larger one"
        )
    if specimen not in SPECIMENS:
        raise ValueError(f"specimen must be one of {', '.join(SPECIMENS)}, got {specimen!r}")
    if not (np.isfinite(voxel_size_um) and voxel_size_um > 0):
        raise ValueError(f"voxel_size_um must be a positive length, got {voxel_size_um}; the paper has 1.2")
    if seed < 0:
        raise ValueError(f"seed must be zero or a positive number, got {seed}")
    return shape  # type: ignore[return-value]


def _arm_depth(shape_zyx: Shape, recipe: Specimen, rng: np.random.Generator, voxel_um: float) -> Field:
    """Depth inside the dendrite arms in voxels, negative in the eutectic between them."""
    spacing = recipe.arm_spacing_um / voxel_um
    warp = [fields.smooth_field(shape_zyx, rng, length_voxel=1.5 * spacing) * (0.22 * spacing) for _ in range(3)]
    position = [
        w + np.arange(n, dtype=np.float32).reshape([-1 if a == i else 1 for a in range(3)])
        for i, (n, w) in enumerate(zip(shape_zyx, warp, strict=True))
    ]
    distance = _dendrite_distance(position, _grains(position, rng, 4.5 * spacing), rng, spacing)
    distance += fields.smooth_field(shape_zyx, rng, length_voxel=0.45 * spacing) * (0.07 * spacing)
    return np.quantile(distance, recipe.arms).astype(np.float32) - distance


def _grains(position: list[Field], rng: np.random.Generator, size_voxel: float) -> NDArray[np.uint8]:
    """Give every voxel the number of its dendrite: the nearest of a few random centres."""
    shape_zyx = np.array(position[0].shape)
    n_grains = int(np.clip(np.prod(shape_zyx / size_voxel), 1, 200)) + 1
    nearest = np.full(shape_zyx, np.inf, dtype=np.float32)
    grain = np.zeros(shape_zyx, dtype=np.uint8)
    for number, centre in enumerate(rng.uniform(0, 1, (n_grains, 3)) * shape_zyx):
        offset_z, offset_y, offset_x = (p - np.float32(c) for p, c in zip(position, centre, strict=True))
        distance = offset_z**2 + offset_y**2 + offset_x**2
        closer = distance < nearest
        grain[closer] = number
        nearest[closer] = distance[closer]
    return grain


def _dendrite_distance(
    position: list[Field], grain: NDArray[np.uint8], rng: np.random.Generator, spacing: float
) -> Field:
    """Distance to the axes of trunks and side arms, each dendrite turned its own way."""
    distance = np.empty(grain.shape, dtype=np.float32)
    for number in range(int(grain.max()) + 1):
        turn = Rotation.random(None, rng).as_matrix().astype(np.float32)
        origin = rng.uniform(0, 4 * spacing, 3).astype(np.float32)
        inside = grain == number
        points = np.stack([p[inside] for p in position])
        along, v, w = turn @ points + origin[:, None]
        distance[inside] = _trunk_and_arms(along, v, w, spacing)
    return distance


def _trunk_and_arms(along: Field, v: Field, w: Field, spacing: float) -> Field:
    """Distance to one trunk per cell and to side arms that taper away from it."""
    cell = 2.6 * spacing
    column = np.floor(v / cell) + np.floor(w / cell)
    dv, dw = (v / cell - np.floor(v / cell) - 0.5) * cell, (w / cell - np.floor(w / cell) - 0.5) * cell
    du = ((along / spacing + 0.37 * column) % 1 - 0.5) * spacing
    trunk = np.hypot(dv, dw) - 0.12 * spacing
    taper = 0.10
    arm_v = np.hypot(du, dw) + taper * np.abs(dv)
    arm_w = np.hypot(du, dv) + taper * np.abs(dw)
    return np.minimum(trunk, np.minimum(arm_v, arm_w))


def _aluminide_levels(
    arm_depth: Field, recipe: Specimen, rng: np.random.Generator, voxel_um: float
) -> tuple[Field, Field]:
    """Distances to flat plates and to the script network; both bend to the dendrite arms."""
    shape_zyx: Shape = arm_depth.shape  # type: ignore[assignment]
    plate_level = np.full(shape_zyx, 99.0, dtype=np.float32)
    spacing = recipe.script_spacing_um / voxel_um
    largest = 1.1 * recipe.arm_spacing_um / voxel_um
    fields.stamp_particles(
        plate_level,
        rng,
        allowed=arm_depth < -0.08 * recipe.arm_spacing_um / voxel_um,
        n_voxels=int(recipe.flat_plates * arm_depth.size),
        radius_voxel=(0.5 * largest, largest),
        outline=fields.flat_plate,
    )
    plate_level += np.maximum(arm_depth - 1.0, 0)
    sheets = fields.wave_field(shape_zyx, rng, wavelength_voxel=2 * spacing, bandwidth=0.3)
    holes = fields.wave_field(shape_zyx, rng, wavelength_voxel=1.1 * spacing, bandwidth=0.3)
    missing = np.quantile(holes, recipe.script_holes).astype(np.float32) - holes
    script_level = fields.sheet_distance(sheets) + 6 * np.maximum(missing, 0) + 1.5 * np.maximum(arm_depth, 0)
    return plate_level, script_level


def _cut_aluminides(
    plate_level: Field, script_level: Field, fraction: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Keep the plates and as much of the script network as makes up `fraction`."""
    plates = plate_level < 0
    missing = fraction - plates.mean()
    open_levels = script_level[~plates]
    cut = np.quantile(open_levels, np.clip(missing * plates.size / open_levels.size, 0, 1))
    return plates, ~plates & (script_level < cut)


def _silicon(
    arm_depth: Field,
    aluminides: NDArray[np.bool_],
    recipe: Specimen,
    rng: np.random.Generator,
    voxel_um: float,
) -> NDArray[np.bool_]:
    """Primary blocks and the eutectic plates around them, in what the aluminides leave."""
    blocks = np.full(arm_depth.shape, 99.0, dtype=np.float32)
    radius = 0.3 * recipe.arm_spacing_um / voxel_um
    fields.stamp_particles(
        blocks,
        rng,
        allowed=(arm_depth < -0.1 * recipe.arm_spacing_um / voxel_um) & ~aluminides,
        n_voxels=int(recipe.primary_silicon * arm_depth.size),
        radius_voxel=(0.6 * radius, 1.3 * radius),
        outline=fields.octahedron,
    )
    level = _eutectic_level(arm_depth, recipe, rng, voxel_um)
    level[blocks < 0] = -1.0
    level[aluminides] = np.inf
    return level < np.quantile(level, recipe.silicon)


def _eutectic_level(arm_depth: Field, recipe: Specimen, rng: np.random.Generator, voxel_um: float) -> Field:
    """Distance to the plates of eutectic silicon, larger where they are pierced or broken."""
    shape_zyx: Shape = arm_depth.shape  # type: ignore[assignment]
    spacing = recipe.silicon_spacing_um / voxel_um
    level = fields.sheet_distance(_colonies(shape_zyx, rng, spacing))
    holes = fields.wave_field(shape_zyx, rng, wavelength_voxel=2.2 * spacing, bandwidth=0.4)
    missing = np.quantile(holes, recipe.silicon_holes).astype(np.float32) - holes
    level += 4 * np.maximum(missing, 0)
    if recipe.broken_colonies:
        level += _breaks(shape_zyx, recipe, rng, spacing)
    level += 1.2 * np.maximum(arm_depth, 0)
    return level


def _colonies(shape_zyx: Shape, rng: np.random.Generator, spacing: float) -> Field:
    """Blend plate fields of several orientations, each ruling where its own smooth field is high."""
    blended = np.zeros(shape_zyx, dtype=np.float32)
    total = np.zeros(shape_zyx, dtype=np.float32)
    for normal in Rotation.random(N_COLONY_ORIENTATIONS, rng).as_matrix()[:, 0]:
        rule = np.exp(3.5 * fields.smooth_field(shape_zyx, rng, length_voxel=4 * spacing))
        plates = fields.wave_field(
            shape_zyx, rng, wavelength_voxel=2 * spacing, bandwidth=0.3, normal_zyx=normal, alignment=6.0
        )
        blended += rule * plates
        total += rule**2
    blended /= np.sqrt(total)
    return blended


def _breaks(shape_zyx: Shape, recipe: Specimen, rng: np.random.Generator, spacing: float) -> Field:
    """Gaps that part the silicon of some colonies into separate pieces."""
    rule = fields.smooth_field(shape_zyx, rng, length_voxel=4 * spacing)
    broken = rule > np.quantile(rule, 1 - recipe.broken_colonies)
    gaps = fields.sheet_distance(fields.wave_field(shape_zyx, rng, wavelength_voxel=3 * spacing))
    return np.where(broken & (gaps < 1.3), np.float32(9), np.float32(0))


def _without_specks(mask_zyx: NDArray[np.bool_], min_voxels: int) -> NDArray[np.bool_]:
    """Drop pieces of fewer than `min_voxels` voxels, cuts of the fields' tips by the grid."""
    import cc3d

    pieces = cc3d.connected_components(mask_zyx, connectivity=26)
    large = np.bincount(pieces.ravel()) >= min_voxels
    large[0] = False
    return large[pieces]


def _variants(
    labels_zyx: NDArray[np.uint8],
    plates: NDArray[np.bool_],
    rng: np.random.Generator,
    recipe: Specimen,
    voxel_um: float,
) -> NDArray[np.uint8]:
    """Give every aluminide voxel its constituent: plates Al9FeNi, script by smooth regions."""
    variants_zyx = np.full(labels_zyx.shape, Variant.AL, dtype=np.uint8)
    variants_zyx[labels_zyx == Phase.SILICON] = Variant.SI
    length = recipe.arm_spacing_um / voxel_um
    region = fields.smooth_field(labels_zyx.shape, rng, length_voxel=length)
    script = (labels_zyx == Phase.ALUMINIDE) & ~plates
    if script.any():
        edges = np.quantile(region[script], np.cumsum(list(SCRIPT_SHARES.values()))[:-1])
        numbers = np.array([int(v) for v in SCRIPT_SHARES], dtype=np.uint8)
        variants_zyx[script] = numbers[np.searchsorted(edges, region[script])]
    variants_zyx[plates] = Variant.AL9FENI
    return variants_zyx
