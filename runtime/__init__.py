"""Transcribing: audio in, hits out. Light by rule: neither torch nor onnx is ever imported from here."""
