"""Sweeps: many short training runs over a declared space of settings (Optuna), and what they say."""
