from pathlib import Path

from cage_core.pocket.preferences import preference_pairs, repetition_pairs, write_pairs
from cage_core.pocket.quality import sentences_of
from cage_core.pocket.sampling import SampledAnswer
from cage_core.pocket.scorers import score_brevity
from cage_core.principals.training import PreferencePair, read_pairs

LONG = "Rinse the rice and simmer it under a lid. A pot with a heavy bottom spreads the heat evenly."
MIDDLE = "Rinse the rice and simmer it under a lid. I believe in you."
SHORT = "Rinse the rice and simmer it under a lid."
BROKEN = "Rice lid."


def answer(text: str, prompt: str = "How do I cook rice?", ended: bool = True) -> SampledAnswer:
    return SampledAnswer(prompt, text, tokens=9, ended=ended, kl_nats=0.0)


def test_best_is_paired_with_worst_and_the_margin_is_the_difference() -> None:
    (pair,) = preference_pairs([answer(LONG), answer(SHORT), answer(MIDDLE)], score_brevity)
    assert (pair.chosen, pair.rejected) == (SHORT, LONG)
    assert pair.margin == round(score_brevity(SHORT) - score_brevity(LONG), 4)


def test_answers_to_different_prompts_are_never_paired() -> None:
    assert preference_pairs([answer(LONG, "a"), answer(SHORT, "b")], score_brevity) == []


def test_unreadable_repeating_or_cut_answers_are_never_preferred() -> None:
    assert preference_pairs([answer(LONG), answer(BROKEN)], score_brevity) == []
    assert preference_pairs([answer(LONG), answer(SHORT, ended=False)], score_brevity) == []
    twice = f"{SHORT} {SHORT}"
    assert preference_pairs([answer(LONG + " " + MIDDLE), answer(twice)], score_brevity) == []


def test_equal_scores_make_no_pair() -> None:
    assert preference_pairs([answer(SHORT), answer(MIDDLE)], lambda _: 0.5) == []


def test_every_other_preferred_answer_is_preferred_to_itself_with_a_sentence_said_again() -> None:
    pairs = [PreferencePair(f"{number}?", LONG, SHORT, 0.2) for number in range(40)]
    made = repetition_pairs(pairs, seed=0)
    assert [pair.prompt for pair in made] == [f"{number}?" for number in range(0, 40, 2)]
    first, second = sentences_of(LONG)
    ways = {f"{first} {first} {second}", f"{first} {second} {first}", f"{first} {second} {second}"}
    assert {pair.rejected for pair in made} == ways
    assert {pair.chosen for pair in made} == {LONG}
    assert repetition_pairs(pairs, seed=0) == made


def test_pairs_survive_the_file(tmp_path: Path) -> None:
    pairs = [PreferencePair("你?", "a\u2028b\n", "c", 0.25)]
    write_pairs(pairs, tmp_path / "new" / "pairs.jsonl")
    assert read_pairs(tmp_path / "new" / "pairs.jsonl") == pairs
