"""Makes the SavedModels that `tests/test_saved_models.py` ports, and what Keras computes with them.

Run by hand, in environments of its own, because it needs TensorFlow; the tests need none:

    pip install tensorflow-cpu==2.4.4 "protobuf<3.21"     # and 2.1.0, on Python 3.7
    CUDA_VISIBLE_DEVICES= python tests/saved_models/make.py

and so with tensorflow-cpu==2.15.0, and with tensorflow-cpu==2.21.0 and tf_keras==2.21.0. For each model it writes
`tf_<version>/<model>.zip`, the folder that Keras has saved but for the graph and the functions, which nothing reads;
and `<model>.npz` with inputs, outputs in evaluation, the sum of the losses, the norm of the gradients of that sum plus
the mean squares of the outputs; of `distributed` also the weights, as `get_weights()` gives them.
"""

import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

try:
    import tf_keras as keras
except ImportError:
    keras = tf.keras

layers, regularizers = keras.layers, keras.regularizers
VERSION = tuple(int(part) for part in tf.__version__.split(".")[:2])
FOLDER = Path(__file__).parent / "tf_{}".format(tf.__version__.replace(".", "_"))
MODELS, OTHERS = {}, {}


def model(**options):
    """Adds a model to those that are made, which is saved with these options; a decorator."""

    def add(function):
        MODELS[function.__name__] = (function, options)
        return function

    return add


def other(function):
    """Adds what is no model of layers of Keras, and saves itself to a folder; a decorator."""
    OTHERS[function.__name__] = function
    return function


def cudnn(path):
    """Layers that run on a GPU alone, in every form; what they compute is that of the layers that an .h5 names."""
    cells = tf.compat.v1.keras.layers
    penalties = {"kernel_regularizer": "l1", "recurrent_regularizer": "l2"}
    x = keras.Input((5, 3))
    y = layers.Bidirectional(cells.CuDNNGRU(2, return_sequences=True, name="second", **penalties), name="both")(x)
    inner = sequential(cells.CuDNNLSTM(3, input_shape=(5, 4), return_sequences=True, **penalties))
    y = cells.CuDNNLSTM(4, name="third", bias_regularizer="l2")(inner(cells.CuDNNGRU(4, return_sequences=True)(y)))
    made = keras.Model(x, layers.Dense(2)(layers.Bidirectional(cells.CuDNNLSTM(2), merge_mode="sum")(y[:, None])))
    fill(made, 1)
    made.save(path, save_format="tf", save_traces=False)
    made.save(str(FOLDER / "cudnn.h5"))
    if VERSION >= (2, 15):
        made.save(str(FOLDER / "cudnn.keras"))


if VERSION[:1] == (2,) and (2, 4) <= VERSION <= (2, 15):  # with cells that read a file anew
    OTHERS["cudnn"] = cudnn


# -- models ------------------------------------------------------------------------------------------------------------


def sequential(first, *rest):
    made = keras.Sequential()
    for each in (first, *rest):
        made.add(each)
    return made


@model()
def sequence():
    """More than ten layers, recurrent ones in both directions, a layer at each step; compiled and trained."""
    made = sequential(
        layers.Embedding(11, 5, input_length=7, embeddings_regularizer="l2"),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True, kernel_regularizer="l1"), name="both"),
        layers.TimeDistributed(layers.Dense(4, kernel_regularizer="l2", activity_regularizer="l1")),
        layers.Dropout(0.2),
        layers.Activation("tanh", activity_regularizer=regularizers.l2(0.3)),
        layers.Dense(4, trainable=False),
        layers.BatchNormalization(gamma_regularizer="l2"),
        layers.GRU(4, return_sequences=True),
        layers.Conv1D(5, 3, padding="same", name="conv/of.words"),
        layers.RNN([layers.LSTMCell(3), layers.GRUCell(4, recurrent_regularizer="l1")], return_sequences=True),
        layers.Bidirectional(layers.RNN([layers.GRUCell(2), layers.GRUCell(3)], return_sequences=True)),
        layers.LayerNormalization(),
        layers.Flatten(),
        layers.Dense(3, activation="softmax", bias_regularizer="l2"),
    )
    made.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    made.fit(np.zeros((4, 7), "int32"), np.zeros((4, 1), "int32"), epochs=1, verbose=0)
    return made


def inner(name, is_frozen=False):
    made = keras.Sequential(
        [layers.Dense(4, input_shape=(4,), name="same", kernel_regularizer="l2"), layers.BatchNormalization()],
        name=name,
    )
    made.trainable = not is_frozen
    return made


@model(**({} if VERSION < (2, 4) else {"save_traces": False}))
def graph():
    """Shared layers, models in models with layers of the same names, frozen ones, penalties that no config has."""
    x, y = keras.Input((4,), name="x"), keras.Input((4,), name="y")
    shared = layers.Dense(4, name="same", activity_regularizer="l2")
    first = layers.Add(activity_regularizer=regularizers.l1(0.2))([shared(x), shared(y)])
    z = keras.Input((4,))
    tower = keras.Model(z, [inner("first")(z), layers.Dense(3, name="last")(inner("second", is_frozen=True)(z))])
    a, b = tower(layers.ReLU(activity_regularizer=regularizers.l2(0.01))(first))
    c = layers.SpectralNormalization(layers.Dense(4))(a) if VERSION == (2, 15) else layers.Dense(4)(a)
    frozen = layers.Dense(2, trainable=False, name="frozen", kernel_regularizer="l1")(layers.Concatenate()([b, c]))
    return keras.Model([x, y], [frozen, a])


@model(**({} if VERSION < (2, 4) else {"save_traces": True}))
def attending():
    """Attention, convolutions of images, and layers whose objects have a thing twice."""
    x, image = keras.Input((5, 4)), keras.Input((6, 5, 2))
    y = layers.MultiHeadAttention(2, 3, kernel_regularizer="l2")(x, x) if VERSION >= (2, 4) else layers.Dense(4)(x)
    y = layers.ActivityRegularization(0.1, 0.2)(y)
    z = image
    if VERSION >= (2, 6):
        z = layers.Normalization()
        z.adapt(np.random.RandomState(3).standard_normal((5, 6, 5, 2)))
        z = z(image)
    z = layers.SeparableConv2D(3, (2, 3), depthwise_regularizer="l1", pointwise_regularizer="l2")(z)
    z = layers.Conv2DTranspose(2, (3, 2))(layers.DepthwiseConv2D(2, depth_multiplier=2)(layers.PReLU()(z)))
    means = [layers.GlobalAveragePooling1D()(y), layers.GlobalMaxPooling2D()(z)]
    return keras.Model([x, image], layers.Dense(3)(layers.Concatenate()(means)))


@model()
def distributed():
    """A model at each step, with a layer whose weights `get_weights()` tears apart; all of it is frozen."""
    own = sequential(layers.Dense(3, input_shape=(4,)), layers.BatchNormalization(), layers.Dense(2))
    made = sequential(layers.TimeDistributed(own, input_shape=(3, 4)), layers.Dense(2, kernel_regularizer="l2"))
    made.trainable = False
    return made


if VERSION >= (2, 17):
    PARTS = tf.train.experimental.MaxShardSizePolicy(max_shard_size=200)

    @model(options=tf.saved_model.SaveOptions(experimental_sharding_callback=PARTS))
    def parts():
        """Arrays that are cut, in many files."""
        return sequential(
            layers.Conv1D(9, 3, input_shape=(6, 5)), layers.LSTM(7), layers.Dense(11, kernel_regularizer="l2")
        )


# -- what is no model of layers ----------------------------------------------------------------------------------------


class Own(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        return self.dense(x)


@other
def subclassed(folder):
    made = Own()
    made(np.zeros((2, 4), "float32"))
    made.save(folder, save_format="tf")


class Doubled(tf.Module):
    def __init__(self):
        super().__init__()
        self.w = tf.Variable([[1.0, 2.0]])

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])
    def __call__(self, x):
        return {"twice": tf.matmul(x, self.w)}


@other
def module(folder):
    made = Doubled()
    tf.saved_model.save(made, folder, signatures={"serving_default": made.__call__})


@other
def builder(folder):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2], name="x")
        w = tf.compat.v1.get_variable("w", [2, 3])
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(session, folder, {"x": x}, {"y": tf.matmul(x, w)})


# -- what Keras computes -----------------------------------------------------------------------------------------------


def fill(made, seed):
    """Gives every weight numbers that no symmetry hides; variances are positive."""
    rng = np.random.RandomState(seed)
    for variable in made.weights:
        if "count" in variable.name:
            continue
        positive = "variance" in variable.name
        values = rng.uniform(0.5, 1.5, variable.shape) if positive else rng.standard_normal(variable.shape) * 0.5
        variable.assign(values.astype("float32"))
    for layer in made.layers:
        if hasattr(layer, "finalize_state"):  # which keeps what it computes of its weights
            layer.finalize_state()


def measured(made):
    """What the tests compare."""
    rng = np.random.RandomState(1)
    arrays = {}
    for name, x in zip(made.input_names, made.inputs):  # noqa: B905  # Python 3.8 has no strict
        shape = (3, *x.shape[1:])
        is_whole = any(isinstance(layer, layers.Embedding) for layer in made.layers)
        arrays[name] = rng.randint(0, 5, shape).astype("int32") if is_whole else rng.standard_normal(shape)
    arrays = {name: each if each.dtype == "int32" else each.astype("float32") for name, each in arrays.items()}
    given = list(arrays.values())
    with tf.GradientTape() as tape:
        outputs = made(given if len(given) > 1 else given[0], training=False)
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        penalty = tf.add_n(made.losses) if made.losses else tf.zeros(())
        objective = penalty + tf.add_n([tf.reduce_mean(tf.square(y)) for y in outputs])
    gradients = tape.gradient(objective, made.trainable_variables) if made.trainable_variables else []
    squares = [np.sum(np.square(tf.convert_to_tensor(g).numpy().astype("float64"))) for g in gradients if g is not None]
    found = {f"input:{name}": array for name, array in arrays.items()}
    found.update((f"output_{index}", y.numpy()) for index, y in enumerate(outputs))
    found.update(penalty=penalty.numpy(), norm=np.sqrt(sum(squares)))
    return found


def pack(folder, name):
    """The archive of a folder, without what nothing reads: the graph, its functions, and what may make it large."""
    path = Path(folder) / "saved_model.pb"
    saved = saved_model_pb2.SavedModel()
    saved.ParseFromString(path.read_bytes())
    for each in saved.meta_graphs:
        each.ClearField("graph_def")
        each.ClearField("collection_def")
        each.meta_info_def.ClearField("stripped_op_list")
        each.object_graph_def.ClearField("concrete_functions")
        for node in each.object_graph_def.nodes:
            if node.HasField("function"):
                node.ClearField("function")
    path.write_bytes(saved.SerializeToString())
    with zipfile.ZipFile(str(FOLDER / f"{name}.zip"), "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(Path(folder).rglob("*")):
            if each.is_file() and each.name != "fingerprint.pb":
                information = zipfile.ZipInfo(str(each.relative_to(folder)))
                information.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(information, each.read_bytes())


def main():
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or [*MODELS, *OTHERS]:
        folder = tempfile.mkdtemp()
        keras.backend.clear_session()
        if name in OTHERS:
            OTHERS[name](str(Path(folder) / "saved"))
        else:
            function, options = MODELS[name]
            made = function()
            fill(made, 1)
            made.save(str(Path(folder) / "saved"), save_format="tf", **options)
            found = measured(made)
            if name == "distributed":
                found.update((f"weight:{index}", v.numpy()) for index, v in enumerate(made.weights))
            np.savez_compressed(str(FOLDER / f"{name}.npz"), **found)
            print(name, found["penalty"], found["norm"])
        pack(Path(folder) / "saved", name)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
