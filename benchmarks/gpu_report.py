"""What a GPU was found to do, as JSON and as a table that a person reads."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steps import PARTS

from alsiseg.volumes import written_whole

Found = dict[str, Any]
AIM_OF_PEAK, AIM_OF_DATA = 0.45, 0.02


def write(out_dir: Path, found: Found) -> None:
    """Write both files anew, each whole."""
    for name, text in (("gpu.json", json.dumps(found, indent=1)), ("gpu.md", as_markdown(found))):
        with written_whole(out_dir / name) as partial:
            partial.write_text(text + "\n", encoding="utf-8")


def as_markdown(found: Found) -> str:
    """Tables of what was found so far."""
    sections = (head, aims, ceilings, checks, euler, specimen, training, inference, learning)
    return "\n".join(line for section in sections for line in section(found))


def part(found: Found, name: str) -> Any:
    """What a part found, None where it did not run or failed."""
    answer = found.get(name)
    return None if isinstance(answer, dict) and "failed" in answer else answer


def head(found: Found) -> Iterator[str]:
    machine = part(found, "machine") or {}
    yield f"# {machine.get('card', 'unknown card')}, measured by `python benchmarks/gpu.py`\n"
    if machine.get("dry_run"):
        yield "**A dry run on a CPU: every part ran at a tiny size, the numbers mean nothing.**\n"
    versions = ", ".join(f"{name} {number}" for name, number in machine.get("versions", {}).items())
    cuda = f", CUDA {machine['cuda']}" if machine.get("cuda") else ""
    yield f"Python {machine.get('python')}, {versions}{cuda}; {machine.get('processors')} processors.\n"
    failed = found.get("failed", [])
    yield f"Failed: {', '.join(failed)}.\n" if failed else "Nothing failed.\n"


def aims(found: Found) -> Iterator[str]:
    """Say whether the fastest variant of the published network reaches what was aimed at."""
    rows = [row for row in part(found, "training at width 64") or [] if row.get("of_datasheet_peak")]
    if not (taken_apart := [row for row in rows if "data_share" in row]):
        return
    best = max(rows, key=lambda row: row["of_datasheet_peak"])
    fastest = max(taken_apart, key=lambda row: row["of_datasheet_peak"])
    peak, data = best["of_datasheet_peak"], fastest["data_share"]
    yield (
        f"Aims at the published width: {per_cent(AIM_OF_PEAK, 0)} of the card's bfloat16 peak, "
        f"{'reached' if peak >= AIM_OF_PEAK else 'missed'} {per_cent(peak)} ({best['variant']}); "
        f"less than {per_cent(AIM_OF_DATA, 0)} of a step for its images, "
        f"{'reached' if data < AIM_OF_DATA else 'missed'} {per_cent(data)} ({fastest['variant']}).\n"
    )


def ceilings(found: Found) -> Iterator[str]:
    if not (peak := part(found, "ceilings")):
        return
    datasheet = peak["datasheet_bf16_tflops"]
    yield "| ceiling | |\n|---|---|"
    yield f"| bfloat16 by the datasheet, dense | {f'{datasheet:.0f} TFLOP/s' if datasheet else 'not in the table'} |"
    product = f"product of random {peak['matmul_n']}² matrices, {peak['matmul_dtype']}"
    yield f"| {product} | {peak['matmul_tflops']:.4g} TFLOP/s |"
    yield f"| the same in float32 | {peak['matmul_float32_tflops']:.4g} TFLOP/s |"
    yield f"| copy, read and written | {peak['copy_gb_per_s']:.4g} GB/s |\n"


def checks(found: Found) -> Iterator[str]:
    if not (all_checks := part(found, "checks")):
        return
    yield "| check against the CPU in float64 | error | at most | |\n|---|---|---|---|"
    for one in all_checks:
        verdict = "passed" if one["passed"] else "**failed**"
        yield f"| {one['name']} | {one['error']:.2g} | {one['tolerance']:.2g} | {verdict} |"
    yield ""


def euler(found: Found) -> Iterator[str]:
    if not (rates := part(found, "euler")):
        return
    yield f"| Euler number of a tensor, {rates['edge']}³ | ms | 10⁹ voxels/s |\n|---|---|---|"
    for name, rate in rates.items():
        if name != "edge":
            yield f"| {name} | {1e3 * rate['seconds']:.2f} | {rate['voxels_per_s'] / 1e9:.2f} |"
    yield ""


def specimen(found: Found) -> Iterator[str]:
    if not (facts := part(found, "specimen")):
        return
    yield (
        f"Specimen {tuple(facts['shape_zyx'])}: grown by processes beside the measurement in "
        f"{', '.join(f'{s:.0f}' for s in facts['growing_s'])} s; "
        f"scanned in {facts['n_angles']} angles in {facts['scan_s']:.1f} s "
        f"({facts['scan_s_per_million_voxels_and_100_angles']:.4f} s per 10⁶ voxels and 100 angles).\n"
    )


def training(found: Found) -> Iterator[str]:
    for name in found:
        rows = part(found, name)
        if not name.startswith("training at width") or not rows:
            continue
        yield f"| {name} | images/s | step, ms | {' | '.join(PARTS)} | of datasheet | of matmul | GB |"
        yield "|---" * (6 + len(PARTS)) + "|"
        for row in rows:
            yield training_row(row)
        yield ""


def training_row(row: Found) -> str:
    """One variant of the step."""
    if "left_out" in row:
        reason = " ".join(row["left_out"].split())[:120].replace("|", "/")
        return f"| {row['variant']} | - | left out: {reason} {'| ' * 8}|"
    parts = row.get("parts_ms", {})
    times = " | ".join(f"{parts[name]:.2f}" if name in parts else "-" for name in PARTS)
    shares = f"{per_cent(row['of_datasheet_peak'])} | {per_cent(row['of_measured_matmul'])}"
    memory = f"{row['most_memory_gb']:.1f}" if "most_memory_gb" in row else "-"
    speed = f"{row['images_per_s']:.4g} | {row['step_ms']['median']:.2f}"
    return f"| {row['variant']} | {speed} | {times} | {shares} | {memory} |"


def per_cent(share: float | None, digits: int = 1) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def one_line(row: Found) -> str:
    """Say of a variant what the terminal shows."""
    if "left_out" in row:
        return f"{row['variant']}: left out, {row['left_out'][:200]}"
    share = per_cent(row["of_datasheet_peak"] or row["of_measured_matmul"])
    data = f", data {per_cent(row['data_share'])}" if "data_share" in row else ""
    return f"{row['variant']}: {row['images_per_s']:.4g} images/s, {share} of the peak{data}"


def inference(found: Found) -> Iterator[str]:
    if not (rows := part(found, "inference")):
        return
    yield "| inference | width | pixels | slices/s | of datasheet | of matmul |\n|---|---|---|---|---|---|"
    for row in rows:
        if "left_out" in row:
            yield f"| {row['what']} | {row['width']} | left out: {row['left_out']} | | | |"
            continue
        size = " × ".join(str(n) for n in row.get("pixels") or row["shape_zyx"])
        shares = f"{per_cent(row.get('of_datasheet_peak'))} | {per_cent(row.get('of_measured_matmul'))}"
        yield f"| {row['what']} | {row['width']} | {size} | {row['slices_per_s']:.4g} | {shares} |"
    yield ""


def learning(found: Found) -> Iterator[str]:
    if not (learnt := part(found, "learning")):
        return
    epochs = f"{learnt['epochs']} epochs of {learnt['images_per_epoch']} images each"
    yield f"Width {learnt['width']}, {epochs}; the test section:\n"
    yield "| weights | accuracy | at interfaces | test loss | Euler Si | aluminides | hybrid |"
    yield "|---|---|---|---|---|---|---|"
    truth = " | ".join(str(learnt["truth"][f"{name}_euler_number"]) for name in ("silicon", "aluminides", "hybrid"))
    yield f"| truth | | | | {truth} |"
    for weights, row in learnt["last"].items():
        numbers = " | ".join(str(row[f"{name}_euler_number"]) for name in ("silicon", "aluminides", "hybrid"))
        shares = f"{per_cent(row['accuracy'])} | {per_cent(row['interface_accuracy'])}"
        yield f"| {weights} | {shares} | {row['test_loss']:.4f} | {numbers} |"
    yield ""
