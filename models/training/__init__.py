"""From rendered audio to weights: losses, steps, the loop, what each idea is worth."""
