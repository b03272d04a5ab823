"""Engines: what runs the network's `step`. One protocol, one implementation per inference library."""
