from cage_core.engine.text import TextStream
from tests.checkpoints import make_tokenizer

tokenizer = make_tokenizer()


def stream(text: str, stop: tuple[str, ...] = ()) -> tuple[list[str], TextStream]:
    stream = TextStream(lambda tokens: tokenizer.decode(tokens), stop)
    pieces = []
    for token in tokenizer.encode(text):
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    pieces.append(stream.finish())
    return pieces, stream


def test_characters_of_several_tokens_come_whole() -> None:
    text = "né 🙂 שלום 漢字"
    pieces, whole = stream(text)
    assert whole.text == "".join(pieces) == text
    assert not any("�" in piece for piece in pieces)


def test_an_answer_cut_in_a_character_ends_readably() -> None:
    tokens = tokenizer.encode("ok 🙂")[:-1]
    cut = TextStream(lambda t: tokenizer.decode(t), ())
    text = "".join(cut.push(token) for token in tokens) + cut.finish()
    assert text.startswith("ok ")


def test_stop_texts_end_the_answer_and_are_not_shown() -> None:
    pieces, stopped = stream("one two STOP three", stop=("STOP", "never"))
    assert stopped.stopped
    assert "".join(pieces) == stopped.text == "one two "


def test_the_earliest_stop_text_ends_the_answer() -> None:
    at_once = TextStream(lambda tokens: "hi STOP then END", ("END", "STOP"))
    assert at_once.push(1) == "hi "


def test_a_beginning_of_a_stop_text_is_shown_once_it_is_none() -> None:
    pieces, whole = stream("a STO b ST", stop=("STOP",))
    assert not whole.stopped
    assert "".join(pieces) == "a STO b ST"
