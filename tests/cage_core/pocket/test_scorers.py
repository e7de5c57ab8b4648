from itertools import pairwise

import pytest

from cage_core.pocket.scorers import SCORERS, score_brevity, score_caution, score_detail, score_warmth
from cage_core.pocket.topics import read_topics

PLAIN = "Rinse the rice and simmer it under a lid."


def test_every_score_lies_between_zero_and_one() -> None:
    long_text = " ".join(sentence for topic in read_topics() for sentence in topic.details + topic.cautions)
    for text in ("", PLAIN, long_text, "!!!" * 50, "🙂 ?"):
        assert all(0.0 <= scorer(text) <= 1.0 for scorer in SCORERS.values())


@pytest.mark.parametrize(
    ("scorer", "steps"),
    [
        (
            score_detail,
            ("", " Use 2 cups of water.", " Wait, because the steam finishes it.", " Rest it for 10 minutes."),
        ),
        (score_caution, ("", " Be careful.", " Never leave it alone.", " It may burn you.")),
        (score_warmth, ("", " I am glad you asked.", " Good luck!", " Enjoy it!")),
    ],
)
def test_each_signal_adds_to_its_score(scorer: object, steps: tuple[str, ...]) -> None:
    assert callable(scorer)
    scores = [scorer(PLAIN + "".join(steps[: i + 1])) for i in range(len(steps))]
    assert scores[0] == 0.0
    assert all(later > earlier for earlier, later in pairwise(scores))


def test_brevity_falls_with_every_word() -> None:
    scores = [score_brevity("word " * count) for count in range(1, 150)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)
    assert score_brevity("Rinse it.") > 0.95
    assert score_brevity("") == 0.0


def test_saying_it_twice_scores_no_more() -> None:
    sentence = "Never mix cleaners, because 2 of them make gas. Good luck!"
    assert score_detail(f"{sentence} {sentence}") == score_detail(sentence)
    assert score_caution(f"{sentence} {sentence}") == score_caution(sentence)
    assert score_warmth(f"{sentence} {sentence}") == score_warmth(sentence)
    assert score_brevity(f"{sentence} {sentence}") < score_brevity(sentence)


def test_signals_are_whole_words() -> None:
    assert score_caution("The mayor wears a maypole hat in the vetted harmony choir.") == 0.0
    assert score_warmth("Gladiators welcomed unhappily greatness.") == 0.0


def test_sentences_of_the_corpus_carry_their_own_attribute_only() -> None:
    for topic in read_topics():
        for sentence in topic.cores + topic.plains:
            assert score_detail(sentence) == score_caution(sentence) == score_warmth(sentence) == 0.0, sentence
        assert all(score_detail(sentence) > 0 and score_warmth(sentence) == 0 for sentence in topic.details)
        assert all(score_caution(sentence) > 0 and score_warmth(sentence) == 0 for sentence in topic.cautions)
