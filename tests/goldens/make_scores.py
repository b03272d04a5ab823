"""Write the label files in tests/goldens/labels and their golden scores, tests/goldens/scores.json.

usage: GHOSTNOTE_SHARED=FOLDER python tests/goldens/make_scores.py

The labels are drawn at random (fixed seed; nobody's annotations): references, and estimates made from them by moving,
losing, adding and relabelling hits. They hold what is easy to get wrong: every way to write a label, exact duplicates,
rolls in which the matching is ambiguous, times on a 10 ms grid that fill the window exactly, extra columns, blank
lines, an empty track.
The scores are not ours: FOLDER/tools/score.py, the scorer that all systems are compared with, computes them.
tests/test_evaluation.py holds ghostnote.models.evaluation.scores to them, to the last digit.
"""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
LABELS = HERE / "labels"
CASES = ((0.05, 0.0), (0.025, 0.0), (0.02, 0.0), (0.05, -0.007))  # window and offset in seconds

# Per five-class name: ways to write it in a reference (MDB classes), and in an estimate (notes and codes).
REFERENCE = {"BD": ["KD", "BD"], "SD": ["SD"], "TT": ["TT"], "HH": ["HH"], "CY": ["CY"], "none": ["OT"]}
ESTIMATE = {
    "BD": ["36", "35", "BD", "36.0"],
    "SD": ["38", "40", "SD", "sd"],
    "TT": ["41", "43", "45", "47", "48", "50", "58", "LT", "MT", "HT"],
    "HH": ["22", "26", "42", "44", "46", "CHH", "PHH", "OHH"],
    "CY": ["49", "51", "52", "53", "55", "57", "59", "CRC", "SPC", "CHC", "RD", "RB"],
    "none": ["37", "39", "54", "56", "75", "SS", "CLP", "TB", "CB", "CL", "60"],
}
SHARE = {"BD": 0.22, "SD": 0.2, "TT": 0.1, "HH": 0.33, "CY": 0.1, "none": 0.05}


def draw_reference(rng: np.random.Generator, n: int) -> list[tuple[float, str]]:
    """`n` hits (seconds, class): a third on a 10 ms grid, a third anywhere, a third in rolls of 30 to 60 ms."""
    grid = np.round(rng.uniform(0, 20, n // 3), 2)
    anywhere = rng.uniform(0, 20, n // 3)
    roll = 20 + np.cumsum(rng.uniform(0.03, 0.06, n - 2 * (n // 3)))
    names = rng.choice(list(SHARE), size=n, p=list(SHARE.values()))
    names[-len(roll) :] = "SD"
    return sorted(zip(map(float, np.concatenate([grid, anywhere, roll])), map(str, names), strict=True))


def draw_estimate(rng: np.random.Generator, reference: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """The reference as a system might hear it: moved, lost, invented, confused and doubled hits."""
    hits = []
    for time_s, name in reference:
        if rng.random() < 0.12:
            continue
        shift_s = rng.choice([0.05, -0.05, 0.025, -0.025, 0.02]) if rng.random() < 0.15 else rng.normal(0.002, 0.012)
        label = str(rng.choice(list(SHARE))) if rng.random() < 0.06 else name
        hits.append((max(0.0, float(time_s + shift_s)), label))
        if rng.random() < 0.05:
            hits.append(hits[-1])
    false_alarms = rng.uniform(0, 22, len(reference) // 10)
    return sorted(hits + [(float(t), str(rng.choice(list(SHARE)))) for t in false_alarms])


def write_labels(
    path: Path, hits: list[tuple[float, str]], spelling: dict[str, list[str]], rng: np.random.Generator
) -> None:
    """Write `seconds<TAB>label`, sometimes with a third column or a blank line after it."""
    lines = [f"{t:.6f}\t{rng.choice(spelling[name])}" + ("\t0.8" if rng.random() < 0.1 else "") for t, name in hits]
    lines = [line + ("\n" if rng.random() < 0.02 else "") for line in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def make_labels() -> None:
    """Four tracks of growing size and one without any hit."""
    rng = np.random.default_rng(20261122)
    for name, n in (("alpha", 30), ("bravo", 90), ("charlie", 240), ("delta", 150), ("silent", 0)):
        reference = draw_reference(rng, n)
        write_labels(LABELS / "references" / f"{name}.txt", reference, REFERENCE, rng)
        write_labels(LABELS / "estimates" / f"{name}.txt", draw_estimate(rng, reference), ESTIMATE, rng)


def golden_scores(scorer: Path) -> list[dict]:
    """What the shared scorer says of the label files, for every case."""
    score = runpy.run_path(str(scorer))["score"]
    return [
        score(LABELS / "estimates", LABELS / "references", window_s, offset_s, None) for window_s, offset_s in CASES
    ]


if __name__ == "__main__":
    make_labels()
    results = golden_scores(Path(os.environ["GHOSTNOTE_SHARED"]) / "tools" / "score.py")
    (HERE / "scores.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
