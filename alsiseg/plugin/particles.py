"""The particles of a network as a table, and in words."""

from alsiseg.metrics import Particle, Particles
from alsiseg.phases import NETWORKS, PHASE_NAMES, Phase
from alsiseg.plugin.measuring import Table

MOST_ROWS = 2000  # of the table; the layer holds all of them


def table_of(found: Particles) -> Table:
    """List the particles, the largest first: size, surface, and the shares of the surface that touch other phases."""
    touching = [phase for phase in Phase if phase not in NETWORKS[found.network]]
    with_size = bool(found.each) and found.each[0].voxel_size_um is not None
    headings = ["particle", "voxels", *(("volume [um3]", "surface [um2]") if with_size else ("surface [voxel faces]",))]
    headings += [f"touches {PHASE_NAMES[phase]} [%]" for phase in touching]
    rows = [_row(particle, touching) for particle in found.each[:MOST_ROWS]]
    return Table((*headings, "cut by a face"), rows, _notes(found))


def _row(particle: Particle, touching: list[Phase]) -> tuple[str, ...]:
    sizes = (
        (f"{sum(particle.surface_voxels.values()):.0f}",)
        if particle.voxel_size_um is None
        else (f"{particle.volume_um3:.1f}", f"{particle.surface_um2:.1f}")
    )
    shares = (f"{100 * particle.contact_share(phase):.1f}" for phase in touching)
    return str(particle.number), str(particle.n_voxels), *sizes, *shares, "yes" if particle.at_a_face else "no"


def _notes(found: Particles) -> list[str]:
    if not found.each:
        return [f"There is no {found.network} in these labels."]
    total, largest = sum(particle.n_voxels for particle in found.each), found.each[0].n_voxels
    notes = [f"{len(found.each)} particles; the largest holds {100 * largest / total:.1f} % of their voxels."]
    if len(found.each) > MOST_ROWS:
        notes.append(f"The table shows the {MOST_ROWS} largest.")
    return notes


def in_words(particle: Particle) -> str:
    """Say what is known of a particle in a few lines."""
    size = f"{particle.n_voxels:,} voxels".replace(",", " ")
    if particle.voxel_size_um is not None:
        size += f", {particle.volume_um3:.4g} um3, surface {particle.surface_um2:.4g} um2"
    touches = ", ".join(
        f"{100 * particle.contact_share(phase):.1f} % {PHASE_NAMES[phase]}" for phase in particle.surface_voxels
    )
    lines = [f"Particle {particle.number}: {size}.", f"Its surface touches {touches}."]
    if particle.at_a_face:
        lines.append("A face of the volume cuts it off.")
    return "\n".join(lines)


def features(found: Particles) -> dict[str, list]:
    """Columns for napari's labels layer, which shows them under the cursor."""
    touching = [phase for phase in Phase if phase not in NETWORKS[found.network]]
    columns: dict[str, list] = {
        "index": [0, *(particle.number for particle in found.each)],
        "particle": ["none", *(f"{particle.number}, {particle.n_voxels} voxels" for particle in found.each)],
    }
    for phase in touching:
        shares = [f"{100 * particle.contact_share(phase):.1f} %" for particle in found.each]
        columns[f"touches {PHASE_NAMES[phase]}"] = [None, *shares]
    return columns
