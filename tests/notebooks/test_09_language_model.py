"""Notebook 09: the two proofs about direction, the exact grammar, counting models, training, sampling, callbacks."""

import hashlib
import math
from pathlib import Path

import numpy as np
import pytest
import requests

from tools.definitions import load_definitions


@pytest.fixture(scope="module")
def nb(tmp_path_factory):
    """Return the definitions of notebook 09, loaded where they cannot touch the repository."""
    return load_definitions("09", root=tmp_path_factory.mktemp("notebook_09"))


@pytest.fixture(scope="module")
def grammar(nb):
    """Return a small corpus drawn from the grammar."""
    return nb.split_corpus(nb.draw_corpus(1200, 0), "grammar", 1, 0)


@pytest.fixture(scope="module")
def speakers(nb, grammar):
    """Return untrained speakers of both directions."""
    result = {}
    for name, reverse in (("forward", False), ("reverse", True)):
        nb.keras.utils.set_random_seed(1)
        model = nb.LanguageModel(len(grammar.vocabulary), 12, reverse=reverse)
        model.build()
        result[name] = (model, grammar.vocabulary)
    return result


# The two proofs.


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_reverse_equals_plain_on_reversed_text(nb, grammar, num_layers):
    """With equal weights, padding and masks, each token has the same loss; nothing but padding has loss 0."""
    ours, theirs = nb.twin_losses(num_layers, grammar.train[:40], len(grammar.vocabulary))
    assert np.allclose(ours, theirs, atol=1e-5)
    assert (ours != 0).sum() == nb.count_tokens(grammar.train[:40])
    assert len({len(sentence) for sentence in grammar.train[:40]}) > 3, "no padding was tested"


def test_the_mask_must_turn(nb, grammar, monkeypatch):
    """The proof fails, as it should, where the second layer gets the mask in the wrong order."""
    monkeypatch.setattr(nb.ops, "flip", lambda x, axis: x if "bool" in str(x.dtype) else nb.tf.reverse(x, [axis]))
    ours, theirs = nb.twin_losses(2, grammar.train[:40], len(grammar.vocabulary))
    assert not np.allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_no_prediction_sees_what_it_must_not_see(nb, num_layers, reverse):
    """Replacing a word moves no prediction on the forbidden side, and each prediction on the other side."""
    nb.keras.utils.set_random_seed(0)
    model = nb.LanguageModel(30, 16, num_layers, reverse)
    model.build()
    moved = nb.influence(model) > nb.ROUNDING
    allowed = np.triu(np.ones_like(moved)) if reverse else np.tril(np.ones_like(moved))
    assert np.array_equal(moved, allowed.astype(bool))


def test_wrong_models_are_found(nb):
    """The perturbation shows a leak in a model without the flip and in one with two backward layers."""
    for kind in (nb.WithoutFlip, nb.BothBackward):
        nb.keras.utils.set_random_seed(0)
        model = kind(30, 16, 2, True)
        model.build()
        assert np.tril(nb.influence(model), -1).max() > 1e-3


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_read_last_needs_no_mask(nb, grammar, reverse):
    """The total of each sentence is the same alone, padded with a mask, and padded on the right side without."""
    nb.keras.utils.set_random_seed(0)
    model = nb.LanguageModel(len(grammar.vocabulary), 16, 2, reverse)
    model.build()
    alone = [float(np.sum(nb.log_probabilities(model, s[None]))) for s in grammar.train[:8]]
    masked = np.array(nb.log_probabilities(model, nb.padded(grammar.train[:8], left=not reverse), masked=True))
    unmasked = np.array(nb.log_probabilities(model, nb.padded(grammar.train[:8], left=reverse, width=20)))
    assert np.allclose(alone, masked.sum(axis=1), atol=1e-4)
    assert np.allclose(alone, unmasked.sum(axis=1), atol=1e-4)
    assert np.allclose(alone, nb.sentence_log_probabilities(model, grammar.train[:8], 50), atol=1e-4)


# The grammar.


def test_grammar_is_a_distribution_with_the_exact_entropy(nb):
    """Probabilities sum to 1 in each rule and over the language; the closed forms equal the sums."""
    for alternatives in nb.GRAMMAR.values():
        assert sum(alternatives.values()) == pytest.approx(1)
    assert sum(nb.SENTENCES.values()) == pytest.approx(1)
    entropy, length = nb.entropy_and_length("SENTENCE")
    assert entropy == pytest.approx(-sum(p * math.log(p) for p in nb.SENTENCES.values()))
    assert length == pytest.approx(sum(p * len(words) for words, p in nb.SENTENCES.items()))
    assert nb.SENTENCES["i", "love", "cupcakes"] == pytest.approx(0.0125)


def test_ambiguous_grammar_is_refused(nb, monkeypatch):
    """Two derivations of one sentence raise an error that shows it."""
    monkeypatch.setattr(nb, "GRAMMAR", {"TWICE": {"A b": 0.5, "a b": 0.5}, "A": {"a": 1.0}})
    with pytest.raises(ValueError, match=r"ambiguous.*a b"):
        nb.language("TWICE")


@pytest.mark.parametrize("sentence", ["i love cupcakes", "does the old dog really love tea ?"])
def test_chain_rule_in_both_directions(nb, sentence):
    """The exact conditional probabilities multiply to the sentence's probability, forward and reverse."""
    words = sentence.split()
    for reverse in (False, True):
        factors = nb.ideal_conditionals(words, reverse)
        assert len(factors) == len(words) + 1
        assert math.prod(factors) == pytest.approx(nb.SENTENCES[tuple(words)])


# Text.


def test_tokens_and_long_lines(nb):
    """Words keep their apostrophes, punctuation stands alone, long lines are cut, empty lines vanish."""
    assert nb.tokenize("It's 'tis, NOT O’Brien!") == ["it's", "'", "tis", ",", "not", "o’brien", "!"]
    assert [len(s) for s in nb.sentences_of("a\n\n" + "b " * 65)] == [1, 30, 30, 5]


def test_split_and_vocabulary(nb):
    """80 / 10 / 10 without overlap, words of the training part only, rare ones unknown, seeded."""
    sentences = [[f"word{i % 150}", "the"] for i in range(1000)] + [["once", "the"]]
    corpus = nb.split_corpus(sentences, "test", 2, 0)
    assert [len(part) for part in corpus[2:]] == [800, 100, 101]
    assert corpus.vocabulary.words[:3] == ["<s>", "<unk>", "the"]
    assert "once" not in corpus.vocabulary.numbers
    assert corpus.vocabulary.encode(["the", "nothing"]).tolist() == [0, 2, 1, 0]
    assert corpus.vocabulary.unknown(["the", "xx", "xx", "yy"]) == ["xx", "yy"]
    again = nb.split_corpus(sentences, "test", 2, 0)
    assert all(np.array_equal(a, b) for a, b in zip(corpus.train, again.train))


def test_no_network_means_documentation(nb, tmp_path, monkeypatch, capsys):
    """Without a network, or with a wrong file, Python's documentation takes the place; a damaged file is not used."""

    def refuse(url, output_file, downloader):
        raise requests.ConnectionError

    def serve_garbage(url, output_file, downloader):
        Path(output_file).write_text("garbage")

    monkeypatch.setattr(nb.pooch, "os_cache", lambda name: tmp_path / "cache")
    (tmp_path / "tinyshakespeare.txt").write_text("damaged")
    for download in (refuse, serve_garbage):
        monkeypatch.setattr(nb.pooch, "HTTPDownloader", lambda timeout, download=download: download)
        sentences, source = nb.load_sentences(tmp_path)
        assert source == "Python's documentation"
        assert len(sentences) > 1000
        assert "Text: Python's documentation" in capsys.readouterr().out


def test_shakespeare_is_fetched_once(nb, tmp_path, monkeypatch, capsys):
    """A damaged file is replaced, a good one is read, and where nothing can be written another folder serves."""
    downloads, content = [], b"To be, or not\n"

    def serve(url, output_file, downloader):
        downloads.append(url)
        Path(output_file).write_bytes(content)

    monkeypatch.setattr(nb.pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.setattr(nb.pooch, "HTTPDownloader", lambda timeout: serve)
    monkeypatch.setattr(nb, "TEXT_SHA256", hashlib.sha256(content).hexdigest())
    (tmp_path / "tinyshakespeare.txt").write_text("damaged")
    for _ in range(2):
        assert nb.load_sentences(tmp_path) == ([["to", "be", ",", "or", "not"]], "tiny Shakespeare")
    assert downloads == [nb.TEXT_URL]
    (tmp_path / "a file").write_text("no folder")
    assert nb.load_sentences(tmp_path / "a file")[1] == "tiny Shakespeare"
    assert (tmp_path / "cache" / "tinyshakespeare.txt").read_bytes() == content
    assert "Text: tiny Shakespeare" in capsys.readouterr().out


def test_own_file(nb, tmp_path):
    """A file of the reader's own is used; too short or not UTF-8 is refused by name."""
    own = tmp_path / "own.txt"
    own.write_text("Hello, world!\n" * 100, encoding="utf-8-sig")  # with a mark in front
    assert nb.load_sentences(tmp_path, own) == ([["hello", ",", "world", "!"]] * 100, "own.txt")
    own.write_text("short")
    with pytest.raises(ValueError, match=r"own\.txt has 1 sentences"):
        nb.load_sentences(tmp_path, own)
    own.write_bytes(b"\xff\xfe" * 50)
    with pytest.raises(ValueError, match="not UTF-8"):
        nb.load_sentences(tmp_path, own)


# Counting.


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kneser_ney_sums_to_one(nb, grammar, order):
    """For contexts from the text and for random ones, all probabilities sum to 1; known words have some."""
    size = len(grammar.vocabulary)
    model = nb.KneserNey(grammar.train, size, order)
    rng = np.random.default_rng(0)
    contexts = np.vstack([model.grams(grammar.valid[:5])[:, :-1], rng.integers(0, size, (20, order - 1))])
    rows = np.hstack([np.repeat(contexts, size, axis=0), np.tile(np.arange(size), len(contexts))[:, None]])
    p = model.probabilities(rows).reshape(-1, size)
    assert np.allclose(p.sum(axis=1), 1)
    assert (np.delete(p, nb.UNKNOWN, axis=1) > 0).all()  # the grammar has no unknown words


def test_kneser_ney_by_hand(nb):
    """A bigram model of two sentences equals the formula worked out by hand."""
    model = nb.KneserNey([np.array([0, 2, 3, 0]), np.array([0, 2, 2, 0])], 4, 2)
    # bigrams: 02 twice, 23, 30, 22, 20 once: D = 4 / (4 + 2 * 1) = 2/3. Different words before: 2: two, 3: one, 0: two,
    # five in all, so D = 1 / (1 + 2 * 2) = 1/5 for the shorter context, whose three words give back 3/25.
    shorter = (2 - 1 / 5) / 5 + 3 / 25 * 1 / 4
    assert model.probabilities(np.array([[0, 2]]))[0] == pytest.approx((2 - 2 / 3) / 2 + (2 / 3) * 1 / 2 * shorter)


def test_grams_start_anew_with_each_sentence(nb):
    """No context reaches into the sentence before."""
    model = nb.KneserNey([np.array([0, 2, 3, 0]), np.array([0, 4, 0])], 5, 3)
    expected = [[0, 0, 2], [0, 2, 3], [2, 3, 0], [0, 0, 4], [0, 4, 0]]
    assert model.grams([np.array([0, 2, 3, 0]), np.array([0, 4, 0])]).tolist() == expected


# Training.


def test_batches_hold_every_sentence_once(nb, grammar):
    """Each sentence stands in one batch, complete, padded on the side that is read last."""
    widths = nb.widths_for(grammar.train, 4)
    for reverse in (False, True):
        batches = nb.sentence_batches(grammar.train, widths, 100, reverse, np.random.default_rng(0))
        assert sorted(np.concatenate([index for index, _ in batches])) == list(range(len(grammar.train)))
        for index, tokens in batches:
            for i, row in zip(index, tokens):
                assert np.array_equal(row[row != nb.PAD], grammar.train[i])
                assert row[-1 if reverse else 0] == nb.MARK


def test_sampled_cost_follows_its_formula(nb):
    """The cost is that of the text, computed entry by entry; with many draws it becomes that of the full softmax."""
    nb.keras.utils.set_random_seed(0)
    model = nb.LanguageModel(50, 8)
    model.build()
    rng = np.random.default_rng(0)
    h, targets = rng.normal(size=(30, 8)).astype(np.float32), rng.integers(0, 50, 30).astype(np.int32)
    sampled, expected = rng.integers(0, 50, 20).astype(np.int32), rng.normal(size=50).astype(np.float32)
    z = np.array(model.scores(h)) - expected
    by_hand = []
    for row, target in zip(z.astype(float), targets):
        entries = [target, *sampled]
        weights = np.exp(row[entries])
        by_hand.append(-math.log(sum(weight for weight, w in zip(weights, entries) if w == target) / weights.sum()))
    assert max(np.sum(targets[:, None] == sampled, axis=1)) >= 2, "some targets are drawn more than once"
    assert np.allclose(nb.sampled_costs(model, h, targets, sampled, expected), by_hand, atol=1e-4)

    full = np.array(nb.tf.nn.sparse_softmax_cross_entropy_with_logits(targets, model.scores(h)))
    gaps = []
    for times in (10, 1000):
        costs = nb.sampled_costs(
            model, h, targets, np.tile(np.arange(50, dtype=np.int32), times), np.full(50, np.log(times), np.float32)
        )
        gaps.append(np.abs(np.array(costs) - full).max())
    assert gaps[1] < 2e-3 and gaps[1] < gaps[0] / 20


def test_training_learns_and_resumes(nb, grammar, tmp_path):
    """A training killed after one of two epochs and started again equals one that was never stopped."""
    plan = nb.Plan(units=12, num_epochs=2, batch_tokens=200, num_sampled=20, lr=2e-2)
    resumed, straight = nb.killed_and_resumed(grammar, plan, 1, tmp_path)
    assert resumed.epoch.tolist() == [1, 2]
    assert np.allclose(resumed.valid, straight.valid, rtol=1e-3)
    assert straight.valid.iloc[-1] < 0.9 * nb.baseline_perplexities(grammar, False).loc["unigram", "valid"]
    assert not list(tmp_path.glob("*.npz")), "a finished training leaves no checkpoint"
    scalars = nb.read_events(tmp_path / "straight")
    assert {"loss", "perplexity/train", "perplexity/valid", "learning_rate"} <= set(scalars)
    assert scalars["perplexity/valid"][1] == pytest.approx(straight.valid.tolist(), rel=1e-5)


def test_checkpoint_of_another_run_or_damaged_is_not_used(nb, tmp_path):
    """Only a complete checkpoint of the same settings is loaded."""
    variable, path = nb.tf.Variable([1.0, 2.0]), tmp_path / "c.npz"
    nb.save_checkpoint(path, "same", [variable], [np.array([5.0])], [{"epoch": 1}])
    variable.assign([0.0, 0.0])
    assert nb.load_checkpoint(path, "other", [variable]) == ([], [])
    assert variable.numpy().tolist() == [0, 0]
    best, rows = nb.load_checkpoint(path, "same", [variable])
    assert (best[0].tolist(), rows, variable.numpy().tolist()) == ([5.0], [{"epoch": 1}], [1, 2])
    path.write_bytes(path.read_bytes()[:100])
    assert nb.load_checkpoint(path, "same", [variable]) == ([], [])
    assert nb.load_checkpoint(tmp_path / "missing.npz", "same", [variable]) == ([], [])


def test_saved_model_comes_back(nb, grammar, speakers, tmp_path):
    """A loaded reverse model has the same words and the same log-probabilities."""
    model, vocabulary = speakers["reverse"]
    nb.save_model(model, vocabulary, nb.Plan(), "grammar", "m", tmp_path)
    restored, words = nb.load_speaker("m", tmp_path)
    assert words.words == vocabulary.words
    ours, theirs = (nb.sentence_log_probabilities(m, grammar.test[:20]) for m in (model, restored))
    assert np.allclose(ours, theirs, atol=1e-5)


# Writing.


def test_reshaped_probabilities(nb):
    """Temperature, top-k and nucleus do what their formulas say; rows sum to 1; ties and zeros are harmless."""
    p = np.array([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    squares = p**2 / (p**2).sum(axis=1, keepdims=True)
    assert np.allclose(nb.reshaped(p, 0.5), squares)
    assert nb.reshaped(p, 0).tolist() == [[0, 1, 0], [0, 0, 1]]
    assert np.allclose(nb.reshaped(p, 1, top_k=2)[0], [0, 2 / 3, 1 / 3])
    assert np.allclose(nb.reshaped(p, 1, nucleus=0.5)[0], [0, 1, 0])
    assert np.allclose(nb.reshaped(p, 1, nucleus=0.61)[0], [0, 2 / 3, 1 / 3])
    assert np.allclose(nb.reshaped(p, 1, forbidden=[1])[0], [0.25, 0, 0.75])
    assert np.allclose(nb.reshaped(p, 1e6), 1 / 3, atol=1e-4)
    assert np.allclose(nb.reshaped(p, 1e-6)[0], [0, 1, 0])


@pytest.mark.parametrize("knobs", [{"temperature": -1}, {"temperature": math.nan}, {"top_k": 0}, {"nucleus": 0}])
def test_bad_knobs_are_named(nb, knobs):
    """A knob out of its range raises an error that names it."""
    with pytest.raises(ValueError, match=next(iter(knobs))):
        nb.reshaped(np.array([[0.5, 0.5]]), **knobs)


def test_texts_keep_their_start_or_their_end(nb, speakers):
    """Forward texts begin with the seed, reverse texts end with it; all have the length asked for and no marks."""
    for name, (model, vocabulary) in speakers.items():
        start = vocabulary.encode(["i", "love"])[1:-1]
        texts, entropies = nb.generate(model, start, 7, np.random.default_rng(0), 5)
        assert texts.shape == (5, 7)
        assert entropies.shape == (5, 5)
        assert (texts[:, -2:] == start).all() if name == "reverse" else (texts[:, :2] == start).all()
        assert (texts > nb.UNKNOWN).all()
        assert np.array_equal(texts, nb.generate(model, start, 7, np.random.default_rng(0), 5)[0])


def test_words_join_and_part_again(nb):
    """No space stands before punctuation."""
    assert nb.as_text(["i", "love", "thee", ",", "sir", "!"]) == "i love thee, sir!"


def test_gates_by_hand_equal_keras(nb, grammar, speakers):
    """The LSTM written out in NumPy gives the outputs of Keras."""
    model, _ = speakers["forward"]
    for sentence in grammar.train[:3]:
        ours = nb.gate_activations(model, sentence[:-1])["h"]
        assert np.allclose(ours, np.array(model.hidden(sentence[None, :-1]))[0], atol=1e-5)


def test_neighbors(nb, speakers):
    """The nearest words are sorted, without the word itself; an unknown word is named."""
    model, vocabulary = speakers["forward"]
    found = nb.neighbors(model, vocabulary, "cat", 5)
    assert [cosine for _, cosine in found] == sorted((cosine for _, cosine in found), reverse=True)
    assert "cat" not in dict(found)
    with pytest.raises(ValueError, match="xyzzy"):
        nb.neighbors(model, vocabulary, "xyzzy")


# The interface.


def test_everything_shown_as_html_is_escaped(nb):
    """Words with markup come out as text."""
    evil = '<script>alert("x")</script>'
    for page in (nb.surprise_as_html([evil], [1.0], evil), nb.playground_as_html(evil, [(evil, 0.5)], evil)):
        assert "<script" not in page
        assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("text", "temperature", "length", "sentence"),
    [
        ("", 1.0, 7, "No words yet"),
        ("i love xyzzy", 1.0, 7, "xyzzy"),
        ("i", -1.0, 7, "Temperature -1.0"),
        ("i", math.nan, 7, "Temperature nan"),
        ("i", 1.0, 0, "Length 0"),
        ("i", 1.0, 10_000, "Length 10000"),
        ("love " * 10_000, 0, 7, "10,000 words"),
        ("a b c d e f g h", 0, 7, "3 more"),
    ],
)
def test_advice_is_a_plain_sentence(nb, speakers, text, temperature, length, sentence):
    """Input that cannot be used, or only partly, is named in words."""
    assert sentence in " ".join(nb.advice(speakers["forward"], text, temperature, length))


def test_fine_input_needs_no_advice(nb, speakers):
    """Known words and usual settings get no remark."""
    assert nb.advice(speakers["forward"], "i love cupcakes", 1.0, 7) == ("", "")


@pytest.mark.parametrize("name", ["forward", "reverse"])
@pytest.mark.parametrize("text", ["", "i love", "xyzzy <b>", "love " * 10_000])
def test_callbacks_take_any_text(nb, speakers, name, text):
    """Ten words with falling probabilities, and text that grows on the right side, whatever was typed."""
    speaker = speakers[name]
    found = nb.likeliest_words(speaker, text)
    assert len(found) == 10
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    assert nb.likeliest_words(speaker, text, 0)[0][1] == 1
    longer = nb.written_on(speaker, text, 3, 1.0, 0)
    assert len(nb.tokenize(longer)) == len(nb.tokenize(text)) + 3
    assert longer.endswith(text.strip()) if name == "reverse" else longer.startswith(text.strip())


def test_likeliest_words_are_those_of_the_model(nb, speakers):
    """The list holds the model's own probabilities, without the unknown word."""
    model, vocabulary = speakers["forward"]
    p = np.array(nb.next_probabilities(model, vocabulary.encode(["i"])[None, :-1]))[0]
    p[nb.UNKNOWN] = 0
    word, probability = nb.likeliest_words((model, vocabulary), "i")[0]
    assert vocabulary.numbers[word] == p.argmax()
    assert probability == pytest.approx(p.max() / p.sum(), rel=1e-4)


def test_with_word(nb):
    """A word is appended where the model works; the end mark changes nothing."""
    assert nb.with_word("i love", "tea", False) == "i love tea"
    assert nb.with_word("i love", "do", True) == "do i love"
    assert nb.with_word("", "tea", False) == nb.with_word("", "tea", True) == "tea"
    assert nb.with_word("i love", "<s>", True) == "i love"


def test_playground_buttons(nb, speakers):
    """Predict, click, write on and start over, through the widgets' own click handlers."""
    playground = nb.Playground(speakers, "i love")
    predict, write, start_over = playground.widget.children[2].children
    predict.click()
    assert len(playground.rows.children) == 10
    button = next(row.children[0] for row in playground.rows.children if row.children[0].description != "<s>")
    button.click()
    assert playground.text.value == f"i love {button.description}"
    playground.length.value = 4
    write.click()
    assert len(playground.text.value.split()) == 7
    playground.temperature.value = -1
    before = playground.text.value
    write.click()
    assert playground.text.value == before
    assert "makes no sense" in playground.message.value
    predict.click()
    assert playground.rows.children == ()
    start_over.click()
    assert playground.text.value == ""
    playground.append("<s>")
    assert "ends the sentence" in playground.message.value or "Temperature" in playground.message.value
