"""A run's folder, and what was trained in it: loaded, evaluated, asked for predictions."""
