"""`import flordb as flor`, `python -m flordb`: flor under the name that FlorDB has since 3.4.9.

Where FlorDB itself is installed as well, its package comes first.
"""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path and sys.path[0] != __file__.rpartition("/")[0]:
    del sys.path[0]  # as in flor.py

import flor

if __name__ == "__main__":
    from flor_runtime.cli import main

    main(prog_name="flor")
else:
    sys.modules[__name__] = flor
