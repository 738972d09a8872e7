"""The plot file of a backtest: equity, and under it how far below its height it was. One SVG by itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pygal
from pygal.style import Style
from tradedb.errors import EXIT_FAILED, EXIT_USAGE, SwitchyardError

from trading_bot.backtest.engine import Run
from trading_bot.backtest.measures import utc

# pygal leaves a finder for its plugins behind, of a kind that Python 3.11 warns of at each import that follows
sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

POINTS = 600  # more than a screen has columns for; each is the last value of its stretch, and both extremes are kept
_WIDTH, _EQUITY_HEIGHT, _DRAWDOWN_HEIGHT = 1_000, 420, 240
_SVG = "http://www.w3.org/2000/svg"
_EQUITY_COLOUR, _DRAWDOWN_COLOUR = "#1d4ed8", "#b91c1c"


def require_writable(file: Path) -> None:
    """See that a plot can be written there, before the work is done.

    Raises: SwitchyardError BOT-028, it cannot.
    """
    if file.suffix.lower() != ".svg":
        raise _unwritable(file, "its name must end in .svg", EXIT_USAGE)
    folder = file.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or file.is_dir():
        raise _unwritable(file, f"{folder} is no folder that can be written to", EXIT_USAGE)


def write_plot(file: Path, run: Run, *, title: str) -> None:
    """Write the plot; the file is there whole or not at all.

    Args:
        file: ends in .svg; one that is there is replaced.
        run: has at least one candle.
        title: says what was tested.

    Raises: SwitchyardError BOT-028, it cannot be written.
    """
    begun = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        begun.write_text(_svg(run, title), encoding="utf-8")
        begun.replace(file)
    except OSError as error:
        begun.unlink(missing_ok=True)
        raise _unwritable(file, str(error), EXIT_FAILED) from error


def _svg(run: Run, title: str) -> str:
    fallen = _fallen(run.equity, float(run.account.initial_balance))
    equity = _chart("equity", f"Equity: {title}", _EQUITY_HEIGHT, run.times, run.equity, _EQUITY_COLOUR)
    under = "Drawdown, percent below the highest equity"
    drawdown = _chart("drawdown", under, _DRAWDOWN_HEIGHT, run.times, fallen, _DRAWDOWN_COLOUR, fill=True)
    ElementTree.register_namespace("", _SVG)
    height = _EQUITY_HEIGHT + _DRAWDOWN_HEIGHT
    root = ElementTree.Element(f"{{{_SVG}}}svg", {"viewBox": f"0 0 {_WIDTH} {height}", "role": "img"})
    ElementTree.SubElement(root, f"{{{_SVG}}}title").text = f"Backtest: {title}"
    said = f"Equity from {run.equity[0]:,.2f} to {run.equity[-1]:,.2f}; deepest drawdown {-min(fallen):.2f} percent."
    ElementTree.SubElement(root, f"{{{_SVG}}}desc").text = said
    for chart, y, chart_height in ((equity, 0, _EQUITY_HEIGHT), (drawdown, _EQUITY_HEIGHT, _DRAWDOWN_HEIGHT)):
        for name, value in (("x", 0), ("y", y), ("width", _WIDTH), ("height", chart_height)):
            chart.set(name, str(value))
        root.append(chart)
    return ElementTree.tostring(root, encoding="unicode")


def _chart(
    name: str,
    title: str,
    height: int,
    times: Sequence[float],
    values: Sequence[float],
    colour: str,
    *,
    fill: bool = False,
) -> ElementTree.Element:
    """One line over time, without the script that pygal would put in."""
    style = Style(
        background="#ffffff",
        plot_background="#ffffff",
        foreground="#1f2933",
        foreground_strong="#1f2933",
        foreground_subtle="#7b8794",
        colors=(colour,),
        font_family="system-ui, sans-serif",
        opacity="0.35",
    )
    chart = pygal.XY(
        width=_WIDTH,
        height=height,
        title=title,
        style=style,
        max_scale=height // 50,
        js=[],
        show_legend=False,
        show_dots=False,
        fill=fill,
        include_x_axis=False,
        x_value_formatter=lambda at: f"{utc(at):%m-%d %H:%M}",
        value_formatter=lambda value: f"{value:,.2f}",
        truncate_label=-1,
        x_labels=[times[0] + (times[-1] - times[0]) * n / 5 for n in range(6)] if len(times) > 1 else None,
    )
    chart.uuid = name  # a random one by default: the same run gives the same file
    chart.add(name, _thinned(times, values))
    root = ElementTree.fromstring(chart.render())  # noqa: S314  # what pygal made
    for parent in list(root.iter()):
        for script in parent.findall(f"{{{_SVG}}}script"):
            parent.remove(script)
    return root


def _thinned(times: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """At most about POINTS points: of each stretch its lowest, its highest and its last one."""
    step = max(1, -(-len(values) // (POINTS // 3)))
    if step < 3:
        return list(zip(times, values, strict=True))
    kept: list[tuple[float, float]] = []
    for first in range(0, len(values), step):
        places = range(first, min(first + step, len(values)))
        chosen = {min(places, key=values.__getitem__), max(places, key=values.__getitem__), places[-1]}
        kept += [(times[at], values[at]) for at in sorted(chosen)]
    return kept


def _fallen(equity: Sequence[float], start: float) -> list[float]:
    """How far each value lies below the highest before it, in percent, as a number of 0 or less."""
    peak, fallen = start, []
    for value in equity:
        peak = max(peak, value)
        fallen.append(100 * (value - peak) / peak if peak > 0 else 0.0)
    return fallen


def _unwritable(file: Path, why: str, exit_code: int) -> SwitchyardError:
    return SwitchyardError(
        "BOT-028",
        f"the plot cannot be written to {file}",
        why=f"{why[:1].upper()}{why[1:]}.",
        fix="name a file like backtest.svg in a folder of yours: --plot backtest.svg",
        exit_code=exit_code,
    )
