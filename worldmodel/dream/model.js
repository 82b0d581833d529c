// Imagine in this page: the operations of worldmodel/models/operations.py, on Float32Arrays.
// Every operation has memory of its own for its result, which the next call overwrites.
const imagination = (() => {
"use strict";

function bytesOf(text) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

// A tensor as float32: stored so, or as integers with a scale for each of its rows.
function unpacked({ kind, shape, at }, bytes) {
  const count = shape.reduce((product, size) => product * size, 1);
  const stored = (type, from, size) =>
    new type(bytes.slice(from, from + size * type.BYTES_PER_ELEMENT).buffer);
  if (kind === "float32") return stored(Float32Array, at, count);
  const type = { int8: Int8Array, int16: Int16Array }[kind];
  const integers = stored(type, at, count), result = new Float32Array(count);
  const scales = stored(Float32Array, at + integers.byteLength, shape[0]);
  const width = count / shape[0];
  for (let i = 0; i < count; i++) result[i] = integers[i] * scales[i / width | 0];
  return result;
}

// The sum of a[i + k] * b[j + k] over `size` k. Four sums, because each must wait for its last.
function dot(a, i, b, j, size) {
  let first = 0, second = 0, third = 0, fourth = 0, k = 0;
  for (; k + 3 < size; k += 4) {
    first += a[i + k] * b[j + k];
    second += a[i + k + 1] * b[j + k + 1];
    third += a[i + k + 2] * b[j + k + 2];
    fourth += a[i + k + 3] * b[j + k + 3];
  }
  for (; k < size; k++) first += a[i + k] * b[j + k];
  return first + second + (third + fourth);
}

const sigmoid = value => 1 / (1 + Math.exp(-value));

function each(change) {  // an operation on each number
  return () => {
    let result = new Float32Array(0);
    return (...vectors) => {
      if (result.length !== vectors[0].length) result = new Float32Array(vectors[0].length);
      for (let i = 0; i < result.length; i++) result[i] = change(vectors, i);
      return result;
    };
  };
}

function dense({ weight, bias }) {
  const [outputs, inputs] = weight.shape, result = new Float32Array(outputs);
  return x => {
    for (let o = 0; o < outputs; o++) {
      result[o] = dot(x, 0, weight.numbers, o * inputs, inputs) + (bias ? bias.numbers[o] : 0);
    }
    return result;
  };
}

function norm({ weight, bias, epsilon }) {
  const size = weight.shape[0];
  let result = new Float32Array(0);
  return x => {
    if (result.length !== x.length) result = new Float32Array(x.length);
    for (let begin = 0; begin < x.length; begin += size) {
      let mean = 0, variance = 0;
      for (let i = 0; i < size; i++) mean += x[begin + i] / size;
      for (let i = 0; i < size; i++) variance += (x[begin + i] - mean) ** 2 / size;
      const scale = 1 / Math.sqrt(variance + epsilon);
      for (let i = 0; i < size; i++) {
        result[begin + i] = (x[begin + i] - mean) * scale * weight.numbers[i] + bias.numbers[i];
      }
    }
    return result;
  };
}

// A transposed convolution with a stride of two. A pixel of the result is the sum of products with
// those pixels from which a kernel reaches it: every other one of the kernel's rows and columns.
function transposed({ weight, bias, padding }) {
  const [inputs, outputs, size] = weight.shape;
  const kernel = new Float32Array(weight.numbers.length);  // [row, column, output, input]
  for (let c = 0, from = 0; c < inputs; c++) {
    for (let d = 0; d < outputs; d++) {
      for (let k = 0; k < size * size; k++) {
        kernel[(k * outputs + d) * inputs + c] = weight.numbers[from++];
      }
    }
  }
  let result = new Float32Array(0);
  return x => {
    const side = Math.sqrt(x.length / inputs), wide = 2 * side + size - 2 * padding - 2;
    if (result.length !== wide * wide * outputs) result = new Float32Array(wide * wide * outputs);
    for (let down = 0; down < wide; down++) {
      for (let right = 0; right < wide; right++) {
        const to = (down * wide + right) * outputs;
        for (let d = 0; d < outputs; d++) result[to + d] = bias.numbers[d];
        for (let k = (down + padding) % 2; k < size; k += 2) {
          const row = (down + padding - k) / 2;
          if (row < 0 || row >= side) continue;
          for (let l = (right + padding) % 2; l < size; l += 2) {
            const column = (right + padding - l) / 2;
            if (column < 0 || column >= side) continue;
            const from = (row * side + column) * inputs;
            const weights = (k * size + l) * outputs * inputs;
            for (let d = 0; d < outputs; d++) {
              result[to + d] += dot(x, from, kernel, weights + d * inputs, inputs);
            }
          }
        }
      }
    }
    return result;
  };
}

function concat() {
  return (...vectors) => {
    const result = new Float32Array(vectors.reduce((size, vector) => size + vector.length, 0));
    let at = 0;
    for (const vector of vectors) {
      result.set(vector, at);
      at += vector.length;
    }
    return result;
  };
}

// The mean of a histogram over symlog values: each bin against its mirror image.
function twohot({ centers }) {
  const bins = centers.numbers, last = bins.length - 1;
  return logits => {
    const most = Math.max(...logits), weights = Array.from(logits, x => Math.exp(x - most));
    const sum = weights.reduce((a, b) => a + b, 0);
    let mean = 0;
    for (let i = 0; i <= last; i++) mean += (weights[i] - weights[last - i]) / sum * bins[i] / 2;
    return [Math.sign(mean) * Math.expm1(Math.abs(mean))];
  };
}

function choose() {
  return logits => {
    const result = new Float32Array(logits.length);
    result[logits.indexOf(Math.max(...logits))] = 1;
    return result;
  };
}

function toBytes({ mean, scale }) {
  const result = new Uint8ClampedArray(mean.numbers.length);  // it rounds, half to even
  return x => {
    for (let i = 0; i < result.length; i++) result[i] = (x[i] / scale + mean.numbers[i]) * 255;
    return result;
  };
}

// Of each line of `size` numbers those that are shown: the newest images, in colour.
function take({ places, size }) {
  return x => {
    const result = new Uint8Array(x.length / size * places.length);
    for (let line = 0, to = 0; line < x.length; line += size) {
      for (const place of places) result[to++] = x[line + place];
    }
    return result;
  };
}

const OPERATIONS = {
  dense, norm, transposed, concat, twohot, choose, take, bytes: toBytes,
  slice: ({ begin, end }) => x => x.subarray(begin, end),
  shift: ({ by }) => each(([x], i) => x[i] + by)(),
  silu: each(([x], i) => x[i] * sigmoid(x[i])),
  relu: each(([x], i) => Math.max(0, x[i])),
  sigmoid: each(([x], i) => sigmoid(x[i])),
  tanh: each(([x], i) => Math.tanh(x[i])),
  multiply: each(([x, y], i) => x[i] * y[i]),
  lerp: each(([x, y, share], i) => x[i] + share[i] * (y[i] - x[i])),
};

// A list of operations as one function of the vectors that it is given.
function compiled(list, tensors) {
  const steps = list.map(operation => {
    const settings = { ...operation };
    for (const name of ["weight", "bias", "mean", "centers"]) {
      if (name in operation) settings[name] = tensors[operation[name]];
    }
    return { ...operation, run: OPERATIONS[operation.do](settings) };
  });
  return vectors => {
    const values = { ...vectors };
    let result = null;
    for (const { of, to, run } of steps) {
      result = run(...of.map(name => values[name]));
      values[to] = result;
    }
    return result;
  };
}

return given => {
  const { lists, tensors, weights, states } = given.model;
  const bytes = bytesOf(weights);
  const numbers = tensors.map(tensor =>
    ({ shape: tensor.shape, numbers: unpacked(tensor, bytes) }));
  const run = Object.fromEntries(
    Object.entries(lists).map(([name, list]) => [name, compiled(list, numbers)]));
  const row = (state, action) => ({
    state, action,
    image: run.image({ state }),
    ...Object.fromEntries(["reward", "value", "goes_on"].map(name =>
      [name, name in run ? run[name]({ state })[0] : null])),
  });
  return {
    begin: async start => row(new Float32Array(bytesOf(states[start]).buffer),
      new Array(given.actions).fill(0)),
    step: async ({ state }, action) => {
      const done = action ?? Array.from(run.act({ state }));
      return row(run.step({ state, action: done }).slice(), done);
    },
  };
};
})();
if (typeof module !== "undefined") module.exports = { imagination };
