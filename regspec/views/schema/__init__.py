"""JSON Schema of specs and of rules, from the declarations that validate them, for editors and for other programs.

`models` has the schema of one model, `families` the forms of named things, `specs` those of layers and of the whole
file, which `whole` finishes. What a schema can't say (that names are unique and known, that shapes fit) is
`regspec check`'s to say.
"""

from regspec.views.schema.specs import rules_schema as rules_schema
from regspec.views.schema.specs import spec_schema as spec_schema
