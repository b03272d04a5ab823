"""A drum kit of the Hydrogen drum machine: a folder with `drumkit.xml` and the recordings that it names.

Which drum an instrument is follows from its name, in English, as every published kit has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from ....runtime.errors import InputError
from ..packed import zero_to_one
from .pack import Cut, Recordings, cut_out, longest_s, read_mono, slug, slugs

__all__ = ["KIT_FILE", "hydrogen_sounds"]

KIT_FILE = "drumkit.xml"

# The first that is found in a name counts; None: several strokes in one recording.
CLASS_OF_NAME = (
    (r"roll|loop", None), (r"side ?stick|cross ?stick|rim ?click|^stick", "SS"), (r"bass ?drum|kick", "BD"),
    (r"snare", "SD"), (r"clap", "CLP"), (r"pedal|foot", "PHH"),
    (r"(hat|\bhh\b).*(open|free|half|loose)|open.*(hat|\bhh\b)", "OHH"), (r"hat|\bhh\b", "CHH"),
    (r"tambourine", "TB"), (r"(floor|low).*tom|tom.*(floor|low)", "LT"), (r"mid.*tom|tom.*mid", "MT"), (r"tom", "HT"),
    (r"cow ?bell", "CB"), (r"splash", "SPC"), (r"china", "CHC"), (r"bell", "RB"), (r"crash", "CRC"), (r"ride", "RD"),
    (r"claves", "CL"),
)  # fmt: skip
NUMBERED_TOM = re.compile(r"^(?!.*\bhi(gh)?\b).*?(tom\D*(?P<behind>\d+)|(?P<before>\d+)\D*tom)")


def hydrogen_sounds(folder: Path, name: str, recordings: Recordings) -> Iterator[Cut]:
    """Every recording of the instruments that are drums, as rows of `kits.csv`. Raises InputError."""
    layers = list(_layers(folder / KIT_FILE))
    named = slugs((file for _, file, _ in layers), of=lambda file: slug(Path(file).stem))
    classes = _classes(instrument for instrument, _, _ in layers)
    for instrument, file, loudest in layers:
        code = classes[instrument]
        if code is None:
            continue
        samples = cut_out(read_mono(folder / file), longest_s(code))
        if samples is not None and recordings.is_new(code, samples):
            row = {"path": f"{name}/{code}/{named[file]}.flac", "kit": name, "class": code}
            yield Cut(
                row | {"articulation": slug(instrument), "velocity_rank": round(loudest, 3), "split": "train"}, samples
            )


def _classes(instruments: Iterable[str]) -> dict[str, str | None]:
    """The class of every instrument of a kit. Toms that are numbered count from the highest down, as drummers do."""
    classes = {
        instrument: next((code for pattern, code in CLASS_OF_NAME if re.search(pattern, instrument.lower())), None)
        for instrument in instruments
    }
    numbers = {
        instrument: int(found["behind"] or found["before"])
        for instrument, code in classes.items()
        if code == "HT" and (found := NUMBERED_TOM.search(instrument.lower()))
    }
    lowest = "MT" if "LT" in classes.values() else "LT"  # a floor tom of that name lies below all of them
    first, last = min(numbers.values(), default=0), max(numbers.values(), default=0)
    of_number = {number: "HT" if number == first else lowest if number == last else "MT" for number in numbers.values()}
    return classes | {instrument: of_number[number] for instrument, number in numbers.items()}


def _layers(table: Path) -> Iterator[tuple[str, str, float]]:
    """Instrument, file, and the velocity 0..1 up to which it is played."""
    try:
        root = ElementTree.parse(table).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise InputError(f"{table}: cannot be read ({error}); expected a Hydrogen drum kit's folder") from None
    for element in root.iter():  # newer kits have a namespace, older ones none
        element.tag = element.tag.rpartition("}")[2]
    for instrument in root.iter("instrument"):
        for layer in instrument.iter("layer"):
            file, loudest = layer.findtext("filename"), layer.findtext("max") or "1"
            if not file:
                continue
            try:
                yield instrument.findtext("name") or "", file, zero_to_one(loudest)
            except ValueError as error:
                raise InputError(f"{table}: the max of {file} is {loudest!r}; {error}") from None
