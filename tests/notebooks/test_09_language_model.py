"""Notebook 09: two proofs about direction, the exact grammar, text in any script, training, writing, the interface."""

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import requests

from tools.course import ROOT
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
def lms(nb, grammar):
    """Return untrained models of both directions, of the kind that trains on real text."""
    result = {}
    for name, reverse in (("forward", False), ("reverse", True)):
        nb.keras.utils.set_random_seed(1)
        model = nb.fast_model(len(grammar.words), nb.Plan(units=12), 1, reverse)
        result[name] = nb.LanguageModel(model, grammar.vectorize, reverse)
    return result


# The two proofs.


@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_reverse_equals_plain_on_reversed_text(nb, grammar, num_layers):
    """With equal weights, padding and masks, each token has the same loss; nothing but padding has loss 0."""
    some = grammar.train[:40]
    ours, theirs = nb.twin_losses(num_layers, some, len(grammar.words))
    assert np.allclose(ours, theirs, atol=1e-5)
    assert (ours != 0).sum() == nb.count_tokens(some)
    assert len(set((some != nb.PAD).sum(axis=1))) > 3, "no padding was tested"


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_no_prediction_sees_what_it_must_not_see(nb, num_layers, reverse):
    """Replacing a word moves no score on the forbidden side, and each score on the other side."""
    for make in (nb.make_language_model, lambda *a: nb.fast_model(a[0], nb.Plan(units=a[1]), *a[2:])):
        nb.keras.utils.set_random_seed(0)
        moved = nb.influence(make(30, 16, num_layers, reverse), 30) > 1e-6
        allowed = np.triu(np.ones_like(moved)) if reverse else np.tril(np.ones_like(moved))
        assert np.array_equal(moved, allowed.astype(bool))


@pytest.mark.parametrize("kind", ["no flip", "one flip for two layers"])
def test_wrong_models_are_found(nb, kind):
    """A changed word shows a leak in both wrong models."""
    nb.keras.utils.set_random_seed(0)
    assert np.tril(nb.influence(nb.wrong_model(30, 16, kind), 30), -1).max() > 1e-3


@pytest.mark.parametrize("reverse", [False, True])
def test_padding_read_last_needs_no_mask(nb, grammar, reverse):
    """The total of each sentence is the same alone and padded on the side that is read last."""
    nb.keras.utils.set_random_seed(0)
    model = nb.fast_model(len(grammar.words), nb.Plan(units=16), 2, reverse)
    some = grammar.train[:8]
    alone = [float(np.sum(nb.log_probabilities(model, reverse, row[None, row != nb.PAD]))) for row in some]
    batch = nb.pad_left(some) if reverse else some
    together = np.array(nb.log_probabilities(model, reverse, batch)).sum(axis=1)
    assert np.allclose(alone, together, atol=1e-4)


@pytest.mark.parametrize("reverse", [False, True])
def test_masked_model_ignores_padding(nb, grammar, reverse):
    """An ordinary model gives each sentence the same total alone and with padding on the right."""
    nb.keras.utils.set_random_seed(0)
    model = nb.make_language_model(len(grammar.words), 16, 2, reverse)
    some = grammar.train[:8]
    alone = [float(np.sum(nb.log_probabilities(model, reverse, row[None, row != nb.PAD]))) for row in some]
    assert np.allclose(alone, np.array(nb.log_probabilities(model, reverse, some)).sum(axis=1), atol=1e-4)


def test_keras_loss_is_the_mean_over_real_tokens(nb, grammar):
    """What `fit` calls the loss leaves out padding, also after the end mark."""
    model = nb.compile_model(nb.make_language_model(len(grammar.words), 16), 0.01, 10)
    some = grammar.valid[:64]
    x, y = (np.array(a) for a in nb.inputs_and_targets(some, False))
    loss = model.evaluate(x, y, batch_size=64, verbose=0)
    lm = nb.LanguageModel(model, grammar.vectorize)
    assert loss == pytest.approx(math.log(nb.perplexity(lm, some)), rel=1e-4)


# The grammar.


def test_grammar_is_a_distribution_with_the_exact_entropy(nb):
    """Probabilities sum to 1 in each rule and over the language; the closed form equals the sum."""
    for alternatives in nb.GRAMMAR.values():
        assert sum(alternatives.values()) == pytest.approx(1)
    assert sum(nb.SENTENCES.values()) == pytest.approx(1)
    assert nb.entropy_of("SENTENCE") == pytest.approx(-sum(p * math.log(p) for p in nb.SENTENCES.values()))
    assert nb.SENTENCES["i", "love", "cupcakes"] == pytest.approx(0.0125)


def test_ambiguous_grammar_is_refused(nb, monkeypatch):
    """Two derivations of one sentence raise an error that shows it."""
    monkeypatch.setattr(nb, "GRAMMAR", {"TWICE": {"A b": 0.5, "a b": 0.5}, "A": {"a": 1.0}})
    with pytest.raises(ValueError, match=r"ambiguous.*a b"):
        nb.language("TWICE")


@pytest.mark.parametrize("sentence", ["i love cupcakes", "does the old dog really love tea ?"])
def test_chain_rule_in_both_directions(nb, sentence):
    """The exact conditional probabilities multiply to the sentence's probability, forward and reverse."""
    words = tuple(sentence.split())
    for reverse in (False, True):
        factors = nb.ideal_conditionals(words, reverse)
        assert len(factors) == len(words) + 1
        assert math.prod(factors) == pytest.approx(nb.SENTENCES[words])


# Text.


def test_tokens_and_long_lines(nb):
    """Words keep their apostrophes, punctuation stands alone, long lines are cut, empty lines vanish."""
    assert nb.tokenize("It's 'tis, NOT O’Brien!") == ["it's", "'", "tis", ",", "not", "o’brien", "!"]
    assert [len(s) for s in nb.sentences_of("a\n\n" + "b " * 65)] == [1, 30, 30, 5]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cafe\u0301 déjà", ["café", "déjà"]),
        ("नमस्ते दुनिया।", ["नमस्ते", "दुनिया", "।"]),
        ("שָׁלוֹם עוֹלָם", ["שָׁלוֹם", "עוֹלָם"]),
        ("القِطُّ يُحِبُّ", ["القِطُّ", "يُحِبُّ"]),
        ("Привет, мир!", ["привет", ",", "мир", "!"]),
        ("Πού είναι;", ["πού", "είναι", ";"]),
        ("பூனை பால்", ["பூனை", "பால்"]),
        ("고양이는 우유를", ["고양이는", "우유를"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("so\u00adft \ufeffwords\u200f", ["soft", "words"]),
        ("İstanbul", ["i\u0307stanbul"]),
    ],
)
def test_marks_belong_to_their_words(nb, line, words):
    """Accents, vowel signs and joiners stay inside the word, in composed and decomposed text."""
    normal = [nb.unicodedata.normalize("NFC", word) for word in words]
    assert nb.tokenize(line) == normal
    assert nb.tokenize(nb.unicodedata.normalize("NFD", line)) == normal


@pytest.mark.parametrize(
    ("line", "wanted"),
    [("猫喜欢喝牛奶。", 7), ("猫は牛乳が好きです", 9), ("แมวชอบดื่มนม", None), ("the cat", 0), ("고양이 우유", 0)],
)
def test_scripts_without_spaces_are_read_by_character(nb, line, wanted):
    """Chinese, Japanese and Thai are recognized; their tokens are characters with their marks."""
    assert nb.written_without_spaces(line) == (wanted != 0)
    if wanted != 0:
        tokens = nb.tokenize(line, characters=True)
        assert "".join(tokens) == nb.unicodedata.normalize("NFC", line)
        assert not wanted or len(tokens) == wanted
        assert not any(nb.unicodedata.category(token[0]).startswith("M") for token in tokens)


def test_split_and_vocabulary(nb):
    """80 / 10 / 10 without overlap, words of the training part only, rare ones unknown, seeded."""
    sentences = [[f"word{i % 150}", "the"] for i in range(1000)] + [["once", "the"]]
    corpus = nb.split_corpus(sentences, "test", 2, 0)
    assert [len(part) for part in corpus[2:]] == [800, 100, 101]
    assert corpus.words[:4] == ["", "[UNK]", "<s>", "the"]
    assert "once" not in corpus.words
    assert nb.encode(corpus.vectorize, [["the", "nothing"]]).tolist() == [[2, 3, 1, 2]]
    again = nb.split_corpus(sentences, "test", 2, 0)
    assert all(np.array_equal(a, b) for a, b in zip(corpus[2:], again[2:]))


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
    downloads, content = [], b"To be, or not\n" * 100

    def serve(url, output_file, downloader):
        downloads.append(url)
        Path(output_file).write_bytes(content)

    monkeypatch.setattr(nb.pooch, "os_cache", lambda name: tmp_path / "cache")
    monkeypatch.setattr(nb.pooch, "HTTPDownloader", lambda timeout: serve)
    monkeypatch.setattr(nb, "TEXT_SHA256", hashlib.sha256(content).hexdigest())
    (tmp_path / "tinyshakespeare.txt").write_text("damaged")
    for _ in range(2):
        assert nb.load_sentences(tmp_path) == ([["to", "be", ",", "or", "not"]] * 100, "tiny Shakespeare")
    assert downloads == [nb.TEXT_URL]
    (tmp_path / "a file").write_text("no folder")
    assert nb.load_sentences(tmp_path / "a file")[1] == "tiny Shakespeare"
    assert (tmp_path / "cache" / "tinyshakespeare.txt").read_bytes() == content
    assert "Text: tiny Shakespeare, 100 lines, by words" in capsys.readouterr().out


def test_own_file(nb, tmp_path, capsys):
    """A file of the reader's own is used, with a mark in front and Windows line ends; the number of lines is right."""
    own = tmp_path / "own.txt"
    own.write_bytes(("Hello, world!\r\n\r\n" * 120).encode("utf-8-sig"))
    with pytest.raises(ValueError, match="only 4 different"):
        nb.load_sentences(tmp_path, own)  # four different tokens only
    own.write_bytes(("Hello there, big world!\r\n\r\n" * 120).encode("utf-8-sig"))
    expected = ["hello", "there", ",", "big", "world", "!"]
    assert nb.load_sentences(tmp_path, own) == ([expected] * 120, "own.txt")
    assert "own.txt, 120 lines, by words; 120 sentences" in capsys.readouterr().out
    own.write_text("我喜欢猫。\n" * 120, encoding="utf-8")
    sentences, _ = nb.load_sentences(tmp_path, own)
    assert sentences[0] == list("我喜欢猫。")
    assert "by characters" in capsys.readouterr().out
    own.write_text("the cat sat\n" * 120)
    assert nb.load_sentences(tmp_path, own, "characters")[0][0][:4] == ["t", "h", "e", nb.SPACE]


RANDOM_WORDS = "\n".join(" ".join(f"w{10 * i + j}" for j in range(10)) for i in range(200))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"short", "has 1 sentences"),
        (b"", "has 0 sentences"),
        ("hello there\n".encode("utf-16-le") * 200, "zero bytes"),
        ("hello there\n".encode("utf-16") * 200, "UTF-16"),
        (b"a\0b\n" * 200, "zero bytes"),
        ("café\n".encode("latin-1") * 200, "not UTF-8"),
        (RANDOM_WORDS.encode(), "nothing to learn"),
        (b"same\n" * 200, "only 1 different"),
    ],
)
def test_useless_files_are_refused_with_the_reason(nb, tmp_path, content, reason):
    """Each refusal is a ValueError that names the file and says why."""
    own = tmp_path / "own.txt"
    own.write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        nb.load_sentences(tmp_path, own)
    assert "own.txt" in str(caught.value)


def test_missing_file_and_wrong_setting_are_named(nb, tmp_path):
    """A path that leads nowhere, a folder, and an unknown kind of token."""
    for path in (tmp_path / "nothing.txt", tmp_path):
        with pytest.raises(ValueError, match="no such file"):
            nb.load_sentences(tmp_path, path)
    with pytest.raises(ValueError, match="TOKENS"):
        nb.load_sentences(tmp_path, None, "letters")


# Counting.


@pytest.mark.parametrize("order", [1, 2, 3])
def test_kneser_ney_sums_to_one(nb, grammar, order):
    """For contexts from the text and for random ones, all probabilities sum to 1; known words have some."""
    size = len(grammar.words)
    model = nb.KneserNey(grammar.train, size, order)
    rng = np.random.default_rng(0)
    contexts = [gram[:-1] for gram in nb.ngrams(grammar.valid[:5], order)]
    contexts += [tuple(row) for row in rng.integers(1, size, (10, order - 1)).tolist()]
    for context in contexts:
        p = [model.probability((*context, word)) for word in range(1, size)]
        assert sum(p) == pytest.approx(1)
        assert min(p[nb.MARK - 1 :]) > 0


def test_kneser_ney_by_hand(nb):
    """A bigram model of two sentences equals the formula worked out by hand."""
    model = nb.KneserNey(np.array([[2, 3, 4, 2], [2, 3, 3, 2]]), 5, 2)
    # bigrams: 23 twice, 34, 42, 33, 32 once: D = 4 / (4 + 2 * 1) = 2/3. Different words before: 3: two, 4: one, 2: two,
    # five in all, so D = 1 / (1 + 2 * 2) = 1/5 for the shorter context, whose three words give back 3/25.
    shorter = (2 - 1 / 5) / 5 + 3 / 25 * 1 / 4
    assert model.probability((2, 3)) == pytest.approx((2 - 2 / 3) / 2 + (2 / 3) * 1 / 2 * shorter)


def test_ngrams_start_anew_with_each_sentence(nb):
    """No context reaches into the sentence before; padding is no word."""
    tokens = np.array([[2, 4, 5, 2], [2, 6, 2, 0]])
    assert nb.ngrams(tokens, 3) == [(2, 2, 4), (2, 4, 5), (4, 5, 2), (2, 2, 6), (2, 6, 2)]
    assert nb.ngrams(tokens, 1) == [(4,), (5,), (2,), (6,), (2,)]


# Training.


def test_batches_hold_every_sentence_once(nb, grammar):
    """Each sentence stands in one batch, complete, padded on the side that is read last."""
    for reverse in (False, True):
        batches = nb.sentence_batches(grammar.train, 100, reverse, np.random.default_rng(0), num_widths=4)
        found = sorted(tuple(row[row != nb.PAD]) for batch in batches for row in batch)
        assert found == sorted(tuple(row[row != nb.PAD]) for row in grammar.train)
        for batch in batches:
            assert (batch[:, -1 if reverse else 0] == nb.MARK).all()


def test_sampled_cost_becomes_the_full_cost(nb):
    """With all words drawn the cost is nearly that of the full softmax."""
    model = nb.fast_model(50, nb.Plan(units=8, num_sampled=50))
    rng = np.random.default_rng(0)
    h = rng.normal(size=(30, 8)).astype(np.float32)
    targets = rng.integers(3, 50, 30).astype(np.int32)
    full = np.array(nb.full_costs(model, h, targets))
    assert np.allclose(nb.sampled_costs(model, h, targets), full, atol=0.1)


def test_texts_begin_with_their_most_frequent_word(nb):
    """The first and the last words of sentences are counted, unknown ones left out."""
    lines = [line.split() for line in ("b a c c", "b d", "a c a", "d d c", "b")] + [[f"new{i}", "c"] for i in range(8)]
    vectorize = nb.make_vectorizer(lines, 2)
    tokens = nb.encode(vectorize, lines)
    corpus = nb.Corpus("lines", vectorize, tokens, tokens, tokens)
    assert (nb.frequent_edge(corpus), nb.frequent_edge(corpus, reverse=True)) == ("b", "c")


def test_small_texts_get_more_epochs(nb, grammar):
    """A text with few batches gets about 300 updates, one with many the epochs of its plan."""
    number = len(nb.sentence_batches(grammar.train, 1100))
    assert 300 <= number * nb.with_enough_updates(nb.Plan(), grammar).num_epochs < 300 + number
    assert nb.with_enough_updates(nb.Plan(num_epochs=400), grammar).num_epochs == 400


def test_best_sentences_are_new_and_differ(nb, lms, grammar):
    """No sentence comes twice, none stands in the training text, and none repeats a word."""
    known = {" ".join(grammar.words[i] for i in row if i > nb.MARK) for row in grammar.train.tolist()}
    for writer, judge in (("forward", "reverse"), ("reverse", "forward")):
        found = [line for _, line in nb.best_sentences(lms[writer], lms[judge], grammar, 0)]
        assert found
        assert len(set(found)) == len(found)
        assert not known & set(found)
        assert all(len(line.split()) == len(set(line.split())) for line in found)


def test_training_learns_logs_and_comes_back_in_another_process(nb, grammar, tmp_path, capsys):
    """A short training beats the unigram; its events and its saved files say what it did; a new process reads them."""
    plan = nb.Plan(units=12, num_epochs=2, batch_tokens=200, num_sampled=20, lr=2e-2)
    folder = nb.new_run("one", tmp_path)
    lm, history = nb.train_model(grammar, plan, 1, True, 0, folder)
    capsys.readouterr()
    found = nb.perplexities(lm, grammar)
    assert found["test"] < 0.9 * nb.counting_perplexities(grammar, True).loc["unigram", "test"]
    scalars = nb.read_events(folder)
    assert list(scalars["perplexity"]) == [1, 2]
    assert np.allclose(list(scalars["perplexity"].values()), np.exp(history.val_loss), rtol=1e-4)
    assert scalars["best_perplexity"][0] == pytest.approx(math.exp(history.val_loss.min()), rel=1e-4)
    text = b"".join(path.read_bytes() for path in folder.rglob("events*"))
    assert b"_hparams_/session_start_info" in text
    assert b"batch_tokens" in text
    assert nb.read_events(nb.new_run("one", tmp_path)) == {}, "another run shares nothing"

    nb.save_model(lm, plan, 1, "grammar", "m", tmp_path)
    record = json.loads((tmp_path / "m.json").read_text())
    assert record["versions"]["keras"] == nb.keras.__version__
    total = nb.token_logs(lm, nb.pad_left(grammar.test[:20])).sum()
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import numpy as np\n"
        "from tools.definitions import load_definitions\n"
        "nb = load_definitions('09', root=sys.argv[2]); lm = nb.load_model('m', Path(sys.argv[2]))\n"
        "tokens = nb.encode(lm.vectorize, [line.split() for line in open(sys.argv[2] + '/lines.txt')])\n"
        "print('TOTAL', float(nb.token_logs(lm, nb.pad_left(tokens)).sum()))\n"
    )
    words = grammar.words
    lines = [" ".join(words[i] for i in row if i > nb.MARK) for row in grammar.test[:20]]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    command = [sys.executable, "-c", program, str(ROOT), str(tmp_path)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr[-2000:]
    assert float(answer.stdout.split("TOTAL")[1]) == pytest.approx(float(total), rel=1e-4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_epochs": 0},
        {"lr": -1},
        {"lr": 1e9},
        {"lr": math.nan},
        {"units": 0},
        {"units": 2.5},
        {"batch_tokens": 3},
        {"dropout": 1},
        {"num_sampled": -1},
        {"num_epochs": "six"},
    ],
)
def test_plan_names_what_is_out_of_range(nb, wrong):
    """A number that cannot work is refused at once, by name."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        nb.Plan(**wrong)


def test_other_arguments_are_checked(nb):
    """No layers, no sentences, a word that is not there."""
    with pytest.raises(ValueError, match="num_layers"):
        nb.fast_model(30, nb.Plan(), 0)
    with pytest.raises(ValueError, match="num_layers"):
        nb.make_language_model(30, 8, 0)
    with pytest.raises(ValueError, match="num_sentences"):
        nb.draw_corpus(0, 0)


# Writing.


def test_reshaped_probabilities(nb):
    """Temperature does what its formula says; rows sum to 1; ties, zeros and extremes are harmless."""
    p = np.array([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]])
    squares = p**2 / (p**2).sum(axis=1, keepdims=True)
    assert np.allclose(nb.reshaped(p, 0.5), squares)
    assert nb.reshaped(p, 0).tolist() == [[0, 1, 0], [0, 0, 1]]
    assert np.allclose(nb.reshaped(p, 1, forbidden=[1])[0], [0.25, 0, 0.75])
    assert nb.reshaped(p, 0, forbidden=[1])[0].tolist() == [0, 0, 1]
    for hot in (1e6, 1e300):
        assert np.allclose(nb.reshaped(p, hot), 1 / 3, atol=1e-4)
    for cold in (1e-6, 1e-300, 5e-324):
        assert np.allclose(nb.reshaped(p, cold)[0], [0, 1, 0])


@pytest.mark.parametrize("temperature", [-1, math.nan, math.inf])
def test_bad_temperature_is_named(nb, temperature):
    """A temperature out of its range raises an error that names it."""
    with pytest.raises(ValueError, match="temperature"):
        nb.reshaped(np.array([[0.5, 0.5]]), temperature)


def test_texts_keep_their_start_or_their_end(nb, lms):
    """Forward texts begin with the seed, reverse texts end with it; all have the length asked for and no marks."""
    for name, lm in lms.items():
        start = nb.read_numbers(lm, "i love")
        texts = nb.generate(lm, start, 7, np.random.default_rng(0), 5)
        assert texts.shape == (5, 7)
        assert (texts[:, -2:] == start).all() if name == "reverse" else (texts[:, :2] == start).all()
        assert (texts > nb.MARK).all()
        assert np.array_equal(texts, nb.generate(lm, start, 7, np.random.default_rng(0), 5))


def test_said_sentences_are_text(nb, lms):
    """Sentences begin or end with the words given and hold no mark."""
    for name, lm in lms.items():
        for line in nb.say(lm, "i love", 9, 0, 5):
            assert line.endswith("i love") if name == "reverse" else line.startswith("i love")
            assert "<s>" not in line


def test_words_join_and_part_again(nb):
    """No space stands before punctuation or inside a hyphenated word; characters join without spaces."""
    assert nb.as_text(["i", "love", "thee", ",", "sir", "!"]) == "i love thee, sir!"
    assert nb.as_text("to - morrow , well - - she".split()) == "to-morrow, well-- she"
    assert nb.as_text(["a", "b", nb.SPACE, "c"], characters=True) == "ab c"


def test_gates_by_hand_equal_keras(nb, grammar):
    """The LSTM written out in NumPy gives the outputs of Keras."""
    model = nb.make_language_model(len(grammar.words), 12)
    for row in grammar.train[:3]:
        numbers = row[row != nb.PAD][:-1]
        ours = nb.gate_activations(model, numbers)["h"]
        assert np.allclose(ours, np.array(nb.body_of(model)(numbers[None]))[0], atol=1e-5)


def test_neighbors(nb, lms):
    """The nearest words are sorted, without the word itself; an unknown word is named."""
    found = nb.neighbors(lms["forward"], "cat", 5)
    assert [cosine for _, cosine in found] == sorted((cosine for _, cosine in found), reverse=True)
    assert "cat" not in dict(found)
    with pytest.raises(ValueError, match="xyzzy"):
        nb.neighbors(lms["forward"], "xyzzy")


# The exercises.


CHECKS = {
    "check_perplexity_of": (
        lambda p: np.exp(-np.log(p).mean()),
        [lambda p: None, lambda p: np.exp(np.log(p).mean()), lambda p: np.exp(-np.log(p).sum()), lambda p: 1 / 0],
    ),
    "check_masked_perplexity": (
        lambda logs, t: np.exp(-logs[t != 0].mean()),
        [lambda logs, t: ..., lambda logs, t: np.exp(-logs.mean()), lambda logs, t: -logs[t != 0].mean()],
    ),
    "check_with_temperature": (
        lambda p, tau: p ** (1 / tau) / (p ** (1 / tau)).sum(),
        [lambda p, tau: None, lambda p, tau: p**tau / (p**tau).sum(), lambda p, tau: p ** (1 / tau), lambda p, tau: p],
    ),
    "check_reverse_pairs": (
        lambda t: (t[:, 1:], t[:, :-1]),
        [
            lambda t: None,
            lambda t: (t[:, :-1], t[:, 1:]),
            lambda t: (t[:, ::-1][:, :-1], t[:, ::-1][:, 1:]),
            lambda t: (t[:, 1:], t[:, 1:]),
            lambda t: "two",
        ],
    ),
    "check_sentence_log_probability": (
        lambda logs, t: logs[np.arange(len(t)), t].sum(),
        [
            lambda logs, t: None,
            lambda logs, t: logs[np.arange(len(t)), t].mean(),
            lambda logs, t: logs[np.arange(len(t) - 1), t[:-1]].sum(),
            lambda logs, t: np.exp(logs[np.arange(len(t)), t].sum()),
            lambda logs, t: logs.max(axis=1).sum(),
        ],
    ),
}


@pytest.mark.parametrize("name", CHECKS)
def test_checks_know_right_from_wrong(nb, capsys, name):
    """One line for each answer: `right:` for a correct one, `not yet:` for wrong ones, and never an error."""
    right, wrong = CHECKS[name]
    getattr(nb, name)(right)
    assert capsys.readouterr().out.startswith("right: ")
    for answer in wrong:
        getattr(nb, name)(answer)
        printed = capsys.readouterr().out
        assert printed.startswith("not yet: ")
        assert printed.count("\n") == 1


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
        ("i", math.inf, 7, "Temperature inf"),
        ("i", 1.0, 0, "Length 0"),
        ("i", 1.0, 10_000, "Length 10000"),
        ("love " * 10_000, 0, 7, "10,000 words"),
        ("a b c d e f g h", 0, 7, "3 more"),
    ],
)
def test_advice_is_a_plain_sentence(nb, lms, text, temperature, length, sentence):
    """Input that cannot be used, or only partly, is named in words."""
    assert sentence in " ".join(nb.advice(lms["forward"], text, temperature, length))


def test_fine_input_needs_no_advice(nb, lms):
    """Known words and usual settings get no remark."""
    assert nb.advice(lms["forward"], "i love cupcakes", 1.0, 7) == ("", "")


@pytest.mark.parametrize("name", ["forward", "reverse"])
@pytest.mark.parametrize("text", ["", "i love", "xyzzy <b>", "love " * 10_000, "\0\u202e<script>", "<s> [UNK]"])
def test_callbacks_take_any_text(nb, lms, name, text):
    """Ten words with falling probabilities, and text that grows on the right side, whatever was typed."""
    lm = lms[name]
    found = nb.likeliest_words(lm, text)
    assert len(found) == 10
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    assert nb.likeliest_words(lm, text, 0)[0][1] == 1
    longer = nb.written_on(lm, text, 3, 1.0, 0)
    assert len(nb.tokenize(longer)) == len(nb.tokenize(text)) + 3


def test_likeliest_words_are_those_of_the_model(nb, lms):
    """The list holds the model's own probabilities, without the unknown word."""
    lm = lms["forward"]
    p = np.array(nb.next_probabilities(lm.model, False, nb.encode(lm.vectorize, [["i"]])[:, :-1]))[0]
    p[[nb.PAD, nb.UNKNOWN]] = 0
    word, probability = nb.likeliest_words(lm, "i")[0]
    assert lm.vectorize.get_vocabulary().index(word) == p.argmax()
    assert probability == pytest.approx(p.max() / p.sum(), rel=1e-4)


def test_with_word(nb):
    """A word is appended where the model works; the end mark changes nothing."""
    assert nb.with_word("i love", "tea", False) == "i love tea"
    assert nb.with_word("i love", "do", True) == "do i love"
    assert nb.with_word("", "tea", False) == nb.with_word("", "tea", True) == "tea"
    assert nb.with_word("i love", "<s>", True) == "i love"
    assert nb.with_word("猫喜欢", "牛", False, characters=True) == "猫喜欢牛"


def test_playground_buttons(nb, lms):
    """Predict, click, write on and start over, through the widgets' own click handlers."""
    playground = nb.Playground(lms, "i love")
    predict, write, start_over = playground.buttons
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
    playground.temperature.value = 1
    playground.append("<s>")
    assert "ends the sentence" in playground.message.value
