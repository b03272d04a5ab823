"""Audio to hits: one stream, and many that share an engine."""
