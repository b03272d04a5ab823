"""Models of others' design, trained and scored by the same code, as yardsticks."""
