"""The regression gate: two builds side by side, and a verdict per metric."""
