"""What the numbers of a run do not allow to claim of its network."""

from typing import Any


def limits(card: dict[str, Any]) -> list[str]:
    """Say in sentences what the network has not seen and how far its measures were off; from the card's numbers."""
    found = [_seen(card)]
    if card["parent"]:
        found.append(f"It began with a network trained before (run {card['parent']['run']}), whose limits hold too.")
    found += _elsewhere(card["validation"] or [])
    if (measures := card["measures"]) is None:
        return [*found, "No measures of this epoch were recorded: compare its labels with a truth before you use them."]
    found.append(_tested(card["data"]))
    found.append(_errors(measures))
    found.append(_fractions(measures["networks"]))
    found += [_euler(name, network["euler_number"]) for name, network in measures["networks"].items()]
    found.append(_scatter(measures))
    found.append(_stopped(card))
    return [sentence for sentence in found if sentence]


def _seen(card: dict[str, Any]) -> str:
    data = card["data"]
    size = f"an edge of {data['voxel_size_um']:g} um" if data["voxel_size_um"] else "an unrecorded edge"
    warned = "; `alsiseg segment` warns of scans whose grey differs" if data["likeness"] else ""
    along = (card["settings"] or {}).get("directions", ["z"])
    turned = len(along) > 1
    slices = f"in slices along {', '.join(along)}" if turned else "in slices along the first axis"
    unseen = "alloy, cooling, voxel size or scan" if turned else "alloy, cooling, voxel size, scan or orientation"
    if data["specimens"]:
        unseen = f"{unseen}, and no real specimen"
    return f"It learned from {_volumes(data)} with {size}, {slices}. It has seen no other {unseen}{warned}."


def _volumes(data: dict[str, Any]) -> str:
    """Say how many volumes, and of which kind."""
    shapes = [volume["shape_zyx"] for volume in (data, *data["further_volumes"]) if "shape_zyx" in volume]
    sizes = dict.fromkeys(" x ".join(map(str, shape)) for shape in shapes)
    size = f"of {' and '.join(sizes)} voxels" if sizes else "of unrecorded shape"
    if data["specimens"]:
        return f"{len(data['specimens'])} synthetic specimens {size} ({_kinds(data['specimens'])})"
    n = 1 + len(data["further_volumes"])
    return f"one volume {size}" if n == 1 else f"{n} volumes {size}"


def _kinds(specimens: list[dict[str, Any]]) -> str:
    """Name the kinds of specimens once each."""
    return "; ".join(dict.fromkeys(f"{one['casting']}, {one['difficulty']}" for one in specimens))


def _elsewhere(rows: list[dict[str, Any]]) -> list[str]:
    """How often it was wrong on specimens that had no part in the training."""
    if not rows:
        return []
    wrong_pct = [100 - 100 * row["accuracy"] for row in rows]
    worst = rows[wrong_pct.index(max(wrong_pct))]
    off = {name: max(_off_pct(row["networks"][name]["euler_number"]) for row in rows) for name in rows[0]["networks"]}
    return [
        f"On other synthetic specimens {min(wrong_pct):.1f} to {max(wrong_pct):.1f} % of the voxels had a wrong phase "
        f"(most: {worst['casting']}, {worst['difficulty']}, {worst['recipe']}).",
        "Euler numbers were off there by up to "
        + ", ".join(f"{_rounded(pct)} % ({name})" for name, pct in off.items())
        + ": do not trust smaller differences between specimens.",
    ]


def _off_pct(number: dict[str, Any]) -> float:
    return 100 * abs(number["found"] - number["truth"]) / max(1, abs(number["truth"]))


def _tested(data: dict[str, Any]) -> str:
    section = data["test_section_zyx"]
    size = f"{' x '.join(map(str, section))} voxels" if section else "some slices"
    if data["slices"] and _overlap(data["slices"]["train"], data["slices"]["test"]):
        return f"The measures are those of {size} that it learned from itself: unknown slices are worse."
    which = "first" if data["further_volumes"] else "same"
    return f"The measures are those of {size} of the {which} volume, kept from training; another specimen may be worse."


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
