"""Well-known architectures: ``<name>.yaml`` is the spec, ``<name>.py`` the same network as a person writes it."""
