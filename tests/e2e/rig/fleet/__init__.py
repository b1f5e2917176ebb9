"""A fleet of pools by the hundred: their objects, and one process that plays all their engines.

The emulator beside it plays requests one by one, and so a few pools; this plays what engines report
under a constant load, and so thousands of pods.
"""
