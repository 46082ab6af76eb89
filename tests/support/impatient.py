"""``imagefactory serve`` that tries again after a twentieth of a second what has failed, where the real one
waits for two seconds, and whose keeper looks as often: else a thousand faults would take hours."""

from __future__ import annotations

import sys

from imagefactory.cli import main
from imagefactory.engine import health
from imagefactory.storage import database
from imagefactory.upkeep import keeper

if __name__ == "__main__":
    health._PAUSE_S = health._PROBE_S = database._PAUSE_S = keeper._PAUSE_S = 0.05
    sys.exit(main(sys.argv[1:]))
