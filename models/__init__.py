"""The model: definition, data rendering, training and evaluation. Needs the extra `train` (PyTorch)."""
