"""A thin way to train: data, a Lightning module with penalties, and a run's folder."""
