"""Draws docs/performance.svg: CPU of each way into each gateway, a panel a case, on a scale of ratios.

`python plot.py FILE`, what `bench.page.plot_data` says as JSON on stdin. It runs on bench/.venvs/tools, which
`make bench-setup` makes: matplotlib is no dependency of the project, so nothing of the project is imported here. The
same input gives the same file.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

OURS, THEIRS = "#2563eb", "#9ca3af"


def main() -> None:
    """Draw."""
    mpl: Any = importlib.import_module("matplotlib")

    mpl.use("svg")
    # Text stays text, and ids are not random.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.family": "sans-serif", "font.size": 9})
    pyplot: Any = importlib.import_module("matplotlib.pyplot")

    data: dict[str, Any] = json.load(sys.stdin)
    panels = data["panels"]
    figure, places = pyplot.subplots((len(panels) + 1) // 2, 2, figsize=(9.5, 2.6 * ((len(panels) + 1) // 2)))
    spare = list(places.flat)
    for panel in panels:
        draw(spare.pop(0), panel)
    for place in spare:
        place.axis("off")
    figure.tight_layout()
    figure.savefig(sys.argv[1], metadata={"Date": None, "Creator": None, "Description": data["digest"]})


def draw(place: Any, panel: dict[str, Any]) -> None:
    """One case: bars from the cheapest down."""
    bars = sorted(panel["bars"], key=lambda bar: -bar["us"])
    drawn = place.barh(
        [bar["name"] for bar in bars],
        [bar["us"] for bar in bars],
        color=[OURS if bar["ours"] else THEIRS for bar in bars],
    )
    place.bar_label(drawn, [bar["label"] for bar in bars], padding=3, fontsize=8)
    place.set_xscale("log")
    place.set_xlim(min(bar["us"] for bar in bars) / 2, max(bar["us"] for bar in bars) * 4)
    place.xaxis.set_major_formatter(lambda value, _position: f"{value:,.12g}")
    place.set_title(panel["title"], fontsize=10, loc="left")
    place.set_xlabel(f"microseconds of CPU for each {panel['unit']}, all processes", fontsize=8)
    place.spines[["top", "right"]].set_visible(False)
    place.tick_params(axis="y", length=0)


if __name__ == "__main__":
    main()
