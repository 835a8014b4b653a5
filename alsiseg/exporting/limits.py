"""What the numbers of a run do not allow to claim of its network."""

from typing import Any


def limits(card: dict[str, Any]) -> list[str]:
    """Say in sentences what the network has not seen and how far its measures were off; from the card's numbers."""
    found = [_seen(card["data"])]
    if card["parent"]:
        found.append(f"It began with a network trained before (run {card['parent']['run']}), whose limits hold too.")
    if (measures := card["measures"]) is None:
        return [*found, "No measures of this epoch were recorded: compare its labels with a truth before you use them."]
    found.append(_tested(card["data"]))
    found.append(_errors(measures))
    found.append(_fractions(measures["networks"]))
    found += [_euler(name, network["euler_number"]) for name, network in measures["networks"].items()]
    found.append(_scatter(measures))
    found.append(_stopped(card))
    return [sentence for sentence in found if sentence]


def _seen(data: dict[str, Any]) -> str:
    shape = f"of {' x '.join(map(str, data['shape_zyx']))} voxels" if "shape_zyx" in data else "of unrecorded shape"
    size = f"an edge of {data['voxel_size_um']:g} um" if data["voxel_size_um"] else "an unrecorded edge"
    warned = "; `alsiseg segment` warns of scans whose grey differs" if data["likeness"] else ""
    return (
        f"It learned from one volume {shape} with {size}, in slices along its first axis. It has seen no other alloy, "
        f"cooling, voxel size, scan or orientation{warned}."
    )


def _tested(data: dict[str, Any]) -> str:
    section = data["test_section_zyx"]
    size = f"{' x '.join(map(str, section))} voxels" if section else "some slices"
    if data["slices"] and _overlap(data["slices"]["train"], data["slices"]["test"]):
        return f"The measures are those of {size} that it learned from itself: unknown slices are worse."
    return f"The measures are those of {size} of the same volume, kept from training; another specimen may be worse."


def _overlap(first: list[int], second: list[int]) -> bool:
    return max(first[0], second[0]) <= min(first[1], second[1])


def _errors(measures: dict[str, Any]) -> str:
    wrong_pct, at_interfaces = 100 - 100 * measures["accuracy"], measures["interface_accuracy"]
    near = (
        ""
        if at_interfaces is None
        else (f", near interfaces of silicon and aluminides {100 - 100 * at_interfaces:.1f} %")
    )
    return f"{wrong_pct:.1f} % of the voxels had a wrong phase there{near}."


def _fractions(networks: dict[str, Any]) -> str:
    """How far volume fractions and interconnectivities were off, at the worst network of each."""
    worst = []
    for what in ("volume_fraction_pct", "interconnectivity"):
        values = {name: network[what] for name, network in networks.items() if what in network}
        off = {name: abs(v["found"] - v["truth"]) for name, v in values.items() if v["truth"] is not None}
        if not off:
            return ""
        worst.append((max(off.values()), max(off, key=lambda name: off[name])))
    (volume_pct, of_volume), (connected, of_connected) = worst
    return (
        f"Volume fractions were off by up to {volume_pct:.2f} percentage points ({of_volume}), interconnectivities by "
        f"up to {100 * connected:.1f} ({of_connected})."
    )


def _euler(name: str, number: dict[str, Any]) -> str:
    """How far an Euler number was off, and what follows from it."""
    found, true = number["found"], number["truth"]
    subject = f"The Euler number of the {name} network was {found}"
    if true is None:
        return f"{subject}; the true one was not recorded: nothing is known about its error."
    if found == true:
        return f"{subject}, as in the truth."
    if true == 0:
        return f"{subject}, the true one 0: do not trust differences between specimens of {abs(found)} or less."
    off_pct = 100 * abs(found - true) / abs(true)
    return (
        f"{subject}, the true one {true}: {_rounded(off_pct)} % off, so do not trust smaller differences "
        "between specimens."
    )


def _rounded(percent: float) -> str:
    return f"{percent:.1f}" if percent < 10 else f"{percent:.0f}"


def _scatter(measures: dict[str, Any]) -> str:
    numbers = dict(measures["euler_numbers_of_epochs"])
    first, last = numbers.pop("first"), numbers.pop("last")
    if first == last:
        return ""
    ranges = ", ".join(f"from {low} to {high} ({name})" for name, (low, high) in numbers.items())
    return f"Over epochs {first} to {last} the Euler numbers ranged {ranges}."


def _stopped(card: dict[str, Any]) -> str:
    wanted, trained = (card["settings"] or {}).get("epochs"), card["measures"]["n_epochs_trained"]
    if wanted is None or trained >= wanted:
        return ""
    return f"The training was stopped after {trained} of {wanted} epochs."
