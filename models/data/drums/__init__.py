"""Drum sounds: recorded kits, synthesised ones, and their pieces in one clip."""
