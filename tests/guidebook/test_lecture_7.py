"""Lecture 7: recurrent steps and gradients against PyTorch, Jacobians, counts, the grammar, sampling, quiz answers."""

import math
import re

import numpy as np
import pytest
import torch

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of lecture 7, loaded where they cannot touch the repository."""
    return load_definitions("lecture_7", root=tmp_path_factory.mktemp("lecture_7"))


def test_rnn_gradients_by_central_differences(nb):
    """Backpropagation through time agrees with central differences for every parameter."""
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((6, 2)), rng.standard_normal((6, 3))
    parameters = [rng.standard_normal(shape) for shape in [(3, 2), (3, 3), (3,)]]
    ours = nb.rnn_backward(x, nb.rnn_forward(x, *parameters), g, parameters[1])
    for number, array in enumerate(parameters):
        for index in np.ndindex(array.shape):
            losses = []
            for step in (1e-5, -1e-5):
                moved = [a.copy() for a in parameters]
                moved[number][index] += step
                losses.append((nb.rnn_forward(x, *moved)[1:] * g).sum())
            assert (losses[0] - losses[1]) / 2e-5 == pytest.approx(ours[number][index], rel=1e-6, abs=1e-8)


def test_rnn_refuses_other_inputs(nb):
    """Inputs of another width are named."""
    with pytest.raises(ValueError, match="x has shape"):
        nb.rnn_forward(np.zeros((4, 3)), np.zeros((2, 2)), np.zeros((2, 2)), np.zeros(2))


def test_scalar_example(nb):
    """The numbers of the text and of exercise 3."""
    states, gradient = nb.scalar_example()
    assert states == [1, 0.5, 0.25]
    assert gradient == 0.25
    assert nb.scalar_example(1.1, [1.0] + [0.0] * 49)[1] == pytest.approx(49 * 1.1**97)


@pytest.mark.parametrize("rho", [0.5, 1.0, 1.2])
def test_linear_norms_are_exact_powers(nb, rho):
    """The recurrence with an orthogonal matrix has the norms rho ** lag, and the tanh network stays below them."""
    q = nb.orthogonal(7, 3)
    assert np.allclose(q @ q.T, np.eye(7))
    lags = np.arange(21.0)
    assert np.allclose(nb.linear_norms(rho, 20), rho**lags)
    assert (nb.tanh_norms(rho, 20) <= rho**lags * (1 + 1e-9)).all()


def test_lstm_step_equals_pytorch_over_a_sequence(nb):
    """Ten steps of the NumPy cell give PyTorch's states."""
    torch.manual_seed(0)
    cell = torch.nn.LSTMCell(2, 3, dtype=torch.float64).requires_grad_(False)
    W, U, b = cell.weight_ih.numpy(), cell.weight_hh.numpy(), (cell.bias_ih + cell.bias_hh).numpy()
    h, c = np.zeros(3), np.zeros(3)
    state = (torch.zeros(1, 3, dtype=torch.float64),) * 2
    for x in np.random.default_rng(1).standard_normal((10, 2)):
        h, c, gates = nb.lstm_step(x, h, c, W, U, b)
        state = cell(torch.tensor(x)[None], state)
    assert np.allclose(h, state[0].numpy()[0])
    assert np.allclose(c, state[1].numpy()[0])
    assert all(0 < gates[name].min() <= gates[name].max() < 1 for name in "ifo")


def test_lstm_norms_start_at_one_and_fade_with_closed_gates(nb):
    """Forget gates that are almost closed leave nothing after a few steps."""
    norms = nb.lstm_norms(-8.0, num_lags=5, n=4)
    assert norms[0] == 1
    assert norms[-1] < 1e-3


def test_latch(nb):
    """The unit keeps what the flag stored; exercise 2's figures hold."""
    steps = nb.run_latch(nb.VALUES, nb.FLAGS)
    assert [round(step["c"], 1) for step in steps] == [0.8, 0.8, 0.8, 0.8, -0.8, -0.8]
    long = nb.run_latch([0.5] + [0] * 200, [1] + [0] * 200)
    assert long[-1]["c"] == pytest.approx(0.463, abs=0.002)
    assert nb.sigma(np.array(3.0)) ** 200 < 1e-4


def test_parameter_counts(nb):
    """The six numbers of the specification; another kind is refused."""
    for kind, one, two in [("RNN", 91_392, 91_648), ("GRU", 274_176, 274_944), ("LSTM", 365_568, 366_592)]:
        assert nb.recurrent_parameters(kind, 100, 256) == one
        assert nb.recurrent_parameters(kind, 100, 256, biases=2) == two
        assert nb.count_parameters(getattr(torch.nn, kind)(100, 256)) == two
    with pytest.raises(ValueError, match="kind"):
        nb.recurrent_parameters("CNN", 1, 1)


def test_default_norms_start_at_one_and_fade(nb):
    """A tanh network with PyTorch's default weights forgets faster than an LSTM with the same."""
    plain, gated = nb.default_norms(30, seed=2), nb.lstm_norms(0.0, num_lags=30, seed=2)
    assert plain[0] == gated[0] == 1
    assert plain[-1] < 0.01 * gated[-1] < 0.01


def test_memory_network(nb):
    """The bias reaches the gate that keeps the state; other blocks stay as they are; scores have four columns."""
    for kind, blocks in (("LSTM", 4), ("GRU", 3)):
        torch.manual_seed(0)
        plain = nb.MemoryNetwork(kind).layer.bias_ih_l0.detach()
        torch.manual_seed(0)
        raised = nb.MemoryNetwork(kind, keeps=True).layer.bias_ih_l0.detach()
        moved = (raised - plain).reshape(blocks, 32).mean(dim=1)
        assert moved.tolist() == pytest.approx([3.0 if block == 1 else 0.0 for block in range(blocks)], abs=1e-6)
    model, plain = nb.MemoryNetwork("RNN", keeps=True), nb.MemoryNetwork("RNN")
    W = model.layer.weight_hh_l0.detach()
    assert torch.allclose(W @ W.T, torch.eye(32), atol=1e-5)
    assert plain.layer.weight_hh_l0.abs().max() <= 32**-0.5
    assert model(torch.zeros(5, 7, dtype=torch.long)).shape == (5, 4)


def test_clipping(nb):
    """Long gradients are shortened together, short ones and zeros stay, a bad threshold is refused."""
    arrays = [np.array([3.0]), np.array([[4.0]])]
    assert np.allclose(np.concatenate([a.ravel() for a in nb.clipped(arrays, 1.0)]), [0.6, 0.8])
    assert nb.clipped(arrays, 10.0)[0] == 3
    assert nb.clipped([np.zeros(2)], 1.0)[0].tolist() == [0, 0]
    with pytest.raises(ValueError, match="threshold"):
        nb.clipped(arrays, 0)


def test_teacher_forcing_and_inference_agree_when_all_is_right(nb):
    """Fed with its own outputs the decoder repeats itself; the shown target is one step late."""
    target = torch.tensor([[1, 2, 3]])
    assert nb.shown_to_decoder(target).tolist() == [[6, 1, 2]]
    model = nb.ReversingSeq2Seq()
    written = model.generate(target)
    assert torch.equal(model(target, nb.shown_to_decoder(written)).argmax(-1), written)
    assert nb.as_letters([0, 6]) == ["a", "start"]


def test_grammar(nb):
    """Sentences agree in number, all words are known, and the log-probability is that of an exact count."""
    text, log_p = nb.grammar_text(200, seed=3)
    assert set(text) <= set(nb.CHARACTERS)
    assert nb.known_words(text) == 1
    total = 0.0
    for sentence in text.strip().split(". "):
        words = sentence.rstrip(".").split()
        verb = next(index for index, word in enumerate(words) if word.removesuffix("s") in nb.VERBS)
        assert words[verb - 1].endswith("s") != words[verb].endswith("s")
        adjectives = sum(word in nb.ADJECTIVES for word in words)
        total += 2 * math.log(0.5**3 / 5) - adjectives * math.log(3) - math.log(4)
    assert log_p == pytest.approx(total)


def test_character_model_and_sampling(nb):
    """An untrained model is about as uncertain as a die; texts and temperatures that make no sense are refused."""
    torch.manual_seed(0)
    model = nb.CharacterModel()
    assert nb.text_perplexity(model, "the cat sees a dog. ") == pytest.approx(len(nb.CHARACTERS), rel=0.2)
    assert len(nb.sample_text(model, 1.0, 30)) == 30
    assert nb.sample_text(model, 1.0, 30, seed=5) == nb.sample_text(model, 1.0, 30, seed=5)
    assert "<pre>" in nb.sample_as_html(model, 0.5, reverse=True)
    with pytest.raises(ValueError, match="temperature"):
        nb.sample_text(model, 0.0)
    with pytest.raises(ValueError, match="unknown"):
        nb.encoded("Ünknown")


def gru(x, h, W, U, b_x, b_h, old=None):
    """Return the right new state, or with `old` another mix of old state and candidate."""
    a, d = np.split(W @ x + b_x, 3), np.split(U @ h + b_h, 3)
    r, u = (1 / (1 + np.exp(-a[i] - d[i])) for i in (0, 1))
    candidate = np.tanh(a[2] + r * d[2])
    return u * h + (1 - u) * candidate if old is None else old(u, h, candidate)


@pytest.mark.parametrize(
    ("check", "answer", "said"),
    [
        ("check_gru_step", lambda *arrays: None, "not yet: .*nothing"),
        ("check_gru_step", lambda *arrays: 1 / 0, "not yet: it raises"),
        ("check_gru_step", lambda *a: gru(*a, old=lambda u, h, n: (1 - u) * h + u * n), "not yet: u is the share"),
        ("check_gru_step", lambda *a: gru(*a, old=lambda u, h, n: n), "not yet: that is the candidate"),
        ("check_gru_step", lambda *a: gru(*a)[:2], "not yet: the shape"),
        ("check_gru_step", lambda *a: gru(*a) + 0.1, "not yet: PyTorch"),
        ("check_gru_step", gru, "right"),
        ("check_perplexity", lambda p: None, "not yet: .*nothing"),
        ("check_perplexity", lambda p: 1 / 0, "not yet: it raises"),
        ("check_perplexity", lambda p: np.exp(np.log(p).mean()), "not yet: the sign"),
        ("check_perplexity", lambda p: -np.log(p).mean(), "not yet: that is the mean"),
        ("check_perplexity", lambda p: np.exp(-np.log(p).sum()), "not yet: take the mean"),
        ("check_perplexity", lambda p: 1 / p.mean(), "not yet: average the logarithms, not the prob"),
        ("check_perplexity", lambda p: np.exp(-np.log2(p).mean()), "not yet"),
        ("check_perplexity", lambda p: np.exp(-np.log(p).sum() / 5), "not yet: guessing"),
        ("check_perplexity", lambda p: 2 ** (-np.log2(p).mean()), "right"),
        ("check_perplexity", lambda p: np.prod(p) ** (-1 / len(p)), "right"),
    ],
)
def test_your_turn(nb, capsys, check, answer, said):
    """Each check prints one line: a hint for a typical wrong answer, `right` for a correct one."""
    getattr(nb, check)(answer)
    line = capsys.readouterr().out.strip()
    assert re.match(said, line), line
    assert "\n" not in line
