"""Rendered training data: performances, sounds, rooms, exact labels."""
