"""Charts for notebooks and reports, as inline SVG and HTML tables: bars, heat tables, lines, reliability.

All shares are in 0..1 and are written in percent. Lines and text have the colour of the page around them; the other
colours are those of M. Okabe and K. Ito (2008), which colour-blind readers can tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from regraft.drawing.html import Html, escaped, name

BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
GREY = "#8C8C8C"
Range = tuple[float, float]
_STRONGEST = 0.6  # opacity of a heat cell: above this, neither black nor white text could be read on it
_WIDTH, _HEIGHT, _LEFT, _BELOW, _EDGE = 310, 230, 44, 36, 18  # of a chart and its margins, in pixels


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as text such as ``93.8%``; a dash for None."""
    return "–" if share is None else f"{share:.{digits}%}"


def interval_text(interval: Range | None) -> str:
    """Return an interval of shares as text such as ``91.0–95.2%``; empty for None."""
    return "" if interval is None else f"{100 * interval[0]:.1f}–{interval[1]:.1%}"


def svg(width: int, height: int, title: str, marks: str) -> Html:
    """Return an SVG image of ``marks``, with a title for readers who do not see it."""
    safe = escaped(title)
    return Html(
        f'<svg role="img" aria-label="{safe}" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-size="11" fill="currentColor"><title>{safe}</title>{marks}</svg>'
    )


def bar(share: float | None, interval: Range | None = None, colour: str = BLUE, width: int = 120) -> Html:
    """Return a horizontal bar, with a line for the interval; nothing where the share is None."""
    if share is None:
        return Html("")
    marks = f'<rect y="3" width="{width}" height="8" rx="2" fill-opacity=".12"/>'
    marks += f'<rect y="3" width="{share * width:.1f}" height="8" rx="2" fill="{colour}"/>'
    title = percent(share)
    if interval:
        low, high = (end * width for end in interval)
        marks += f'<path d="M{low:.1f} 7H{high:.1f}M{low:.1f} 3v8M{high:.1f} 3v8" stroke="currentColor" fill="none"/>'
        title += f", 95 % interval {interval_text(interval)}"
    return svg(width, 14, title, marks)


def heat_table(counts: Sequence[Sequence[int]], labels: Sequence[str]) -> Html:
    """Return a confusion matrix (C, C) as a table: a row for each label, a column for each prediction.

    The colour of a cell is its share of the row: blue for what is right, vermilion for what is wrong.
    """
    head = "".join(f'<th class="num">{name(label)}</th>' for label in labels)
    body = ""
    for i, row in enumerate(counts):
        cells = ""
        for j, count in enumerate(row):
            colour = "0,114,178" if i == j else "213,94,0"
            strength = round(_STRONGEST * (count / max(sum(row), 1)) ** 0.6, 3)  # small shares must be seen too
            cells += f'<td class="num" style="background:rgba({colour},{strength})">{count or "·"}</td>'
        body += f"<tr><th>{name(labels[i])}</th>{cells}</tr>"
    return Html(
        f'<table class="heat"><thead><tr><th class="quiet">label ↓ prediction →</th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>"
    )


def line_chart(title: str, names: tuple[str, str], points: Sequence[Range]) -> Html:
    """Return a line through points whose coordinates are shares.

    Args:
        title: what the chart shows.
        names: the names of the horizontal and of the vertical axis.
        points: at least one point.
    """
    across, up = ((min(values), 1.0) for values in zip(*points, strict=True))

    def draw(x: Callable[[float], float], y: Callable[[float], float]) -> str:
        places = [(f"{x(a):.1f}", f"{y(b):.1f}", b) for a, b in points]
        line = " ".join(f"{a},{b}" for a, b, _ in places)
        dots = "".join(
            f'<circle cx="{a}" cy="{b}" r="3.5" fill="{BLUE}"><title>{percent(c)}</title></circle>'
            for a, b, c in places
        )
        return f'<polyline points="{line}" fill="none" stroke="{BLUE}" stroke-width="2"/>{dots}'

    return _chart(title, names, across, up, draw)


def reliability_chart(title: str, bins: Sequence[tuple[float, float, int]]) -> Html:
    """Return a reliability chart: accuracy over confidence, with a dot for each bin, larger where it has more photos.

    Args:
        title: what the chart shows.
        bins: (confidence, accuracy, number of photos) of each bin that has photos.
    """
    most = max((n for _, _, n in bins), default=1)

    def draw(x: Callable[[float], float], y: Callable[[float], float]) -> str:
        line = f"M{x(0):.1f} {y(0):.1f}L{x(1):.1f} {y(1):.1f}"
        gaps = "".join(f"M{x(c):.1f} {y(c):.1f}V{y(a):.1f}" for c, a, _ in bins)
        dots = "".join(
            f'<circle cx="{x(c):.1f}" cy="{y(a):.1f}" r="{2.5 + 5 * (n / most) ** 0.5:.1f}" fill="{BLUE}">'
            f"<title>{n}: {percent(a)}</title></circle>"
            for c, a, n in bins
        )
        dashed = f'<path d="{line}" stroke="currentColor" stroke-opacity=".5" stroke-dasharray="4 4"/>'
        return f'{dashed}<path d="{gaps}" stroke="{VERMILION}" stroke-width="2"/>{dots}'

    return _chart(title, ("confidence", "accuracy"), (0.0, 1.0), (0.0, 1.0), draw)


def _chart(
    title: str,
    names: tuple[str, str],
    across: Range,
    up: Range,
    draw: Callable[[Callable[[float], float], Callable[[float], float]], str],
) -> Html:
    """Return a chart with percent axes; ``draw`` gets the functions from shares to pixels, and returns the marks."""
    right, bottom = _WIDTH - _EDGE, _HEIGHT - _BELOW
    across_ticks, up_ticks = _ticks(*across), _ticks(*up)

    def x(value: float) -> float:
        return _LEFT + (value - across_ticks[0]) / (across_ticks[-1] - across_ticks[0]) * (right - _LEFT)

    def y(value: float) -> float:
        return bottom - (value - up_ticks[0]) / (up_ticks[-1] - up_ticks[0]) * (bottom - _EDGE)

    marks = f'<path d="M{_LEFT} {_EDGE}V{bottom}H{right}" stroke="currentColor" stroke-opacity=".5" fill="none"/>'
    for tick in across_ticks:
        marks += f'<text x="{x(tick):.0f}" y="{bottom + 14}" text-anchor="middle">{percent(tick, 0)}</text>'
    for tick in up_ticks:
        marks += f'<text x="{_LEFT - 5}" y="{y(tick) + 4:.0f}" text-anchor="end">{percent(tick, 0)}</text>'
        marks += f'<path d="M{_LEFT} {y(tick):.1f}H{right}" stroke="currentColor" stroke-opacity=".12"/>'
    middle = (_LEFT + right) // 2
    marks += f'<text x="{middle}" y="{_HEIGHT - 5}" text-anchor="middle">{escaped(names[0])}</text>'
    turned = f'transform="translate(10 {bottom // 2 + 5}) rotate(-90)"'
    marks += f'<text {turned} text-anchor="middle">{escaped(names[1])}</text>'
    return svg(_WIDTH, _HEIGHT, title, marks + draw(x, y))


def _ticks(low: float, high: float) -> list[float]:
    """Return round shares at equal distances, at most six, from ``low`` or below to ``high`` or above."""
    step = next(step for step in (0.01, 0.02, 0.05, 0.1, 0.25) if (high - low) / step <= 5 or step == 0.25)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [number * step for number in range(first, last + 1)]
