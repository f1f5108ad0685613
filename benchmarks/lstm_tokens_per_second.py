"""Tokens per second in training: what each choice of notebook 09 brings in Keras, against PyTorch's nn.LSTM.

    make bench BENCH=lstm

One layer of 128 units, tied table, dropout, Adam with clipped gradients, about 1,100 tokens per update, on the training
part of tiny Shakespeare (or its stand-in). Streams are long pieces of text side by side, with the state carried from
update to update. All variants run in this one process, one after the other, each with a warm-up that is not counted;
everything is measured twice, in opposite orders, and the faster of both counts. The full softmax, the sampled softmax
and the compiled step are those of the notebook. Compilation by XLA (`jit_compile`) needs fixed shapes, so it is
measured on streams; `tf.nn.sampled_softmax_loss` draws words by an operation that XLA does not have, so there it is
with the full softmax. The ratio goes to logs/benchmarks/lstm_tokens_per_second.json.
"""

import time

import numpy as np
import torch
import torch._dynamo  # before TensorFlow
import torch.nn.functional as F
from torch import nn

from tools.benchmarks import keep
from tools.course import ROOT
from tools.definitions import load_definitions

UNITS, TOKENS, NUM_SAMPLED, NUM_UPDATES, WARM_UP = 128, 1100, 500, 40, 10


def streams(sentences, batch, length):
    """Return a list of arrays (batch, length + 1): neighbors in the list go on with each other, row by row."""
    text = sentences[:, 1:][sentences[:, 1:] != 0]
    columns = (len(text) - 1) // batch
    rows = np.stack([text[i * columns : i * columns + columns + 1] for i in range(batch)])
    return [rows[:, i : i + length + 1] for i in range(0, columns - length, length)]


def batches_of(nb, corpus, shape):
    """Return training batches: of one width each, all padded to the longest sentence, or streams (batch, length)."""
    rng = np.random.default_rng(0)
    if shape == "widths":
        return nb.sentence_batches(corpus.train, TOKENS, False, rng)
    if shape == "padded":
        order, rows = rng.permutation(len(corpus.train)), TOKENS // 9
        return [corpus.train[order[i : i + rows]] for i in range(0, rows * (NUM_UPDATES + WARM_UP), rows)]
    return streams(corpus.train, *shape)


def keras_model(nb, num_words, shape, num_sampled, bfloat16):
    """Return the notebook's model with one layer; it has a mask if padded, and carries its state on streams."""
    layers, rows = nb.layers, shape[0] if isinstance(shape, tuple) else None
    tokens = nb.keras.Input(batch_shape=(rows, None), dtype="int32")
    scale = nb.keras.initializers.RandomNormal(stddev=UNITS**-0.5)
    embedding = layers.Embedding(num_words, UNITS, scale, mask_zero=shape == "padded")
    policy = "mixed_bfloat16" if bfloat16 else "float32"
    lstm = layers.LSTM(UNITS, return_sequences=True, stateful=rows is not None, dtype=policy)
    h = layers.Dropout(0.4)(lstm(layers.Dropout(0.2)(embedding(tokens))))
    return nb.SampledModel(tokens, nb.TiedDense(embedding)(h), num_sampled=num_sampled)


def keras_step(nb, corpus, shape, num_sampled, jit=False, bfloat16=False):
    """Return a function of (tokens, sampled) that makes one update of a Keras model; it draws words by itself."""
    tf, keras = nb.tf, nb.keras
    keras.utils.set_random_seed(0)
    model = keras_model(nb, len(corpus.words), shape, num_sampled, bfloat16)
    variables = model.trainable_variables
    optimizer = keras.optimizers.Adam(4e-3, beta_2=0.99, global_clipnorm=1.0)
    optimizer.build(variables)
    costs_of = nb.sampled_costs if num_sampled else nb.full_costs

    def step(tokens, sampled):
        inputs, targets = nb.inputs_and_targets(tokens, False)
        targets = tf.reshape(targets, [-1])
        with tf.GradientTape() as tape:
            h = tf.reshape(tf.cast(nb.body_of(model)(inputs, training=True), tf.float32), [-1, UNITS])
            if not isinstance(shape, tuple):
                h, targets = tf.boolean_mask(h, targets != nb.PAD), tf.boolean_mask(targets, targets != nb.PAD)
            loss = tf.reduce_mean(costs_of(model, h, targets))
        optimizer.apply([tf.convert_to_tensor(g) for g in tape.gradient(loss, variables)], variables)
        return loss

    if jit:
        return tf.function(step, jit_compile=True, autograph=False)
    signature = [tf.TensorSpec((None, None), tf.int32), tf.TensorSpec((None,), tf.int32)]
    if isinstance(shape, tuple):
        signature[0] = tf.TensorSpec((shape[0], shape[1] + 1), tf.int32)
    return tf.function(step, input_signature=signature, autograph=False)


def word_frequencies(corpus):
    """Return the shares (words,) of the training tokens, none of them 0."""
    counts = np.bincount(corpus.train[:, 1:].ravel(), minlength=len(corpus.words)) + 1e-3
    counts[0] = 1e-3  # padding
    return counts / counts.sum()


def log_expected(corpus):
    """Return the logarithm of how often each word is drawn on average: (words,) float32."""
    return np.log(NUM_SAMPLED * word_frequencies(corpus)).astype(np.float32)


class TorchModel(nn.Module):
    """The same model in PyTorch, around nn.LSTM."""

    def __init__(self, num_words, carried):
        super().__init__()
        self.table, self.bias = nn.Embedding(num_words, UNITS), nn.Parameter(torch.zeros(num_words))
        nn.init.normal_(self.table.weight, std=UNITS**-0.5)
        self.lstm, self.drop = nn.LSTM(UNITS, UNITS, batch_first=True), nn.Dropout(0.4)
        self.carried, self.state = carried, None

    def forward(self, inputs):
        """Return h (n * T, units) for token numbers (n, T)."""
        h, state = self.lstm(self.drop(self.table(inputs.clamp(min=0))), self.state)
        if self.carried:
            self.state = tuple(part.detach() for part in state)
        return self.drop(h).reshape(-1, UNITS)


def torch_step(nb, corpus, shape, num_sampled, bfloat16=False):
    """Return a function of (tokens, sampled) that makes one update of the PyTorch model."""
    torch.manual_seed(0)
    model = TorchModel(len(corpus.words), isinstance(shape, tuple))
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3, betas=(0.9, 0.99), fused=True)
    expected = torch.from_numpy(log_expected(corpus))

    def step(tokens, sampled):
        tokens = torch.from_numpy(np.ascontiguousarray(tokens)).long()
        sampled = torch.from_numpy(sampled).long()
        targets = tokens[:, 1:].reshape(-1)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            h = model(tokens[:, :-1])[targets > 0]
            targets = targets[targets > 0]
            words = model.table(sampled) if num_sampled else model.table.weight
            scores = h @ words.T
        if num_sampled:
            shift = model.bias - expected
            own = (h * model.table(targets)).sum(dim=1) + shift[targets]
            hits = (targets[:, None] == sampled).sum(dim=1)
            others = (scores.float() + shift[sampled]).logsumexp(dim=1)
            loss = (torch.logaddexp(others, own.float()) - own.float() - hits.log1p()).mean()
        else:
            loss = F.cross_entropy(scores.float() + model.bias, targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step


def tokens_per_second(step, batches, frequencies):
    """Return the tokens per second of `step` over NUM_UPDATES updates, after a warm-up on each shape."""
    rng, cumulated = np.random.default_rng(0), np.cumsum(frequencies)
    first_of_shape = list({tokens.shape: tokens for tokens in batches}.values())
    seconds = count = 0
    for number, tokens in enumerate([*first_of_shape, *batches[: WARM_UP + NUM_UPDATES]]):
        sampled = np.searchsorted(cumulated, rng.random(NUM_SAMPLED)).astype(np.int32)
        start = time.perf_counter()
        loss = float(step(tokens, sampled))
        if number >= len(first_of_shape) + WARM_UP:
            seconds, count = seconds + time.perf_counter() - start, count + int((tokens[:, 1:] > 0).sum())
    assert np.isfinite(loss)
    return count / seconds


VARIANTS = {  # name: (library, shape of the batches, words sampled, options)
    "Keras, padded with a mask, full softmax": ("keras", "padded", 0, {}),
    "Keras, streams 32 x 35, full softmax": ("keras", (32, 35), 0, {}),
    "Keras, streams 32 x 35, sampled": ("keras", (32, 35), NUM_SAMPLED, {}),
    "Keras, streams 32 x 35, full softmax, jit_compile": ("keras", (32, 35), 0, {"jit": True}),
    "Keras, streams 64 x 17, sampled": ("keras", (64, 17), NUM_SAMPLED, {}),
    "Keras, streams 16 x 70, sampled": ("keras", (16, 70), NUM_SAMPLED, {}),
    "Keras, streams 64 x 35, sampled": ("keras", (64, 35), NUM_SAMPLED, {}),
    "Keras, one width, full softmax": ("keras", "widths", 0, {}),
    "Keras, one width, sampled (the notebook)": ("keras", "widths", NUM_SAMPLED, {}),
    "Keras, one width, sampled, mixed_bfloat16": ("keras", "widths", NUM_SAMPLED, {"bfloat16": True}),
    "PyTorch, streams 32 x 35, full softmax": ("torch", (32, 35), 0, {}),
    "PyTorch, streams 32 x 35, full softmax, bfloat16": ("torch", (32, 35), 0, {"bfloat16": True}),
    "PyTorch, streams 32 x 35, sampled": ("torch", (32, 35), NUM_SAMPLED, {}),
    "PyTorch, one width, sampled": ("torch", "widths", NUM_SAMPLED, {}),
}


def measure(nb, corpus, name):
    """Return the tokens per second of the variant `name`."""
    library, shape, num_sampled, options = VARIANTS[name]
    if library == "keras":
        step = keras_step(nb, corpus, shape, num_sampled, **options)
    else:
        step = torch_step(nb, corpus, shape, num_sampled, **options)
    return tokens_per_second(step, batches_of(nb, corpus, shape), word_frequencies(corpus))


def main():
    """Measure all variants twice, print them, and write them with the hardware to logs/benchmarks."""
    nb = load_definitions("09")
    corpus = nb.split_corpus(*nb.load_sentences(ROOT / "data" / "text"), 2, 0)
    speeds = dict.fromkeys(VARIANTS, 0.0)
    for names in (list(VARIANTS), list(VARIANTS)[::-1]):
        for name in names:
            speeds[name] = max(speeds[name], measure(nb, corpus, name))
            print(f"{name:50} {speeds[name]:8,.0f} tokens per second", flush=True)
    ours = speeds["Keras, one width, sampled (the notebook)"]
    theirs = max(speed for name, speed in speeds.items() if name.startswith("PyTorch, streams"))
    alike = speeds["PyTorch, one width, sampled"]
    numbers = {
        "ratio": round(ours / speeds["Keras, padded with a mask, full softmax"], 2),
        "ratio_to_torch_on_streams": round(ours / theirs, 2),
        "ratio_to_torch_on_the_same_batches": round(ours / alike, 2),
        "tokens_per_second": {name: round(speed) for name, speed in speeds.items()},
        "units": UNITS,
        "words": len(corpus.words),
        "data": corpus.source,
    }
    path = keep("lstm_tokens_per_second", numbers)
    print(f"\nthe notebook over padded sentences: {numbers['ratio']}; over PyTorch on the same batches", end=" ")
    print(f"{ours / alike:.2f}, on streams {ours / theirs:.2f}    ({path})")


if __name__ == "__main__":
    main()
