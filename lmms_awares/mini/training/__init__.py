"""Training of the tiny checkpoint; so far its first stage, the vision tower on dense labels."""
