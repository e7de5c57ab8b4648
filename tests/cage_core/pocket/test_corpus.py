from itertools import combinations
from random import Random

import numpy as np
import pytest

from cage_core.pocket.answers import compose_answer, draw_latents
from cage_core.pocket.corpus import Corpus
from cage_core.pocket.quality import is_on_topic, repeats_itself, valid_sentence_share
from cage_core.pocket.questions import topic_question
from cage_core.pocket.scorers import SCORERS
from cage_core.pocket.topics import read_small_talk, read_topics


def test_same_seed_same_dialogues() -> None:
    first, second, other = Corpus(3), Corpus(3), Corpus(4)
    dialogues = [first.dialogue() for _ in range(200)]
    assert dialogues == [second.dialogue() for _ in range(200)]
    assert dialogues != [other.dialogue() for _ in range(200)]


def test_topics_are_complete() -> None:
    topics = read_topics()
    assert len(topics) >= 80
    assert len({topic.task for topic in topics}) == len(topics)
    for topic in topics:
        assert topic.questions, topic.task
        assert topic.held_out_questions, topic.task
        assert len(topic.cores) >= 2, topic.task
        assert len(topic.details) >= 4, topic.task
        assert len(topic.cautions) >= 2, topic.task
    assert {topic.task for topic in read_small_talk()} >= {"greet", "thank", "say who I am"}


def test_held_out_questions_never_occur_in_training() -> None:
    rng = Random(0)
    topics = read_topics()
    held_out = {topic_question(rng, topic, held_out=True) for topic in topics for _ in range(20)}
    corpus = Corpus(0)
    asked = {turn.question for _ in range(4000) for turn in corpus.dialogue().turns}
    assert not held_out & asked


def test_latent_attributes_are_independent() -> None:
    rng = Random(0)
    drawn = [draw_latents(rng) for _ in range(5000)]
    columns = np.array([[d.details, d.cautions, d.warms, d.words] for d in drawn], dtype=float)
    assert np.abs(np.corrcoef(columns.T) - np.eye(4)).max() < 0.05


@pytest.fixture(scope="module")
def answers() -> list[str]:
    corpus = Corpus(5)
    return [corpus.held_out_dialogue().turns[0].answer for _ in range(1500)]


def test_scores_are_mid_scale_with_spread(answers: list[str]) -> None:
    for name, scorer in SCORERS.items():
        scores = np.array([scorer(answer) for answer in answers])
        assert 0.35 < scores.mean() < 0.65, name
        assert scores.std() > 0.15, name


def test_detail_caution_and_warmth_do_not_predict_one_another(answers: list[str]) -> None:
    scores = {name: [scorer(answer) for answer in answers] for name, scorer in SCORERS.items()}
    for one, other in combinations(("detail", "caution", "warmth"), 2):
        assert abs(np.corrcoef(scores[one], scores[other])[0, 1]) < 0.1, (one, other)


def test_answers_do_not_repeat_sentences(answers: list[str]) -> None:
    assert not any(map(repeats_itself, answers))
    assert all(valid_sentence_share(answer) == 1.0 for answer in answers)


def test_a_second_answer_says_something_new() -> None:
    rng = Random(1)
    for topic in read_topics():
        said = compose_answer(rng, topic, draw_latents(rng))
        more = compose_answer(rng, topic, draw_latents(rng), said)
        assert not (set(said) & set(more)) & {*topic.cores, *topic.details, *topic.cautions, *topic.plains}


def test_an_answer_is_on_the_topic_it_was_composed_for() -> None:
    rng = Random(2)
    rice, bread = (topic for topic in read_topics() if topic.task in ("cook rice", "bake bread"))
    answer = " ".join(compose_answer(rng, rice, draw_latents(rng)))
    assert all(is_on_topic(question, answer) for question in ("How do I cook rice?", *rice.held_out_questions))
    assert not any(is_on_topic(question, answer) for question in ("How do I bake bread?", *bread.held_out_questions))
