"""The figures of `awares plot`."""
