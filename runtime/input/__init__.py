"""Recordings and raw audio as mono blocks at the rate of a model."""
