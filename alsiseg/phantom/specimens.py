"""The two castings of the paper, as the generator needs to know them.

Lengths follow PAPER.md, section 4 (eutectic silicon 0.5-3 um thick, 40-80 um wide); volume
fractions and connectivity follow the two samples of the paper.
"""

from dataclasses import dataclass

from alsiseg.phantom.materials import Variant


@dataclass(frozen=True)
class Specimen:
    """What the generator needs to know of a casting; lengths in um, fractions of the volume.

    Attributes
    ----------
    silicon, aluminides
        Volume fractions of the two phases, as labelled.
    primary_silicon, flat_plates, blocks
        Volume fractions of primary silicon, of flat and of blocky aluminides, within the above.
    arms
        Volume fraction of the dendrite arms of alpha-Al; eutectic fills the rest.
    arm_spacing_um
        Secondary dendrite arm spacing.
    colony_um
        Width of a region in which eutectic silicon grew in one direction.
    silicon_spacing_um, script_spacing_um
        Distance of neighbouring sheets of eutectic silicon, of script aluminides.
    silicon_holes, script_holes
        Share of a sheet that is missing.
    plate_radius_um, primary_radius_um, block_radius_um
        Smallest and largest half-width of flat plates, primary silicon and blocky aluminides.
    broken_colonies
        Share of the eutectic in which silicon grew as separate pieces.
    gap_um
        Width of the gaps between those pieces.
    """

    silicon: float
    aluminides: float
    primary_silicon: float
    flat_plates: float
    blocks: float
    arms: float
    arm_spacing_um: float
    colony_um: float
    silicon_spacing_um: float
    script_spacing_um: float
    silicon_holes: float
    script_holes: float
    plate_radius_um: tuple[float, float]
    primary_radius_um: tuple[float, float]
    block_radius_um: tuple[float, float]
    broken_colonies: float
    gap_um: float


SPECIMENS: dict[str, Specimen] = {
    "slow": Specimen(
        silicon=0.155,
        aluminides=0.11,
        primary_silicon=0.025,
        flat_plates=0.03,
        blocks=0.008,
        arms=0.40,
        arm_spacing_um=40.0,
        colony_um=65.0,
        silicon_spacing_um=13.2,
        script_spacing_um=28.8,
        silicon_holes=0.18,
        script_holes=0.3,
        plate_radius_um=(18.0, 40.0),
        primary_radius_um=(8.0, 18.0),
        block_radius_um=(3.5, 7.0),
        broken_colonies=0.0,
        gap_um=2.6,
    ),
    "fast": Specimen(
        silicon=0.14,
        aluminides=0.18,
        primary_silicon=0.01,
        flat_plates=0.035,
        blocks=0.01,
        arms=0.36,
        arm_spacing_um=24.0,
        colony_um=45.0,
        silicon_spacing_um=6.0,
        script_spacing_um=12.5,
        silicon_holes=0.25,
        script_holes=0.3,
        plate_radius_um=(10.0, 24.0),
        primary_radius_um=(6.0, 10.0),
        block_radius_um=(2.5, 5.0),
        broken_colonies=0.53,
        gap_um=2.6,
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
# Iron goes into flat plates, with manganese into compact polyhedra.
PLATES = Variant.AL9FENI
BLOCKS = Variant.AL15FEMN3SI2
