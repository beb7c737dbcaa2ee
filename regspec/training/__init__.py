"""A thin way to train: data, a Lightning module with penalties, a run's folder; ``tuning`` searches parameters.

It may import ``report``, ``modules`` and what these may import. What passes through: a spec and data, to the folder
of a run; a spec with searched parameters, to a study.
"""
