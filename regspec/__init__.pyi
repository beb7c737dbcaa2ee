__version__: str

from .graph.loading import load as load
from .graph.loading import loads as loads
from .keras.porting import Port as Port
from .keras.porting import port as port
from .language.registered import register_regularizer as register_regularizer
from .layers.layer import Layer as Layer
from .layers.registration import register_layer as register_layer
from .modules.binding import bind as bind
from .modules.building import build as build
from .modules.measuring import regularization_loss as regularization_loss
from .modules.measuring import regularization_terms as regularization_terms
from .modules.measuring import sparsity as sparsity
from .modules.measuring import strengths as strengths
from .modules.regularizing import regularize as regularize
from .modules.regularizing import unregularize as unregularize
from .runtime import Regularized as Regularized
from .runtime import accumulate as accumulate
from .runtime import reset_states as reset_states
from .specs.model import ModelSpec as ModelSpec
from .targets.source import source as source
from .text.problems import Problem as Problem
from .text.problems import RegspecError as RegspecError
from .training.calling import train as train
from .training.runs.predicting import Prediction as Prediction
from .training.runs.trained import Run as Run
from .training.runs.trained import load_run as load_run
