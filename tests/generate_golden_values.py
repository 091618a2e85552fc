"""Record golden values on this machine: ``python tests/generate_golden_values.py [--backend NAME] [--golden-dir DIR]``

The same as ``python -m zmlx golden record``; writes ``golden_values/<backend>.json``.
"""

import sys
from pathlib import Path

# A script's path begins with its own directory; zmlx is beside it, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from zmlx.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["golden", "record", *sys.argv[1:]]))
