"""Tools for the repository's own upkeep; no part of the package."""
