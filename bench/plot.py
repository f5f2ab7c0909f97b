"""Draws what bench/gpu.py and bench/vllm_gpu.py have measured; needs matplotlib.

python bench/plot.py [--gpu build/bench-gpu.json] [--vllm build/bench-vllm.json] --out device.png
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot
from vllm_gpu import is_lost

OURS, OTHERS, CEILING = "#1f6f8b", "#b0b7bd", "#444444"


def draw_link(axes: Any, figures: dict[str, Any]) -> None:
    """Loads and saves of each page size as a part of the plain copy of the same run."""
    shapes = list(figures["dram"])
    for offset, kind, colour in ((-0.2, "load", OURS), (0.2, "save", OTHERS)):
        shares = [100 * figures["dram"][shape][f"{kind}_of_link"] for shape in shapes]
        places = [i + offset for i in range(len(shapes))]
        bars = axes.bar(places, shares, 0.38, color=colour, label=kind)
        axes.bar_label(bars, fmt="%.0f", label_type="center")
    axes.axhline(100, color=CEILING, linewidth=0.8, label="plain pinned copy of 1 GiB")
    axes.set_xticks(range(len(shapes)), [shape.replace(" (", "\n(") for shape in shapes])
    axes.set_ylabel("% of the link")
    axes.set_ylim(0, 145)
    axes.set_title("DRAM tier and paged GPU memory")
    axes.legend(loc="upper right", fontsize="small")


def draw_first_token(axes: Any, figures: dict[str, Any], length: str) -> None:
    """The first token of a hit, by system; computing it is the line."""
    hits = {
        name + ("\n(KV not restored)" if is_lost(seen[length]) else ""): statistics.median(
            seen[length]["hit_ms"]
        )
        for name, seen in figures.items()
        if seen.get(length, {}).get("hit_ms")
    }
    names = sorted(hits, key=lambda name: hits[name], reverse=True)
    colours = [OURS if name.startswith("penstock") else OTHERS for name in names]
    bars = axes.barh(names, [hits[name] for name in names], color=colours)
    axes.bar_label(bars, fmt="%.0f", padding=2)
    if "none" in figures:
        computed = statistics.median(figures["none"][length]["cold_ms"])
        axes.axvline(computed, color=CEILING, linewidth=0.8, label=f"computed: {computed:.0f} ms")
        axes.legend(loc="upper right", fontsize="small")
    axes.margins(x=0.12)
    axes.set_xlabel("ms")
    axes.set_title(f"first token of a hit, {int(length):,} tokens")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpu", type=Path, help="JSON of bench/gpu.py")
    parser.add_argument("--vllm", type=Path, help="JSON of bench/vllm_gpu.py")
    parser.add_argument("--out", type=Path, required=True, help="a PNG or SVG")
    options = parser.parse_args()
    panels = []
    if options.gpu:
        figures = json.loads(options.gpu.read_text())
        panels.append(lambda axes: draw_link(axes, figures))
    if options.vllm:
        systems = json.loads(options.vllm.read_text())
        lengths = sorted(
            {key for seen in systems.values() for key in seen if key.isdigit()}, key=int
        )
        panels += [
            lambda axes, length=length: draw_first_token(axes, systems, length)
            for length in lengths
        ]
    if not panels:
        parser.error("nothing to draw: give --gpu, --vllm or both")
    figure, places = pyplot.subplots(
        1, len(panels), figsize=(5.5 * len(panels), 4), layout="constrained", squeeze=False
    )
    for panel, axes in zip(panels, places[0], strict=True):
        panel(axes)
    figure.savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
