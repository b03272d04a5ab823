"""What transcribing costs: time, latency, memory."""
