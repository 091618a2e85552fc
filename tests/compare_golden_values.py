"""Compare this machine with all recorded golden values: ``python tests/compare_golden_values.py [--backend NAME] …``

The same as ``python -m zmlx golden compare``; exit status 1 if anything disagrees.
"""

import sys
from pathlib import Path

# A script's path begins with its own directory; zmlx is beside it, installed or not.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from zmlx.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["golden", "compare", *sys.argv[1:]]))
