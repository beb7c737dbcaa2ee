// Makes the models of TensorFlow.js that `tests/test_port_tfjs.py` ports, and what it computes with them.
//
// Run by hand; the tests need none of it:
//
//     npm install @tensorflow/tfjs-core @tensorflow/tfjs-layers @tensorflow/tfjs-backend-cpu
//     node tests/tfjs/make.js
//
// For each model it writes `<model>/model.json`, `<model>/weights.bin`, and `<model>/expected.json` with inputs and outputs.
const fs = require("fs"), path = require("path");
const tf = { ...require("@tensorflow/tfjs-core"), ...require("@tensorflow/tfjs-layers") };
require("@tensorflow/tfjs-backend-cpu");

const models = {
  // as Teachable Machine nests them
  teachable() {
    const image = tf.input({ shape: [9, 8, 3] });
    let x = tf.layers.conv2d({ filters: 4, kernelSize: 3, strides: 2, padding: "same", useBias: false, name: "Conv1" }).apply(image);
    x = tf.layers.batchNormalization({ name: "bn_Conv1", momentum: 0.999 }).apply(x);
    x = tf.layers.reLU({ maxValue: 6, name: "Conv1_relu" }).apply(x);
    x = tf.layers.depthwiseConv2d({ kernelSize: [2, 3], padding: "same", useBias: false, name: "expanded_conv_depthwise" }).apply(x);
    const mobile = tf.model({ inputs: image, outputs: x });
    const features = tf.sequential({ layers: [mobile, tf.layers.globalAveragePooling2d({})] });
    const head = tf.sequential({
      layers: [
        tf.layers.dense({ inputShape: [4], units: 5, activation: "relu", kernelInitializer: "varianceScaling" }),
        tf.layers.dense({ units: 2, useBias: false, activation: "softmax", kernelInitializer: "varianceScaling" }),
      ],
    });
    return tf.sequential({ layers: [features, head] });
  },
  recurrent() {
    const tokens = tf.input({ shape: [7], dtype: "int32", name: "tokens" });
    let x = tf.layers.embedding({ inputDim: 11, outputDim: 6, maskZero: false }).apply(tokens);
    x = tf.layers.bidirectional({ layer: tf.layers.lstm({ units: 4, returnSequences: true, recurrentInitializer: "glorotUniform", kernelRegularizer: tf.regularizers.l2({ l2: 0.1 }) }), mergeMode: "concat" }).apply(x);
    x = tf.layers.timeDistributed({ layer: tf.layers.dense({ units: 3 }) }).apply(x);
    x = tf.layers.gru({ units: 4, returnSequences: true, recurrentActivation: "hardSigmoid", recurrentInitializer: "glorotUniform" }).apply(x);
    x = tf.layers.simpleRNN({ units: 3, returnSequences: true, recurrentInitializer: "glorotUniform" }).apply(x);
    x = tf.layers.rnn({ cell: [tf.layers.lstmCell({ units: 3, recurrentInitializer: "glorotUniform" }), tf.layers.gruCell({ units: 2, recurrentInitializer: "glorotUniform" })] }).apply(x);
    return tf.model({ inputs: tokens, outputs: tf.layers.dense({ units: 2 }).apply(x) });
  },
  branches() {
    const image = tf.input({ shape: [6, 5, 2] });
    const a = tf.layers.separableConv2d({ filters: 3, kernelSize: [2, 3], depthwiseRegularizer: tf.regularizers.l1({ l1: 0.2 }) }).apply(image);
    const b = tf.layers.conv2d({ filters: 3, kernelSize: [2, 3], activation: "elu", kernelRegularizer: tf.regularizers.l1l2({ l1: 0.1, l2: 0.3 }) }).apply(image);
    let x = tf.layers.concatenate({}).apply([tf.layers.batchNormalization({ scale: false }).apply(a), tf.layers.leakyReLU({}).apply(b)]);
    x = tf.layers.dropout({ rate: 0.2 }).apply(tf.layers.maxPooling2d({ poolSize: 2 }).apply(x));
    x = tf.layers.layerNormalization({}).apply(tf.layers.flatten({}).apply(x));
    const y = tf.layers.prelu({}).apply(tf.layers.dense({ units: 4, activation: "hardSigmoid", trainable: false, biasRegularizer: "l1l2" }).apply(x));
    return tf.model({ inputs: image, outputs: [y, tf.layers.dense({ units: 3 }).apply(x)] });
  },
};

// numbers that no symmetry hides; variances are positive
function filled(shape, number, isPositive) {
  const size = shape.reduce((a, b) => a * b, 1);
  const values = Float32Array.from({ length: size }, (_, i) => Math.sin(1.7 * i + 0.9 * number + 0.1 * i * number));
  return tf.tensor(isPositive ? values.map((x) => 1 + x / 2) : values.map((x) => x / 2), shape);
}

async function main() {
  await tf.setBackend("cpu");
  for (const [name, make] of Object.entries(models)) {
    const model = make();
    model.setWeights(model.weights.map((w, i) => filled(w.shape, i, w.name.includes("variance"))));
    const xs = model.inputs.map((x, i) => {
      const shape = [3, ...x.shape.slice(1)];
      return x.dtype === "int32" ? tf.tensor(Array.from({ length: 21 }, (_, k) => (5 * k + i) % 11), shape, "int32") : filled(shape, 50 + i);
    });
    const ys = [model.predict(xs.length > 1 ? xs : xs[0])].flat();
    const folder = path.join(__dirname, name);
    fs.mkdirSync(folder, { recursive: true });
    await model.save(tf.io.withSaveHandler(async (made) => {
      const manifest = [{ paths: ["./weights.bin"], weights: made.weightSpecs }];
      const { modelTopology, format, generatedBy, convertedBy } = made;
      fs.writeFileSync(path.join(folder, "model.json"), JSON.stringify({ modelTopology, format, generatedBy, convertedBy, weightsManifest: manifest }) + "\n");
      fs.writeFileSync(path.join(folder, "weights.bin"), Buffer.from(tf.io.CompositeArrayBuffer ? tf.io.CompositeArrayBuffer.join(made.weightData) : made.weightData));
    }));
    const plain = (x) => ({ shape: x.shape, dtype: x.dtype, values: Array.from(x.dataSync()) });
    fs.writeFileSync(path.join(folder, "expected.json"), JSON.stringify({ inputs: xs.map(plain), outputs: ys.map(plain) }) + "\n");
    console.log(name, ys.map((y) => y.shape));
  }
}
main();
