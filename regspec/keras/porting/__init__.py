"""From a file, or a model in memory, to a port: `porting` leads through all stages, ``report`` tells of it."""
