"""Lecture 9: attention, blocks and the GPT against PyTorch, masks, order, decoding, byte pairs, the exercises."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of lecture 9, loaded where they cannot touch the repository."""
    return load_definitions("lecture_9", root=tmp_path_factory.mktemp("lecture_9"))


def test_softmax_rows(nb):
    """Rows sum to 1, large scores do not overflow, and a row without an allowed key is refused."""
    weights = nb.softmax_rows(np.array([[1000.0, 999.0], [0.0, -np.inf]]))
    assert np.allclose(weights, [[1 / (1 + math.exp(-1)), 1 / (1 + math.e)], [1, 0]])
    with pytest.raises(ValueError, match="mask"):
        nb.softmax_rows(np.full((1, 3), -np.inf))


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_attention_equals_pytorch(nb, batch):
    """Attention agrees with PyTorch's for any leading dimensions, with and without a mask; weights sum to 1."""
    rng = np.random.default_rng(0)
    Q, K, V = (rng.standard_normal((*batch, *shape)) for shape in [(4, 6), (5, 6), (5, 2)])
    mask = rng.random((4, 5)) < 0.5
    mask[:, 2] = True
    for allowed in (None, mask):
        output, weights = nb.attend(Q, K, V, allowed)
        theirs = F.scaled_dot_product_attention(
            torch.tensor(Q), torch.tensor(K), torch.tensor(V), None if allowed is None else torch.tensor(allowed)
        )
        assert np.allclose(output, theirs.numpy(), atol=1e-12)
        assert np.allclose(weights.sum(-1), 1)


def test_attention_refuses_shapes_that_do_not_fit(nb):
    """Queries and keys of different length, or keys and values of different number, are named."""
    for shapes in [((2, 3), (4, 5), (4, 2)), ((2, 3), (4, 3), (5, 2))]:
        with pytest.raises(ValueError, match="d_k"):
            nb.attend(*(np.zeros(shape) for shape in shapes))


@pytest.mark.parametrize("heads", [1, 2, 8])
@pytest.mark.parametrize("causal", [False, True])
def test_block_equals_pytorch(nb, heads, causal):
    """The block in NumPy gives PyTorch's output for each number of heads; its shapes are those of the drawing."""
    torch.manual_seed(heads)
    layer = torch.nn.TransformerEncoderLayer(16, heads, 24, dropout=0.0, batch_first=True, dtype=torch.float64)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = np.random.default_rng(0).standard_normal((5, 16))
    mask = nb.causal_mask(5) if causal else None
    y, steps = nb.encoder_block(x, {name: t.numpy() for name, t in layer.state_dict().items()}, heads, mask)
    theirs = layer(torch.tensor(x)[None], src_mask=torch.tensor(~mask) if causal else None)[0]
    assert np.allclose(y, theirs.detach().numpy(), atol=1e-10)
    assert steps["weights"].shape == (heads, 5, 5)
    assert steps["Q, K, V"].shape == (heads, 5, 16 // heads)


def test_heads_must_divide_the_width(nb):
    """Another number of heads is refused, and the parts put together are the whole again."""
    x = np.arange(24.0).reshape(3, 8)
    assert np.array_equal(np.concatenate(list(nb.in_heads(x, 4)), axis=1), x)
    for heads in (0, 3):
        with pytest.raises(ValueError, match="heads"):
            nb.in_heads(x, heads)


def test_parameter_count_of_a_block(nb):
    """12 d^2 + 13 d for a feed-forward width of 4 d, whatever the heads."""
    for d, heads in [(8, 2), (16, 4)]:
        assert nb.count_parameters(torch.nn.TransformerEncoderLayer(d, heads, 4 * d)) == 12 * d * d + 13 * d
    assert nb.count_parameters(torch.nn.TransformerDecoderLayer(64, 4, 256)) == 66_752


def test_four_tokens(nb):
    """The tokens look where the hand-made rules send them."""
    _, weights = nb.attend(nb.X_TOKENS @ nb.W_Q, nb.X_TOKENS @ nb.W_K, nb.X_TOKENS @ nb.W_V)
    assert weights[1].argmax() == weights[3].argmax() == 2
    assert set(np.argsort(weights[2])[-2:]) == {1, 3}


def test_position_code(nb):
    """Dot products depend on the offset only; the first row is 0, 1, 0, 1; an odd width is refused."""
    code = nb.position_code(20, 12)
    assert np.allclose(code[0], [0, 1] * 6)
    assert code[3, 0] == pytest.approx(math.sin(3))
    similarity = code @ code.T
    for offset in range(20):
        assert np.ptp(np.diagonal(similarity, offset)) < 1e-12
    with pytest.raises(ValueError, match="even"):
        nb.position_code(4, 5)


def test_shuffling(nb):
    """Plain attention is equivariant to rounding; with a code or a causal mask it is not."""
    rng = np.random.default_rng(3)
    x, matrices, order = rng.standard_normal((8, 6)), rng.standard_normal((3, 6, 6)), rng.permutation(8)
    assert nb.shuffle_error(x, matrices, order) < 1e-12
    assert nb.shuffle_error(x, matrices, order, code=nb.position_code(8, 6)) > 0.01
    assert nb.shuffle_error(x, matrices, order, mask=nb.causal_mask(8)) > 0.01
    assert nb.shuffle_error(x, matrices, np.arange(8), mask=nb.causal_mask(8)) == 0


def test_order_masks(nb):
    """The natural order gives the strict causal mask; each pair sees one way; no permutation is an error."""
    assert np.array_equal(nb.order_mask(range(4)), np.tril(np.ones((4, 4), bool), -1))
    mask = nb.order_mask([2, 0, 3, 1])
    assert mask[3].tolist() == [True, False, True, False]
    assert np.array_equal(mask ^ mask.T, ~np.eye(4, dtype=bool))
    with pytest.raises(ValueError, match="permutation"):
        nb.order_mask([0, 0, 1])


def test_beams(nb):
    """Greedy misses the best of the hand-made model, a beam of 2 finds it; a beam that keeps all is exact."""
    log_p = nb.hand_made_model()
    assert nb.beam_search(log_p, 2, 1)[0] == (0, 0)
    assert nb.beam_search(log_p, 2, 2)[0] == nb.best_sequence(log_p, 2)[0] == (1, 0)
    for seed in range(5):
        random = nb.random_model(3, seed)
        assert np.allclose(np.exp(random).sum(-1), 1)
        tokens, total = nb.beam_search(random, 4, 81)
        assert (tokens, pytest.approx(total)) == nb.best_sequence(random, 4)
    with pytest.raises(ValueError, match="width"):
        nb.beam_search(log_p, 2, 0)


def test_reverser_and_its_slider(nb, monkeypatch):
    """A short training records the moments it passes, and the callback draws one of them."""
    monkeypatch.setattr(nb, "SNAPSHOTS", [0, 3])
    model, history = nb.train_reverser(0, num_steps=3)
    assert [step for step, *_ in history] == [0, 3]
    assert np.allclose(history[-1][2].sum(axis=1), 1, atol=1e-5)
    blind = nb.OneHeadReverser(positions=False)
    symbols = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8]])
    assert torch.allclose(blind(symbols.flip(1))[0], blind(symbols)[0].flip(1), atol=1e-6)
    assert model(symbols)[0].shape == (1, 8, 10)
    assert nb.png_of(nb.draw_maps_over_time(history, [3])).startswith(b"\x89PNG")


@pytest.mark.parametrize("heads", [1, 4])
def test_gpt_block_equals_pytorch(nb, heads):
    """Outputs and all gradients agree with a pre-norm layer of PyTorch under a causal mask."""
    torch.manual_seed(heads)
    ours = nb.GPTBlock(16, heads).double()
    theirs = nb.as_pytorch_layer(ours)
    x = torch.randn(2, 6, 16, dtype=torch.float64)
    out_ours, out_theirs = ours(x), theirs(x, src_mask=torch.ones(6, 6, dtype=torch.bool).triu(1))
    assert torch.allclose(out_ours, out_theirs, atol=1e-12)
    for out in (out_ours, out_theirs):
        out.square().sum().backward()
    names = {name.replace("self_attn.in_proj_", "project."): p for name, p in theirs.named_parameters()}
    for name, parameter in ours.named_parameters():
        part, kind = name.split(".")
        other = names[f"project.{kind}"] if part == "project" else names[nb.THEIR_NAMES[part] + kind]
        assert torch.allclose(parameter.grad, other.grad, atol=1e-10)


def test_gpt_sees_only_the_past(nb):
    """A later token changes no earlier score, and an earlier one changes later scores."""
    torch.manual_seed(0)
    model = nb.SmallGPT(11, context=12, d=16, heads=2, num_blocks=2)
    tokens = torch.randint(11, (3, 12))
    later, earlier = tokens.clone(), tokens.clone()
    later[:, 8] = (later[:, 8] + 1) % 11
    earlier[:, 0] = (earlier[:, 0] + 1) % 11
    with torch.no_grad():
        scores = model(tokens)
        assert torch.allclose(scores[:, :8], model(later)[:, :8])
        assert not torch.allclose(scores[:, 11], model(earlier)[:, 11])


def test_windows(nb):
    """Targets are the inputs, one place on; all windows lie inside the text."""
    inputs, targets = nb.windows(torch.arange(30), 200, 8, torch.Generator().manual_seed(0))
    assert torch.equal(inputs + 1, targets)
    assert inputs.min() == 0
    assert targets.max() == 29


def test_one_masked_layer_takes_its_past_for_a_bag(nb):
    """The last output does not depend on the order of the others with one layer, and does with two."""
    rng = np.random.default_rng(4)
    x, matrices = rng.standard_normal((7, 4)), rng.standard_normal((3, 4, 4))
    new = x[[3, 0, 5, 2, 4, 1, 6]]
    change = [np.abs(nb.last_output(x, matrices, n) - nb.last_output(new, matrices, n)).max() for n in (1, 2)]
    assert change[0] < 1e-12
    assert change[1] > 1e-3


def test_loss_by_position(nb):
    """One number for each position; the same characters are asked for, with a longer past each time."""
    torch.manual_seed(0)
    model, data = nb.SmallGPT(7, context=9, d=8, heads=2, num_blocks=1), torch.randint(7, (300,))
    losses = nb.loss_by_position(model, data, 50)
    assert losses.shape == (9,)
    with torch.no_grad():
        log_p = [model(data[None, start : start + 4])[0, 3].log_softmax(0) for start in range(50)]
    assert losses[3] == pytest.approx(np.mean([-p[data[n + 4]] for n, p in enumerate(log_p)]), abs=1e-5)


def test_training_operations(nb):
    """The published 3.1e23 operations of GPT-3 come out."""
    assert nb.training_operations(175e9, 300e9) == pytest.approx(3.14e23, rel=0.01)


def test_gpt_learns(nb):
    """A text that repeats itself is learned by heart in a short training."""
    torch.manual_seed(0)
    data = torch.tensor([0, 1, 2, 3, 4] * 60)
    model = nb.SmallGPT(5, context=10, d=16, heads=2, num_blocks=1)
    before = nb.validation_loss(model, data)
    nb.train_gpt(model, data, 0, 60, batch_size=8)
    assert nb.validation_loss(model, data) < 0.3 * before


def test_stand_in_for_the_text(nb, tmp_path, monkeypatch):
    """Without data and network the text is the documentation of Python."""
    monkeypatch.setattr(nb.pooch, "retrieve", lambda *a, **k: (_ for _ in ()).throw(OSError("no network")))
    text, source = nb.read_plays(tmp_path)
    assert "Python" in source
    assert len(text) > 100_000


def test_exact_search(nb):
    """The exact search agrees with trying all outputs up to a length that is long enough."""
    for seed in range(4):
        log_p = nb.with_end(nb.random_model(2, seed), seed)
        assert np.allclose(np.exp(log_p).sum(-1), 1)
        scores = {}
        for length in range(7):
            for tokens in itertools.product(range(2), repeat=length):
                padded = (2, 2, *tokens, 2)
                scores[(*tokens, 2)] = sum(log_p[padded[i : i + 3]] for i in range(length + 1))
        best = nb.most_probable(log_p)
        assert len(best) <= 7
        assert best == max(scores, key=scores.get)
        assert nb.beam_to_the_end(log_p, 200, max_length=60) == best


def test_byte_pairs(nb):
    """The merges of the example by hand; encoding loses nothing; a pair is merged from left to right."""
    merges = nb.learn_merges("low lower lowest", 2)
    assert merges == [(b"l", b"o"), (b"lo", b"w")]
    assert nb.encode_bytes("lower", merges) == [b"low", b"e", b"r"]
    assert nb.joined((b"a", b"a", b"a"), (b"a", b"a")) == (b"aa", b"a")
    for text in ("naïve 東京 ok?\n\n  two  blanks\t", "low_low  ", ""):
        assert b"".join(nb.encode_bytes(text, merges)).decode() == text


def said(capsys, check, function):
    """Return what `check` prints about `function`: one line."""
    capsys.readouterr()
    check(function)
    (line,) = capsys.readouterr().out.splitlines()
    return line


def softmax(scores, axis=-1):
    """Return the softmax over an axis."""
    e = np.exp(scores - scores.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def test_check_masked_weights(nb, capsys):
    """The check knows the stub, typical mistakes and the right answer."""

    def right(s):
        return softmax(np.where(np.tril(np.ones(s.shape, bool)), s, -np.inf))

    assert said(capsys, nb.check_masked_weights, right).startswith("right: ")
    wrong = [
        (lambda s: None, "nothing"),
        (lambda s: s @ np.ones(2), "ValueError"),
        (softmax, "no mask"),
        (lambda s: np.tril(softmax(s)), "sum to 1"),
        (lambda s: softmax(np.tril(s)), "not −∞"),
        (lambda s: softmax(np.where(np.triu(np.ones(s.shape, bool)), s, -np.inf)), "the past"),
        (lambda s: np.tril(np.exp(s)) / np.tril(np.exp(s)).sum(1, keepdims=True), "overflow"),
    ]
    for function, hint in wrong:
        with np.errstate(all="ignore"):
            line = said(capsys, nb.check_masked_weights, function)
        assert line.startswith("not yet: ")
        assert hint in line


def test_check_top_k(nb, capsys):
    """The check knows the stub, typical mistakes and the right answer."""

    def right(s, k, t):
        return softmax(np.where(s >= np.sort(s)[-k], s / t, -np.inf))

    assert said(capsys, nb.check_top_k, right).startswith("right: ")
    wrong = [
        (lambda s, k, t: None, "nothing"),
        (lambda s, k, t: softmax(s / t), "keep the k"),
        (lambda s, k, t: np.where(s >= np.sort(s)[-k], softmax(s / t), 0), "sum to 1"),
        (lambda s, k, t: right(s, k, 1.0), "temperature does nothing"),
        (lambda s, k, t: right(s, k, 1 / t), "do not multiply"),
        (lambda s, k, t: right(-s, k, -t), "smallest"),
        (lambda s, k, t: right(s, 2, t), "k says how many"),
        (lambda s, k, t: right(s, k + 1, t), "expected"),
    ]
    for function, hint in wrong:
        line = said(capsys, nb.check_top_k, function)
        assert line.startswith("not yet: ")
        assert hint in line


def test_the_reverser_knows_its_positions_only(nb):
    """Exercise 5: with the code of positions 100 to 107 a trained model does not reverse."""
    model, history = nb.train_reverser(0)
    assert history[-1][1] > 0.95
    model.code = torch.tensor(nb.position_code(108, 32)[100:], dtype=torch.float32)
    assert nb.test_reverser(model)[0] < 0.5
