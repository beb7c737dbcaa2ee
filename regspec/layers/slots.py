"""The fields of each slot: how its weight starts, what penalty it has, what constraint holds for it."""

from __future__ import annotations

from pydantic import Field

from regspec.language.constraints import Constraint
from regspec.language.initializers import GLOROT_UNIFORM, ONES, ORTHOGONAL, UNIFORM, ZEROS, Initializer
from regspec.language.regularizers import RegularizerField
from regspec.layers.layer import Layer


class KernelSlot(Layer):
    """A layer with a kernel."""

    kernel_initializer: Initializer = GLOROT_UNIFORM
    kernel_regularizer: RegularizerField | None = None
    kernel_constraint: Constraint | None = None


class BiasSlot(Layer):
    """A layer with a bias, which it may do without."""

    use_bias: bool = Field(True, description="Whether the layer adds a bias.")
    bias_initializer: Initializer = ZEROS
    bias_regularizer: RegularizerField | None = None
    bias_constraint: Constraint | None = None


class RecurrentSlot(Layer):
    """A layer with a recurrent kernel, which multiplies its own state."""

    recurrent_initializer: Initializer = ORTHOGONAL
    recurrent_regularizer: RegularizerField | None = None
    recurrent_constraint: Constraint | None = None


class DepthwiseSlot(Layer):
    """A layer with a depthwise kernel, one filter for each channel."""

    depthwise_initializer: Initializer = GLOROT_UNIFORM
    depthwise_regularizer: RegularizerField | None = None
    depthwise_constraint: Constraint | None = None


class PointwiseSlot(Layer):
    """A layer with a pointwise kernel, which mixes channels."""

    pointwise_initializer: Initializer = GLOROT_UNIFORM
    pointwise_regularizer: RegularizerField | None = None
    pointwise_constraint: Constraint | None = None


class EmbeddingsSlot(Layer):
    """A layer with a table of embeddings."""

    embeddings_initializer: Initializer = UNIFORM
    embeddings_regularizer: RegularizerField | None = None
    embeddings_constraint: Constraint | None = None


class AffineSlots(Layer):
    """A normalization with a learned scale, gamma, and shift, beta."""

    center: bool = Field(True, description="Whether the layer adds the learned shift beta.")
    scale: bool = Field(True, description="Whether the layer multiplies by the learned scale gamma.")
    beta_initializer: Initializer = ZEROS
    gamma_initializer: Initializer = ONES
    beta_regularizer: RegularizerField | None = None
    gamma_regularizer: RegularizerField | None = None
    beta_constraint: Constraint | None = None
    gamma_constraint: Constraint | None = None
