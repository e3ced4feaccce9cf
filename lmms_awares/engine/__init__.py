"""Who answers: a checkpoint in this process, and what is needed to load and drive it."""
