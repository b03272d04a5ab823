"""One self-contained HTML page from the document that `--json` writes: tables, and pictures as inline SVG."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from . import pictures
from .timing import latency_text

__all__ = ["page"]

_CSS = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; background: #fff; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: 0; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .2rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .2rem; }
p { margin: .3rem 0 .6rem; max-width: 46rem; }
.about, caption { color: #666; }
svg { max-width: 100%; height: auto; }
table { border-collapse: collapse; margin: .6rem 1.6rem .6rem 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .2rem; }
th, td { padding: .12rem .6rem; text-align: right; border-bottom: 1px solid #e4e4e4; }
th { font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
tr.sum td { font-weight: 600; }
.side { display: flex; flex-wrap: wrap; align-items: flex-start; }
"""

Row = Sequence[str]


def page(document: Mapping[str, Any]) -> str:
    """The report of an evaluation. Needs matplotlib (extra `eval`)."""
    source = document.get("engine") or f"estimates in {document['estimates']}"
    parts = [f"<h1>Evaluation</h1><p class=about>{escape(source)}{_latency(document)}</p>"]
    for key, title in (
        ("recordings", "Recordings"),
        ("renders", f"Validation renders ({document.get('recipe')})"),
    ):
        if key in document:
            parts.append(_analysis(document[key], title, document.get("total_latency_ms")))
        if key == "recordings" and "against" in document:
            parts.append(_against(document["against"]))
    if "gap" in document:
        parts.append(_gap(document["gap"]))
    body = _with_own_ids("\n".join(parts))
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        f"<title>Evaluation: {escape(source)}</title><style>{_CSS}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _with_own_ids(body: str) -> str:
    """The pictures' ids made unique in the page: similar pictures share some."""
    numbers = itertools.count()

    def renamed(picture: re.Match[str]) -> str:
        number = next(numbers)
        return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>p{number}-", picture[0])

    return re.sub(r"<svg.*?</svg>", renamed, body, flags=re.DOTALL)


def _latency(document: Mapping[str, Any]) -> str:
    if "total_latency_ms" not in document:
        return ""
    sha = str(document["weights_sha256"])[:12]
    return f", {latency_text(document['total_latency_ms'])}, weights {escape(sha)}"


def _analysis(analysis: Mapping[str, Any], title: str, latency_ms: float | None) -> str:
    """All sections of one set of tracks."""
    parts = [f"<h2>{escape(title)}: {analysis['tracks']} tracks</h2>", _scores(analysis)]
    if "delays" in analysis and latency_ms is not None:
        parts.append(_delays(analysis["delays"], latency_ms))
    if "curves" in analysis:
        parts.append(_curves(analysis["curves"], analysis["window_s"]))
    parts.append(_timing(analysis["timing"]))
    if "emission" in analysis:
        parts.append(_emission(analysis["emission"]))
    elif "curves" in analysis:
        parts.append("<h3>Time until the report</h3><p>Whole file: the model hears the end before it answers.</p>")
    if analysis["velocity"]:
        parts.append(_velocity(analysis["velocity"]))
    if analysis["confusion"]:
        parts.append(_confusions(analysis["confusion"], analysis["window_s"]))
    return "\n".join(parts)


def _scores(analysis: Mapping[str, Any]) -> str:
    tables = [_score_table(results, group) for group, results in analysis["scores"].items()]
    text = "<p>One-to-one matching per class and track; pooled counts hits of all classes and tracks.</p>"
    if frequent := analysis["frequent"]:
        text += (
            f"<p>Pooled F of the {len(frequent['classes'])} of 18 classes with at least {frequent['fewest_hits']} "
            f"hits: <b>{frequent['F']:.3f}</b> ({' '.join(frequent['classes'])}).</p>"
        )
    return f"<h3>Scores</h3>{text}<div class=side>{''.join(tables)}</div>"


def _score_table(results: Sequence[Mapping[str, Any]], group: str) -> str:
    """All rates at the first window, F at the others; classes that neither side has are left out."""
    first, *others = ({**result["classes"], "pooled": result["micro"]} for result in results)
    rows = []
    for name, row in first.items():
        n = row["tp"] + row["fn"]
        if n or row["fp"] or name == "pooled":
            rates = [f"{row['P']:.3f}", *(f"{some[name][k]:.3f}" if n else "-" for some, k in _rates(first, others))]
            rows.append((name, str(n), str(row["fp"]), *rates, _number(row["mean_abs_ms"], 1)))
    windows = [f"{1000 * result['window_s']:g}" for result in results]
    head = ("class", "n", "extra", "P", "R", *(f"F ±{window} ms" for window in windows), "|error| ms")
    return _table(head, rows, f"P, R, error at ±{windows[0]} ms; classes: {group}", summed=True)


def _rates(first: Mapping[str, Any], others: Iterable[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], str]]:
    return [(first, "R"), (first, "F"), *((other, "F") for other in others)]


def _delays(delays: Mapping[str, Any], latency_ms: float) -> str:
    windows = [f"F ±{1000 * w['window_s']:g} ms" for w in delays["rows"][0]["windows"]]
    classes = list(delays["rows"][0]["windows"][0]["classes"])
    rows = [
        (
            f"{row['total_latency_ms']:g}",
            f"{row['delay_ms']:g}",
            *(f"{w['F']:.3f}" for w in row["windows"]),
            *(f"{row['windows'][0][k]:.3f}" for k in "PR"),
            *(f"{row['windows'][0]['classes'][name]:.3f}" for name in classes),
        )
        for row in delays["rows"]
    ]
    text = (
        "<p>Total latency is the longest time from attack to report, without computing. Dotted: the one of this report."
    )
    if delays["best_within_limit"]:
        best, limited = (delays[key]["windows"][0]["F"] for key in ("best", "best_within_limit"))
        text += (
            f" Without a limit the best F is {best:.3f} (at {delays['best']['total_latency_ms']:g} ms), within "
            f"{delays['limit_ms']:g} ms {limited:.3f}: {100 * (best - limited):.1f} points less."
        )
    table = _table(("latency ms", "delay ms", *windows, "P", "R", *classes), rows)
    return f"<h3>F against latency</h3>{text}</p>{pictures.delays(delays, latency_ms)}{table}"


def _curves(curves: Mapping[str, Any], window_s: float) -> str:
    drawn = [
        pictures.panels(curve) if len(curve["classes"]) > 7 or group == "all" else pictures.curves(curve)
        for group, curve in curves.items()
    ]
    text = (
        f"<p>Matching within ±{1000 * window_s:g} ms. One threshold for all classes moves along a curve; dots: the "
        "thresholds that the model ships with.</p>"
    )
    return f"<h3>Precision and recall</h3>{text}{''.join(drawn)}"


def _timing(timing: Mapping[str, Any]) -> str:
    if not timing["n"]:
        return ""
    text = (
        f"<p>{timing['n']} matched hits: mean absolute error {timing['mean_abs_ms']:.1f} ms, median "
        f"{timing['median_ms']:+.1f} ms, standard deviation {timing['sd_ms']:.1f} ms.</p>"
    )
    return f"<h3>Timing error</h3>{text}{pictures.timing(timing)}"


def _emission(emission: Mapping[str, Any]) -> str:
    if not emission["from_report"]["n"]:
        return ""
    text = (
        "<p>The recording was fed live in pieces of 20 ms; counted is the input up to the moment the hit came out. "
        "From the reference's attack, the annotator's and the model's timing errors are in it; from the hit's own "
        "time, of right and wrong hits alike, a late one would break the contract: "
        f"<b>{emission['from_report']['late']}</b> of {emission['from_report']['n']}.</p>"
    )
    return f"<h3>Time until the report</h3>{text}{pictures.emission(emission)}"


def _velocity(velocity: Mapping[str, Any]) -> str:
    rows = [
        (name, str(row["n"]), _number(row["mean_abs"], 3), _number(row["mean"], 3, sign=True), _number(row["r"], 2))
        for name, row in velocity["classes"].items()
    ]
    f = velocity["transcription_velocity"]
    text = (
        "<p>Matched hits, velocity 0 to 1; error is estimate minus reference, r is Pearson's. F with velocity "
        f"(mir_eval, tolerance .1 after fitting a line per track): <b>{f['F']:.3f}</b> "
        f"(P {f['P']:.3f}, R {f['R']:.3f}).</p>"
    )
    table = _table(("class", "n", "|error|", "error", "r"), rows, summed=True)
    drawn = pictures.velocity(velocity) if velocity["points"] else ""
    return f"<h3>Velocity</h3>{text}{drawn}{table}"


def _confusions(confusions: Mapping[str, Any], window_s: float) -> str:
    text = (
        f"<p>Rows: the reference; columns: what it was reported as, within ±{1000 * window_s:g} ms, any class of the "
        "family. Shaded by share of the row.</p>"
    )
    tables = "".join(_confusion(title, table) for title, table in confusions.items())
    return f"<h3>Confusions</h3>{text}<div class=side>{tables}</div>"


def _confusion(title: str, table: Mapping[str, Any]) -> str:
    """Classes that neither side has are left out."""
    names, counts = [*table["classes"], "extra"], table["counts"]
    shown = [i for i in range(len(names) - 1) if sum(counts[i]) or sum(row[i] for row in counts)]
    head = "".join(f"<th>{escape(name)}</th>" for name in (title, *(names[i] for i in shown), "missed"))
    rows = [_confusion_row(names[i], [counts[i][j] for j in (*shown, -1)]) for i in (*shown, -1)]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _confusion_row(name: str, counts: Sequence[int]) -> str:
    whole = 0 if name == "extra" else sum(counts)
    cells = [
        f'<td style="background:rgba(0,114,178,{0.55 * count / whole if whole else 0:.2f})">{count or "·"}</td>'
        for count in counts
    ]
    if name == "extra":
        cells[-1] = "<td></td>"  # neither there nor reported
    return f"<tr><td>{escape(name)}</td>{''.join(cells)}</tr>"


def _against(against: Mapping[str, Any]) -> str:
    parts = []
    for result in against["results"]:
        rows = [
            (
                name,
                *(f"{row[k]:.3f}" for k in ("ours", "theirs")),
                f"{row['difference']:+.3f}",
                "-" if row["p"] is None else f"{row['low']:+.3f} to {row['high']:+.3f}",
                "-" if row["p"] is None else f"{row['p']:.2g}",
            )
            for name, row in result["classes"].items()
        ]
        columns = ("class", "F", "F of the second", "difference", f"{100 * result['confidence']:g} % interval", "p")
        caption = f"±{1000 * result['window_s']:g} ms"
        parts.append(pictures.differences(result) + _table(columns, rows, caption, summed=True))
    tracks, draws = against["results"][0]["tracks"], against["results"][0]["draws"]
    text = (
        f"<p>Compared with {escape(against['estimates'])}: interval by a paired bootstrap, {draws} draws of "
        f"{tracks} tracks with replacement, the same for both, widened for so few; p by exchanging whole tracks.</p>"
    )
    return f"<h2>Against a second system</h2>{text}{''.join(parts)}"


def _gap(rows: Sequence[Mapping[str, Any]]) -> str:
    table = _table(
        ("", "recordings", "renders", "difference"),
        [
            (
                row["figure"],
                f"{row['recordings']:.3f}",
                f"{row['renders']:.3f}",
                f"{row['recordings'] - row['renders']:+.3f}",
            )
            for row in rows
        ],
    )
    text = "<p>The same model, scored by the same code: recordings, and renders of held-out kits and grooves.</p>"
    return f"<h2>Rendered and real audio</h2>{text}{pictures.gap(rows)}{table}"


def _table(head: Row, rows: Iterable[Row], caption: str = "", *, summed: bool = False) -> str:
    """An HTML table; `summed`: the last row is the total."""
    rows = list(rows)
    lines = []
    for i, row in enumerate(rows):
        start = "<tr class=sum>" if summed and i == len(rows) - 1 else "<tr>"
        lines.append(start + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    columns = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f"<table>{title}<tr>{columns}</tr>{''.join(lines)}</table>"


def _number(value: float | None, digits: int, *, sign: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:{'+' if sign else ''}.{digits}f}"
