"""Well-known architectures: ``<name>.yaml`` is the spec, ``<name>.py`` the same network as a person writes it."""

from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
