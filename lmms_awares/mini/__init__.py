"""Small synthetic checkpoints and data for machines without a hub or a GPU."""
