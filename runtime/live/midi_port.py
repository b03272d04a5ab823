"""Hits as notes on a MIDI port (mido with python-rtmidi, extra `live`)."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

from mido import Message

from ..errors import OutputError
from ..events import Hit

__all__ = ["MidiPortSink", "output_names"]

_CHANNEL = 9  # channel 10, counted from 0
_NOTE_S = 0.03  # drum sounds ring by themselves; receivers only need to see that the note ends
_ALL_NOTES_OFF = 123  # control change
_STOP = (0.0, -1)
# rtmidi's system errors are OSErrors; what an interface cannot do, and what it was not to be asked, are these.
_RTMIDI_ERRORS = (OSError, RuntimeError, ValueError)


class MidiPortSink:
    """A note on for each hit at once, channel 10, the note of its class; note offs come from a thread of their own.

    `name` is a port of the system, or a part of its name that only one has; with `virtual` it is the name of a port to
    be made, which other programs connect to (not on Windows).
    """

    def __init__(self, name: str, note_of: Mapping[str, int], *, virtual: bool = False) -> None:
        self._name = name
        self._note_of = note_of
        self._port = _open(name, virtual=virtual)
        self._lock = threading.Lock()  # on `_ends_at`, and so that a note's on and off keep their order
        self._ends_at: dict[int, float] = {}  # sounding notes
        self._ends: queue.SimpleQueue[tuple[float, int]] = queue.SimpleQueue()  # in order: all notes are equally long
        self._thread = threading.Thread(target=self._end_notes, name="midi note offs", daemon=True)
        self._thread.start()

    def write(self, hits: Iterable[Hit]) -> None:
        """Notes on. Raises OutputError where the port is gone."""
        for hit in hits:
            note, velocity = self._note_of[hit.code], min(127, max(1, round(127 * hit.velocity)))
            with self._lock:
                if note in self._ends_at:
                    self._send("note_off", note=note, velocity=0)
                self._send("note_on", note=note, velocity=velocity)
                end = time.monotonic() + _NOTE_S  # counted from what was sent, however long the lock and the port took
                self._ends_at[note] = end
            self._ends.put((end, note))

    def close(self) -> None:
        """Let what sounds end, end all notes, close the port; once only. Raises OutputError where the port is gone."""
        if self._port.closed:
            return
        self._ends.put(_STOP)
        self._thread.join()
        try:
            self._send("control_change", control=_ALL_NOTES_OFF, value=0)
        finally:
            with contextlib.suppress(OSError):
                self._port.close()

    def discard(self) -> None:
        """Close the port; what can still be ended is."""
        with contextlib.suppress(OutputError):
            self.close()

    def _end_notes(self) -> None:
        """The thread: a note off for each note that was not struck again meanwhile."""
        while (item := self._ends.get()) != _STOP:
            end, note = item
            time.sleep(max(0.0, end - time.monotonic()))
            with self._lock:
                if self._ends_at.get(note) == end:
                    del self._ends_at[note]
                    try:
                        self._send("note_off", note=note, velocity=0)
                    except OutputError:
                        return  # the next note on says so where it is heard

    def _send(self, kind: str, **values: int) -> None:
        try:
            self._port.send(Message(kind, channel=_CHANNEL, **values))
        except _RTMIDI_ERRORS as error:
            raise OutputError(f"MIDI port '{self._name}': cannot be written ({error})") from None


def output_names() -> list[str]:
    """MIDI output ports of this system; none where the system has no MIDI at all. Raises OutputError without rtmidi."""
    backend = _backend()
    try:
        return list(backend.get_output_names())
    except _RTMIDI_ERRORS:
        return []


def _backend() -> Any:
    import mido

    try:
        import rtmidi  # noqa: F401 - mido would import it at the first call only
    except ModuleNotFoundError:
        raise OutputError(
            "--midi-port needs python-rtmidi, which is not installed; pip install 'ghostnote[live]'"
        ) from None
    return mido.Backend("mido.backends.rtmidi")


def _open(name: str, *, virtual: bool) -> Any:
    backend = _backend()
    if not virtual:
        name = _choose(name, output_names())
    try:
        return backend.open_output(name, virtual=virtual)
    except _RTMIDI_ERRORS as error:
        raise OutputError(f"MIDI port '{name}': cannot be opened ({error})") from None


def _choose(name: str, known: list[str]) -> str:
    """The one port called so, or whose name holds it. Raises OutputError."""
    found = [port for port in known if port == name] or [port for port in known if name.lower() in port.lower()]
    if len(found) != 1:
        there = ", ".join(f"'{port}'" for port in found or known) or "none (--midi-virtual makes one)"
        raise OutputError(f"MIDI port '{name}': {'several' if found else 'no'} such port; there are {there}")
    return found[0]
