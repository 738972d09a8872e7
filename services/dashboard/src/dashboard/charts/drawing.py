"""What pygal draws, as SVG that a strict content policy lets through.

pygal projects the values and makes the marks. Its style sheet, its script, its fonts and its random ids are left out:
colours come from our own stylesheet by class, and the page's labels stand beside the plane (see ``scales``). The same
marks are asked for again and again by pages that refresh, so the last ones are kept.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import pygal
from markupsafe import Markup

from dashboard.charts.scales import WIDTH, Scale

# pygal looks for plug-ins of its own at every import from then on, in a way that Python has given up: it warns on 3.11
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != pygal.__name__]

_NUMBER = re.compile(r"-?\d+\.\d+(?:e-\d+)?")
_EDGE = 1e-7  # pygal leaves out a line of the grid that lies on the very edge
KEEP = 64


@dataclass(frozen=True)
class Bar:
    """A bar from ``left`` to ``right`` in units of the horizontal axis. ``kind`` is its class, ``says`` its tooltip."""

    left: float
    right: float
    value: float
    kind: str
    says: str


class _Plain:
    """What both charts leave out of pygal's: room for labels, and data for its script."""

    def _compute_margin(self) -> None:
        chart: Any = self
        super()._compute_margin()  # pyright: ignore[reportAttributeAccessIssue]
        room = chart.margin_box
        room.top = room.right = room.bottom = room.left = 0
        chart._box.margin = _EDGE

    def _tooltip_data(self, *_args: Any, **_kwargs: Any) -> None:
        return


class _Curve(_Plain, pygal.XY):  # pyright: ignore[reportUntypedBaseClass, reportMissingTypeArgument]
    pass


class _Bars(_Plain, pygal.Histogram):  # pyright: ignore[reportUntypedBaseClass, reportMissingTypeArgument]
    pass


@lru_cache(maxsize=KEEP)
def curve(
    key: str, points: tuple[tuple[float, float], ...], axis: Scale, height: int, *, base: float, level: float | None,
    title: str, description: str,
) -> Markup:  # fmt: skip
    """Return a line over its area.

    Args:
        key: what ids on the page begin with, and a class.
        points: across (0 to WIDTH) and up, at least two.
        axis: of the values.
        height: of the plane, in its units.
        base: the value that the area reaches to.
        level: a value that is marked by a dashed line, or None.
        title: of the picture.
        description: what it shows, in words.
    """
    chart: Any = _Curve(**_plain(axis, height), zero=base, show_dots=False, xrange=(0, WIDTH))
    chart.add("area", points, fill=True)
    chart.add("line", points)
    if level is not None:
        chart.add("level", [(0, level), (WIDTH, level)])
    return _svg(key, chart, height, title, description)


@lru_cache(maxsize=KEEP)
def bars(key: str, drawn: tuple[Bar, ...], axis: Scale, height: int, *, title: str, description: str) -> Markup:
    """Return bars on a line at zero.

    Args:
        key: what ids on the page begin with, and a class.
        drawn: from left to right, at least one; the first begins and the last ends where the plane does.
        axis: of the values.
        height: of the plane, in its units.
        title: of the picture.
        description: what it shows, in words.
    """
    chart: Any = _Bars(**_plain(axis, height))
    chart.add(
        "bars",
        [
            {"value": (bar.value, bar.left, bar.right), "tooltip": bar.says, "node": {"class": bar.kind}}
            for bar in drawn
        ],
    )
    return _svg(key, chart, height, title, description)


def _plain(axis: Scale, height: int) -> dict[str, Any]:
    return {
        "width": WIDTH,
        "height": height,
        "margin": 0,
        "range": (float(axis.low), float(axis.high)),
        "y_labels": [float(tick) for tick in axis.ticks],
        "show_x_labels": False,
        "show_legend": False,
        "no_prefix": True,
        "css": [],
        "js": [],
    }


def _svg(key: str, chart: Any, height: int, title: str, description: str) -> Markup:
    """Return a picture of the marks alone. A serialiser writes it, so every word in it is escaped."""
    root = Element(
        "svg",
        {
            "class": f"drawn {key}",
            "viewBox": f"0 0 {WIDTH} {height}",
            "preserveAspectRatio": "none",
            "role": "img",
            "aria-labelledby": f"{key}-svg-title {key}-svg-desc",
        },
    )
    SubElement(root, "title", {"id": f"{key}-svg-title"}).text = title
    SubElement(root, "desc", {"id": f"{key}-svg-desc"}).text = description
    drawn = chart.render_tree()
    for line in drawn.iterfind(".//g[@class='guides']/path"):
        zero = "axis" in (line.get("class") or "")
        SubElement(root, "path", {"class": "grid zero" if zero else "grid", "d": _short(line.get("d", ""))})
    for series, name in zip(_series(drawn), _names(chart), strict=True):
        group = SubElement(root, "g", {"class": f"marks {name}"})
        for mark in series.iter():
            if mark.tag == "path":
                SubElement(group, "path", {"d": _short(mark.get("d", ""))})
            elif mark.tag == "g" and (rect := mark.find("rect")) is not None:
                kept = {key: _short(rect.get(key, "")) for key in ("class", "x", "y", "width", "height")}
                shape = SubElement(group, "rect", kept)
                SubElement(shape, "title").text = mark.findtext("title")
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - written by a serialiser


def _series(drawn: Element) -> list[Element]:
    plot = next(group for group in drawn.iter("g") if group.get("class") == "plot")
    return [group for group in plot if (group.get("class") or "").startswith("series ")]


def _names(chart: Any) -> list[str]:
    """The series as they were added."""
    return [options["title"] for _, options in chart.raw_series]


def _short(number: str) -> str:
    """Return coordinates with two decimals: a hundredth of a unit is less than any screen shows."""
    return _NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), number)
