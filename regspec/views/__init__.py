"""What is shown of a spec, or of the language itself: summaries, diagrams, JSON Schemas, references; the formatter.

It may import ``graph`` and what that may import, and never torch. What passes through: a `Graph` or the tables of
kinds, to text for people and editors.
"""
