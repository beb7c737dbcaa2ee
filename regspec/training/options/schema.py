"""JSON Schema of training files, from the options that commands take."""

from __future__ import annotations

from regspec.training.options.columns import ALONE, ColumnSection
from regspec.training.options.file import training_file
from regspec.training.options.outputs import OutputSection
from regspec.training.options.rules import RuleSection
from regspec.views.schema.models import Schema, model_schema
from regspec.views.schema.whole import finished


def training_schema() -> Schema:
    """The JSON Schema of training files.

    What it can't say (which optimizers and losses there are, and what these take) is for `regspec check` to say.
    """
    schema = model_schema(training_file())
    definitions = schema.pop("$defs")
    columns = model_schema(ColumnSection)
    definitions |= columns.pop("$defs", {})
    for definition in definitions.values():
        definition.pop("title", None)
    definitions[OutputSection.__name__] = model_schema(OutputSection)
    definitions[RuleSection.__name__] = model_schema(RuleSection)
    definitions[ColumnSection.__name__] = {"anyOf": [{"enum": [*ALONE]}, columns]}
    return finished("How a regspec model is trained", schema, definitions)
