"""The way into the command line: imports next to nothing before a Ctrl-C can be met."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line on the words of this process; returns its exit code, 130 for Ctrl-C."""
    try:
        from pruneinit.cli import main as carry_out

        return carry_out()
    except KeyboardInterrupt:
        sys.stderr.write("pruneinit: interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
