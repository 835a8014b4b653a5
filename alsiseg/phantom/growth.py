"""From a casting's recipe to smooth fields: where its phases end, before any voxel is filled.

Recipes are in um and everything is drawn in voxels: the same features come out at any voxel size.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from alsiseg.phantom import dendrites, fields, particles
from alsiseg.phantom.fields import Field, Shape
from alsiseg.phantom.partial_volume import Sheets
from alsiseg.phantom.specimens import BLOCKS, PLATES, SCRIPT_SHARES, Specimen
from alsiseg.phantom.surfaces import Body, Surfaces
from alsiseg.phases import Phase

N_COLONY_ORIENTATIONS = 5
# How unevenly thick sheets are: standard deviation over distance of neighbours.
SILICON_UNEVENNESS = 0.08
SCRIPT_UNEVENNESS = 0.03
N_CORRECTIONS = 2


def draw(
    shape_zyx: Shape, recipe: Specimen, rng: np.random.Generator, voxel_um: float
) -> tuple[Surfaces, NDArray[np.uint8]]:
    """Draw a specimen: its surfaces, and the aluminide `Variant` in or nearest to every voxel."""
    arm_depth = dendrites.arm_depth(shape_zyx, rng, spacing_voxel=recipe.arm_spacing_um / voxel_um, arms=recipe.arms)
    casting = _Casting(recipe, rng, voxel_um, arm_depth)
    primary = casting.primary_silicon()
    aluminide, variants_zyx = casting.aluminides(free=primary >= 0)
    silicon = Body(primary, casting.eutectic())
    return _cut(silicon, aluminide, {Phase.SILICON: recipe.silicon, Phase.ALUMINIDE: recipe.aluminides}), variants_zyx


def _cut(silicon: Body, aluminide: Body, wanted: dict[Phase, float]) -> Surfaces:
    """Make the sheets so thick that the wanted fractions of the volume are labelled.

    A quantile of the levels gives the fraction of voxel centres inside. Fewer voxels are labelled,
    because the thinnest sheets fill no voxel by more than a half: by as much more is asked for.
    """
    asked = wanted
    for _ in range(N_CORRECTIONS):
        labelled = _cut_at_centres(silicon, aluminide, asked).labelled_fractions()
        asked = {phase: asked[phase] + wanted[phase] - labelled[phase] for phase in wanted}
    return _cut_at_centres(silicon, aluminide, asked)


def _cut_at_centres(silicon: Body, aluminide: Body, asked: dict[Phase, float]) -> Surfaces:
    """Make the sheets so thick that the asked fractions of the voxel centres lie inside."""
    primary = silicon.solid_zyx < 0
    aluminide = _cut_sheets(aluminide, asked[Phase.ALUMINIDE], ~primary)
    return Surfaces(_cut_sheets(silicon, asked[Phase.SILICON], primary | (aluminide.level() >= 0)), aluminide)


def _cut_sheets(body: Body, fraction: float, free: NDArray[np.bool_]) -> Body:
    """Thicken the sheets until the body, where it is free to be, takes a fraction of the volume."""
    level = body.sheets.level()
    level[body.solid_zyx < 0] = -np.inf
    level[~free] = np.inf
    return body.with_thicker_sheets(float(np.quantile(level, np.clip(fraction, 0, 1), method="lower")))


@dataclass(frozen=True)
class _Casting:
    """A recipe, the random numbers it is carried out with, and the arms that have grown so far."""

    recipe: Specimen
    rng: np.random.Generator
    voxel_um: float
    arm_depth: Field

    @property
    def shape_zyx(self) -> Shape:
        return self.arm_depth.shape  # type: ignore[return-value]

    def voxels(self, length_um: float) -> float:
        return length_um / self.voxel_um

    def between_arms(self, share_of_spacing: float) -> NDArray[np.bool_]:
        """Mark the eutectic that is farther from the arms than a share of their spacing."""
        return self.arm_depth < -share_of_spacing * self.voxels(self.recipe.arm_spacing_um)

    def stamped(
        self,
        allowed: NDArray[np.bool_],
        fraction: float,
        radius_um: tuple[float, float],
        outline: particles.Outline,
    ) -> Field:
        """Level of particles that cover a fraction of the volume; the arms round them off."""
        small, large = radius_um
        level = particles.no_particles(self.shape_zyx)
        particles.stamp(
            level,
            self.rng,
            allowed=allowed,
            n_voxels=int(fraction * level.size),
            radius_voxel=(self.voxels(small), self.voxels(large)),
            outline=outline,
        )
        level += np.maximum(self.arm_depth - 1, 0)
        return level

    def primary_silicon(self) -> Field:
        """Level of the blocks of primary silicon, which grow first."""
        return self.stamped(
            self.between_arms(0.1), self.recipe.primary_silicon, self.recipe.primary_radius_um, particles.octahedron
        )

    def aluminides(self, free: NDArray[np.bool_]) -> tuple[Body, NDArray[np.uint8]]:
        """Draw flat plates, polyhedra and uncut script, and the `Variant` nearest to every voxel."""
        allowed = free & self.between_arms(0.08)
        recipe = self.recipe
        plates = self.stamped(allowed, recipe.flat_plates, recipe.plate_radius_um, particles.plate(self.voxels(2.0)))
        blocks = self.stamped(allowed, recipe.blocks, recipe.block_radius_um, particles.cuboid)
        solid = np.minimum(plates, blocks)
        uncut = Body(solid, self.script())
        script = _cut_sheets(uncut, recipe.aluminides, free).sheets.level()
        variants_zyx = self.script_variants(script)
        variants_zyx[solid < script] = np.where(plates < blocks, PLATES, BLOCKS)[solid < script]
        return uncut, variants_zyx

    def script_variants(self, script_level: Field) -> NDArray[np.uint8]:
        """Share the script out among its constituents, by smooth regions."""
        length = self.voxels(self.recipe.arm_spacing_um)
        region = fields.smooth_field(self.shape_zyx, self.rng, length_voxel=length)
        inside = script_level <= max(0.0, float(script_level.min()))
        edges = np.quantile(region[inside], np.cumsum(list(SCRIPT_SHARES.values()))[:-1])
        return np.array(list(SCRIPT_SHARES), dtype=np.uint8)[np.searchsorted(edges, region)]

    def script(self) -> Sheets:
        """Curved sheets of aluminides with many holes, bent to the dendrite arms."""
        spacing = self.voxels(self.recipe.script_spacing_um)
        sheets = fields.wave_field(self.shape_zyx, self.rng, wavelength_voxel=2 * spacing, bandwidth=0.3)
        missing = self._holes(1.1 * spacing, self.recipe.script_holes, 0.5 * spacing)
        missing += 1.5 * np.maximum(self.arm_depth, 0)
        missing += self._unevenness(SCRIPT_UNEVENNESS * spacing, spacing)
        return Sheets(fields.sheet_offset(sheets), -missing)

    def eutectic(self) -> Sheets:
        """Plates of eutectic silicon, pierced, and broken in some colonies."""
        spacing = self.voxels(self.recipe.silicon_spacing_um)
        missing = self._holes(2.2 * spacing, self.recipe.silicon_holes, 0.6 * spacing)
        if self.recipe.broken_colonies:
            missing += self._breaks(spacing)
        missing += 1.2 * np.maximum(self.arm_depth, 0)
        missing += self._unevenness(SILICON_UNEVENNESS * spacing, 2 * spacing)
        return Sheets(fields.sheet_offset(self._colonies(spacing)), -missing)

    def _holes(self, wavelength_voxel: float, share: float, depth_voxel: float) -> Field:
        """Thickness taken away where a wave field is low: nothing outside a `share` of the volume."""
        wave = fields.wave_field(self.shape_zyx, self.rng, wavelength_voxel=wavelength_voxel, bandwidth=0.35)
        return np.float32(depth_voxel) * np.maximum(np.float32(np.quantile(wave, share)) - wave, 0)

    def _unevenness(self, spread_voxel: float, length_voxel: float) -> Field:
        """Thickness taken away or, where negative, added at random."""
        return np.float32(spread_voxel) * fields.smooth_field(self.shape_zyx, self.rng, length_voxel=length_voxel)

    def _colonies(self, spacing: float) -> Field:
        """Blend plate fields of several directions, each ruling where its own smooth field is high."""
        blended = np.zeros(self.shape_zyx, dtype=np.float32)
        total = np.zeros(self.shape_zyx, dtype=np.float32)
        size = 0.7 * self.voxels(self.recipe.colony_um)
        for normal in Rotation.random(N_COLONY_ORIENTATIONS, self.rng).as_matrix()[:, 0]:
            rule = np.exp(np.float32(3.5) * fields.smooth_field(self.shape_zyx, self.rng, length_voxel=size))
            plates = fields.wave_field(
                self.shape_zyx, self.rng, wavelength_voxel=2 * spacing, bandwidth=0.3, normal_zyx=normal, alignment=6.0
            )
            blended += plates * rule
            total += np.square(rule, out=rule)
        return np.divide(blended, np.sqrt(total, out=total), out=blended)

    def _breaks(self, spacing: float) -> Field:
        """Thickness taken away along gaps that part the silicon of some colonies into pieces.

        The gaps follow two fields: one alone parts space into two halves that both hang together.
        """
        size = 0.7 * self.voxels(self.recipe.colony_um)
        rule = fields.smooth_field(self.shape_zyx, self.rng, length_voxel=size)
        broken = np.clip(4 * (rule - np.float32(np.quantile(rule, 1 - self.recipe.broken_colonies))), 0, 1)
        to_gap = np.minimum(self._to_gap(5 * spacing), self._to_gap(5 * spacing))
        # Half a voxel wider, so that the pieces of the label volume do not touch at corners.
        half_width = np.float32(self.voxels(0.5 * self.recipe.gap_um) + 0.5)
        return 4 * np.maximum(half_width * broken - to_gap, 0)

    def _to_gap(self, wavelength_voxel: float) -> Field:
        """Distance in voxels to the curved middle of a gap."""
        wave = fields.wave_field(self.shape_zyx, self.rng, wavelength_voxel=wavelength_voxel)
        return np.abs(fields.sheet_offset(wave))
