"""What a user may write: fields, named things, rules, the spec itself, and how it is read."""
