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

    def __getattribute__(self, name: str) -> Any:
        # pygal's own asks three times for each attribute, which is half of the time that a picture takes
        own = object.__getattribute__(self, "__dict__")
        state = own.get("state")
        if state is not None and not name.startswith("__") and name != "state" and name in state.__dict__:
            return state.__dict__[name]
        return object.__getattribute__(self, name)


class _Curve(_Plain, pygal.XY):  # pyright: ignore[reportUntypedBaseClass, reportMissingTypeArgument]
    pass


class _Bars(_Plain, pygal.Histogram):  # pyright: ignore[reportUntypedBaseClass, reportMissingTypeArgument]
    def _tooltip_and_print_values(self, *_args: Any, **_kwargs: Any) -> None:
        """Each bar has a title; pygal's own words beside it are for its script."""


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
    chart: Any = _Curve(**_plain(axis, height), show_dots=False, xrange=(0, WIDTH))
    chart.add("line", points)
    root, tree = _canvas(key, height, title, description), chart.render_tree()
    _guides(root, tree)
    line = _path(next(mark for mark in _series(tree)[0].iter("path")))
    first, last = (f"{across:.2f}".rstrip("0").rstrip(".") for across in (points[0][0], points[-1][0]))
    # the same points once more would cost as much again: the area is the line, led to its foot at both ends
    foot = _up(base, axis, height)
    _mark(root, "area", f"M{first} {foot} L{line.removeprefix('M').replace(' L', ' ', 1)} {last} {foot}")
    _mark(root, "line", line)
    if level is not None:
        _mark(root, "level", f"M0 {_up(level, axis, height)} H{WIDTH:g}")
    return _written(root)


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
    root, tree = _canvas(key, height, title, description), chart.render_tree()
    _guides(root, tree)
    group = SubElement(root, "g", {"class": "marks bars"})
    for mark in _series(tree)[0].iter("g"):
        if (rect := mark.find("rect")) is not None:
            kept = {key: _short(rect.get(key, "")) for key in ("class", "x", "y", "width", "height")}
            SubElement(SubElement(group, "rect", kept), "title").text = mark.findtext("title")
    return _written(root)


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
        "strict": True,  # all values are finite floats already
        "css": [],
        "js": [],
    }


def _canvas(key: str, height: int, title: str, description: str) -> Element:
    """Return a picture with its words and nothing drawn yet."""
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
    return root


def _guides(root: Element, drawn: Element) -> None:
    for line in drawn.iterfind(".//g[@class='guides']/path"):
        zero = "axis" in (line.get("class") or "")
        SubElement(root, "path", {"class": "grid zero" if zero else "grid", "d": _path(line)})


def _mark(root: Element, name: str, path: str) -> None:
    SubElement(SubElement(root, "g", {"class": f"marks {name}"}), "path", {"d": path})


def _up(value: float, axis: Scale, height: int) -> str:
    """Return where a value stands on the plane, counted from its top."""
    low, high = float(axis.low), float(axis.high)
    return f"{(high - value) / (high - low) * height:.2f}".rstrip("0").rstrip(".")


def _path(mark: Element) -> str:
    return _short(mark.get("d", ""))


def _written(root: Element) -> Markup:
    """Return the text of a picture. A serialiser writes it, so every word in it is escaped."""
    return Markup(ElementTree.tostring(root, encoding="unicode"))  # noqa: S704 - written by a serialiser


def _series(drawn: Element) -> list[Element]:
    plot = next(group for group in drawn.iter("g") if group.get("class") == "plot")
    return [group for group in plot if (group.get("class") or "").startswith("series ")]


def _short(number: str) -> str:
    """Return coordinates with two decimals: a hundredth of a unit is less than any screen shows."""
    return _NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), number)
