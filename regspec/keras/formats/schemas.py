"""What a config must have to be one of a model, as JSON Schemas: what encloses its layers, and not what these say.

`python -m tests.generate` writes them to ``schemas/keras/``.
"""

from __future__ import annotations

from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"
MODELS = ["Sequential", "Functional", "Model"]
NAME = {"type": ["string", "null"]}
FIELDS = {  # of a layer
    "type": ["object", "array", "null"],
    "properties": {"name": NAME, "trainable": {"type": ["boolean", "integer", "null"]}},
}

# A call: in Keras 3 its arguments; before that a structure of [layer, call, output, other arguments].
CALLS: dict[int, Any] = {
    3: {"type": "object", "properties": {"args": {"type": "array"}, "kwargs": {"type": "object"}}},
    2: {"$ref": "#/$defs/tensors"},
}
TENSORS = {
    "type": ["array", "object"],
    "if": {"type": "array", "minItems": 1, "prefixItems": [{"type": "string"}]},
    # a constant in the place of a tensor is ["_CONSTANT_VALUE", -1, value, other arguments]
    "then": {
        "minItems": 3,
        "prefixItems": [{"type": "string"}, {"type": "integer"}, {}, {"type": ["object", "null"]}],
    },
    "else": {"items": {"if": {"type": "array"}, "then": {"$ref": "#/$defs/tensors"}}},
}


def model_schema(generation: int) -> dict[str, Any]:
    """The schema of a model's config, as this generation of Keras wrote it: 1 and 2 alike, or 3."""
    generation = max(generation, 2)
    sequence = {"type": "object", "required": ["layers"], "properties": {"name": NAME, "layers": _list_of("layer")}}
    graph = {
        "type": "object",
        "required": ["layers", "input_layers", "output_layers"],
        "properties": {
            "name": NAME,
            "layers": _list_of("called"),
            "input_layers": {"type": ["array", "object"]},
            "output_layers": {"type": ["array", "object"], "minItems": 1},
        },
    }
    model = {
        "type": "object",
        "required": ["class_name", "config"],
        "properties": {"class_name": {"type": "string"}},
        "if": {"properties": {"class_name": {"const": "Sequential"}}},
        # before Keras 2.2.3 a Sequential was the bare list of its layers
        "then": {
            "properties": {
                "config": {
                    "type": ["object", "array"],
                    "if": {"type": "object"},
                    "then": {"$ref": "#/$defs/sequence"},
                    "else": _list_of("layer"),
                }
            }
        },
        "else": {"properties": {"config": {"$ref": "#/$defs/graph"}}},
    }
    layer = {
        "type": "object",
        "required": ["class_name"],
        "properties": {"class_name": {"type": "string"}, "name": NAME, "config": FIELDS},
        "if": {"properties": {"class_name": {"enum": MODELS}}},
        "then": {"$ref": "#/$defs/model"},
    }
    nodes = {"properties": {"inbound_nodes": {"type": ["array", "null"], "items": CALLS[generation]}}}
    definitions: dict[str, Any] = {"layer": layer, "model": model, "sequence": sequence, "graph": graph}
    definitions["called"] = {"allOf": [{"$ref": "#/$defs/layer"}, nodes]}
    if generation == 2:
        definitions["tensors"] = TENSORS
    return {
        "$schema": DIALECT,
        "title": "The config of a model of Keras 3" if generation == 3 else "The config of a model of Keras 1 or 2",
        "$ref": "#/$defs/model",
        "$defs": definitions,
    }


def tfjs_schema() -> dict[str, Any]:
    """The schema of the `model.json` of a layers model of TensorFlow.js."""
    group = {
        "type": "object",
        "required": ["paths", "weights"],
        "properties": {"paths": {"type": "array"}, "weights": {"type": "array"}},
    }
    return {
        "$schema": DIALECT,
        "title": "The model.json of a layers model of TensorFlow.js",
        "type": "object",
        "required": ["modelTopology"],
        "properties": {
            "format": {"enum": ["layers-model", None]},
            "modelTopology": {
                "type": "object",
                "anyOf": [{"required": ["model_config"]}, {"required": ["class_name"]}],
                "properties": {"model_config": {"type": "object"}},
            },
            "weightsManifest": {"type": ["array", "null"], "items": group},
        },
    }


def _list_of(what: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/$defs/{what}"}}
