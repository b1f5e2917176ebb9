"""``python -m spillway``."""

from __future__ import annotations

from spillway.cli import main

if __name__ == "__main__":
    main()
