"""A static site that shows runs sample by sample; works from `file://`, without a server or a network."""
