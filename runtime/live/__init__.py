"""Hits while the music plays: terminal grid, MIDI port, OSC, and what feeds them."""
