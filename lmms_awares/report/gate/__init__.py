"""The regression gate of `awares regress`."""
