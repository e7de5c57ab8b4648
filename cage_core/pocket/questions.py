"""Questions of the corpus: how people ask about a topic, and questions outside all topics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from cage_core.pocket.topics import Topic

_OWN_QUESTION_SHARE = 0.5
_CONTEXT_SHARE = 0.3
_MOST_DROPPED = 0.5
_TEMPLATES = (
    "How do I {task}?",
    "How can I {task}?",
    "What is the best way to {task}?",
    "I want to {task}. Any advice?",
    "Can you help me {task}?",
    "Any tips for {gerund}?",
    "I need help with {gerund}.",
    "Please explain {gerund} to me.",
    "I have trouble {gerund}. What should I do?",
    "Give me some advice on {gerund}.",
    "What should I know about {gerund}?",
    "Tell me how to {task}.",
    "How does one {task}?",
    "What do you know about {gerund}?",
    "I am new to {gerund}. Where do I begin?",
    "What is the secret of {gerund}?",
    "I have never tried {gerund}. How does it work?",
    "Is it hard to {task}?",
    "{gerund}",
    "{task}",
)
_KEYWORD_STATEMENTS = (
    "{first}",
    "{first} and {second}",
    "What about {first}?",
    "I have a question about {first}.",
    "My {first} is a problem.",
    "Something is wrong with the {first}.",
    "I just got a {first}.",
    "I bought {first} and {second}.",
    "We have {first} at home.",
    "I think my {first} is not good.",
    "My {first} looks bad.",
    "I want more {first}.",
    "I need {first}.",
    "There is {first} everywhere.",
    "I am afraid of {first}.",
    "I would love {first}.",
    "I used to {first} a lot.",
    "I never {first}.",
    "My sister says {first}.",
    "It is all about {first}.",
    "I {first} and it does not work.",
    "The {first} is too {second}.",
)
_ASKS = (
    "What can I do?",
    "What helps?",
    "Any ideas?",
    "How do I start?",
    "What now?",
    "Is that normal?",
    "How do I fix it?",
    "What does it need?",
    "How do I get better at it?",
    "Where do I begin?",
    "What should I do?",
    "How do I change that?",
    "Why?",
    "Can you help?",
    "Please help me.",
    "What am I doing wrong?",
    "How do I prepare?",
    "What is a good plan?",
)
_CONTEXTS = (
    "I have never done this before.",
    "I am not good at this.",
    "We have tried everything.",
    "My brother told me to ask.",
    "It has been like this for a while.",
    "I just moved.",
    "I am getting older.",
    "I have little time.",
    "It is my first time.",
    "I have a small problem.",
    "Next week is important for me.",
    "I do not know much about it.",
)
_HELD_OUT_TEMPLATES = (
    "What would you suggest for {gerund}?",
    "I would like to {task}. How should I go about it?",
    "Could you tell me how to {task}?",
    "Do you have any ideas for {gerund}?",
)

_OUTSIDE_TEMPLATES = (
    "What is {subject}?",
    "Tell me about {subject}.",
    "Tell me a story about {subject}.",
    "Explain {subject}.",
    "What do you know about {subject}?",
    "Write a poem about {subject}.",
    "Who invented {subject}?",
    "When did {subject} begin?",
    "Where can I find {subject}?",
    "Why is {subject} so important?",
    "What do you think about {subject}?",
    "Any tips for {subject}?",
    "I need help with {subject}.",
    "{subject}",
)
_OUTSIDE_TASK_TEMPLATES = (
    "How do I {task}?",
    "How can I {task}?",
    "What is the best way to {task}?",
    "I want to {task}. Any advice?",
    "Can you help me {task}?",
    "Tell me how to {task}.",
    "Can you {task} for me?",
    "{task}",
)
_SYLLABLES = ("ba", "ko", "ti", "mu", "ra", "lin", "zor", "pex", "fi", "gla", "vem", "tro", "sha", "nu", "qui", "dax")


def _lines(name: str) -> tuple[str, ...]:
    path = Path(__file__).parent / "talk" / name
    return tuple(path.read_text(encoding="utf-8").splitlines())


_OUTSIDE_SUBJECTS = _lines("outside_subjects.txt")
_OUTSIDE_TASKS = _lines("outside_tasks.txt")
_ODD_INPUTS = _lines("odd_inputs.txt")


def topic_question(rng: Random, topic: Topic, held_out: bool = False) -> str:
    """One way to ask about a topic; held-out ways never occur in training."""
    own = topic.held_out_questions if held_out else topic.questions
    templates = _HELD_OUT_TEMPLATES if held_out else _TEMPLATES
    if rng.random() < _OWN_QUESTION_SHARE:
        question = rng.choice(own)
        return question if held_out or rng.random() > _CONTEXT_SHARE else _in_context(rng, question)
    question = rng.choice(templates).format(task=topic.task, gerund=topic.gerund)
    return question[0].upper() + question[1:]


def keyword_question(rng: Random, keywords: Sequence[str]) -> str:
    """A question that names one or two things that belong to a topic."""
    first, second = rng.choice(keywords), rng.choice(keywords)
    statement = rng.choice(_KEYWORD_STATEMENTS).format(first=first, second=second)
    return _in_context(rng, statement[0].upper() + statement[1:])


def _in_context(rng: Random, statement: str) -> str:
    """The statement, with small talk before it and a plain question after it, or one of them, or neither."""
    before = rng.choice(_CONTEXTS) + " " if rng.random() < 0.3 else ""
    after = " " + rng.choice(_ASKS) if rng.random() < 0.6 else ""
    return before + statement + after


def outside_question(rng: Random) -> str:
    """A question that no topic covers, now and then about a word that does not exist."""
    kind = rng.random()
    if kind < 0.15:
        return rng.choice(_ODD_INPUTS)
    if kind < 0.5:
        return rng.choice(_OUTSIDE_TASK_TEMPLATES).format(task=rng.choice(_OUTSIDE_TASKS)).capitalize()
    invented = "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4)))
    subject = invented if kind < 0.65 else rng.choice(_OUTSIDE_SUBJECTS)
    question = rng.choice(_OUTSIDE_TEMPLATES).format(subject=subject)
    return question[0].upper() + question[1:]


def as_typed(rng: Random, question: str) -> str:
    """The question the way people type it: in lower case, without punctuation, with a greeting, with words missing."""
    kind = rng.random()
    if kind > 0.8:
        dropped_share = rng.uniform(0, _MOST_DROPPED)
        return " ".join(word for word in question.split() if rng.random() > dropped_share) or question
    if kind < 0.12:
        return question.lower()
    if kind < 0.24:
        return question.lower().rstrip("?.!")
    if kind < 0.30:
        return rng.choice(("Hi, ", "Hello! ", "Hey, ")) + question[0].lower() + question[1:]
    if kind < 0.34:
        return question + rng.choice((" Thanks!", " Please help.", " Thank you."))
    return question
