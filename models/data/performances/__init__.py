"""What is played: recorded performances, written patterns, and their mixture."""
