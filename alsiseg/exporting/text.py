"""A model card as Markdown."""

from collections.abc import Iterable
from typing import Any

NOT_RECORDED = "not recorded"
QUANTITIES = {
    "volume_fraction_pct": ("volume fraction (%)", "{:.2f}"),
    "interconnectivity": ("interconnectivity", "{:.4f}"),
    "euler_number": ("Euler number", "{:d}"),
}


def as_markdown(card: dict[str, Any]) -> str:
    """Write a card for people, the parts that matter to a user first."""
    parts = [
        f"# {card['name']}",
        card["what"],
        *_section("Limits", _items(card["limits"])),
        *_validation(card["validation"]),
        *_measures(card["measures"]),
        *_section("How to use it", *_usage(card["use"])),
        *_section("Input and output", f"Input: {card['input']}", f"Output: {card['output']}"),
        *_section("Trained on", _named(_data(card))),
        *_section("Settings of the training", _named(_flat(card["settings"] or {}), missing="not set")),
        *_file(card.get("file")),
        *_section("Versions", _named(_versions(card["versions"]))),
        *_section("Licence and citation", f"Licence of the code: {card['licence_of_the_code']}.", *_cite(card["cite"])),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, *paragraphs: str) -> list[str]:
    return [f"## {title}", *([p for p in paragraphs if p] or [f"{NOT_RECORDED}."])]


def _items(sentences: Iterable[str]) -> str:
    return "\n".join(f"* {sentence}" for sentence in sentences)


def _named(values: dict[str, Any], *, missing: str = NOT_RECORDED) -> str:
    return _items(f"{name}: {missing if value is None else value}" for name, value in values.items())


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(head)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _measures(measures: dict[str, Any] | None) -> list[str]:
    """Tables of what was measured of the test section."""
    if measures is None:
        return _section("Measures")
    plain = {
        "accuracy": _percent(measures["accuracy"]),
        "accuracy near interfaces of silicon and aluminides": _percent(measures["interface_accuracy"]),
        **{f"Dice coefficient, {name}": f"{value:.4f}" for name, value in (measures["dice"] or {}).items()},
        "loss per pixel, test slices": f"{measures['test_loss']:.4f}",
        "loss per pixel, training slices": f"{measures['train_loss']:.4f}",
    }
    if best := measures["best_epochs"]:
        plain["best epochs of this training"] = f"{best['accuracy']} by accuracy, {best['topology']} by Euler numbers"
    rows = [
        [f"{name}: {title}", form.format(network[what]["found"]), _true(network[what]["truth"], form)]
        for name, network in measures["networks"].items()
        for what, (title, form) in QUANTITIES.items()
    ]
    table = _table(["network, quantity", "found", "truth"], rows)
    return _section("Measures of the test section", _named(plain), table)


def _validation(rows: list[dict[str, Any]] | None) -> list[str]:
    """Table of what was measured on specimens that had no part in the training."""
    if not rows:
        return []
    networks = list(rows[0]["networks"])
    head = ["specimen, recipe", "accuracy", "near interfaces", *(f"Euler number, {name} (truth)" for name in networks)]
    found = [
        [
            f"{specimen(row)}, {row['recipe']}",
            _percent(row["accuracy"]),
            _percent(row["interface_accuracy"]),
            *("{found} ({truth})".format(**network["euler_number"]) for network in row["networks"].values()),
        ]
        for row in rows
    ]
    return _section("Measures of specimens that had no part in the training", _table(head, found))


def specimen(record: dict[str, Any]) -> str:
    """Name a synthetic specimen."""
    return f"{record['casting']}, {record['difficulty']}, seed {record['seed']}"


def _percent(share: float | None) -> str:
    return "no such voxels" if share is None else f"{100 * share:.2f} %"


def _true(value: float | None, form: str) -> str:
    return NOT_RECORDED if value is None else form.format(value)


def _usage(use: dict[str, list[str]]) -> list[str]:
    found = []
    for title, lines in use.items():
        language = "python" if "Python" in title else "sh"
        found.append("\n".join([f"{title}:", "", f"```{language}", *lines, "```"]))
    return found


def _data(card: dict[str, Any]) -> dict[str, Any]:
    data, scale = card["data"], card["network"]["grey_scale_of_training"]
    shape = data.get("shape_zyx")
    size = data["voxel_size_um"]
    slices = data["slices"] and ", ".join(f"{name} {first} to {last}" for name, (first, last) in data["slices"].items())
    return {
        **({"synthetic specimens": "; ".join(map(specimen, data["specimens"]))} if data["specimens"] else {}),
        "volume": shape and _voxels(shape),
        **{f"volume {n}": _voxels(one["shape_zyx"]) for n, one in enumerate(data["further_volumes"], start=2)},
        **({"epoch chosen by": data["epoch_chosen_by"]} if data["epoch_chosen_by"] else {}),
        "voxel size": size and f"{size:g} um",
        "slices": slices,
        "grey scale": _listed({name: f"{value:g}" for name, value in scale.items()}),
        "SHA-256 of the grey values": data.get("grey_sha256"),
        "SHA-256 of the labels": data.get("labels_sha256"),
        **({"specimen": data["specimen"]} if "specimen" in data else {}),
        **({"network it began with": _parent(card["parent"])} if card["parent"] else {}),
        **({"correction": _listed(card["correction"])} if card["correction"] else {}),
    }


def _voxels(shape_zyx: list[int]) -> str:
    return f"{' x '.join(map(str, shape_zyx))} voxels (z, y, x)"


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)


def _parent(parent: dict[str, Any]) -> str:
    return f"epoch {parent['epoch']} of the run {parent['run']} (SHA-256 {parent['sha256']})"


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _file(file: dict[str, Any] | None) -> list[str]:
    """What the exported file is, and what its checks found."""
    if file is None:
        return []
    checks = file.get("checks", {})
    plain = {name: value for name, value in file.items() if name not in ("checks", "made_with")}
    if "made_with" in file:
        plain |= _versions({"made with": file["made_with"]})
    found = {f"checked on {what}": _checked(check) for what, check in checks.items()}
    return _section("File", _named(plain | found))


def _checked(check: dict[str, Any]) -> str:
    shape = " x ".join(map(str, check["shape_zyx"]))
    return (
        f"{check['n_differ']} of {shape} voxels differ between onnxruntime {check['onnxruntime']} and alsiseg, logits "
        f"by up to {check['largest_logit_difference']:g} of {check['largest_logit']:g}"
    )


def _versions(versions: dict[str, Any]) -> dict[str, Any]:
    return {title: found and _listed(found) for title, found in versions.items()}


def _cite(urls: list[str]) -> list[str]:
    return [f"If you use it, please cite the paper whose method it is: {url}" for url in urls]
