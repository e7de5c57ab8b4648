from pathlib import Path

import pytest

from cage_core.principals.training import InvalidPairs, PreferencePair, read_pairs

GOOD = '{"prompt": "p", "chosen": "a", "rejected": "b"}'


def write(folder: Path, text: str) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_reads_pairs_with_and_without_margin(tmp_path: Path) -> None:
    text = f'{GOOD}\n\n{{"prompt": "你", "chosen": "line\u2028two", "rejected": "b", "margin": 0.5}}\n'
    assert read_pairs(write(tmp_path, text)) == [
        PreferencePair("p", "a", "b", None),
        PreferencePair("你", "line\u2028two", "b", 0.5),
    ]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "not JSON"),
        ("[1]", "not an object"),
        ('{"prompt": "p", "chosen": "a"}', "'rejected' must be a text"),
        ('{"prompt": " ", "chosen": "a", "rejected": "b"}', "'prompt' must be a text"),
        ('{"prompt": "p", "chosen": 3, "rejected": "b"}', "'chosen' must be a text"),
        ('{"prompt": "p", "chosen": "a", "rejected": "a"}', "are the same"),
        ('{"prompt": "p", "chosen": "a", "rejected": "b", "margin": -1}', "at least 0"),
        ('{"prompt": "p", "chosen": "a", "rejected": "b", "margin": NaN}', "finite"),
        ('{"prompt": "p", "chosen": "a", "rejected": "b", "margin": "1"}', "finite"),
        ('{"prompt": "p", "chosen": "a", "rejected": "b", "margin": true}', "finite"),
        ('{"prompt": "p", "chosen": "a", "rejected": "b", "score": 1}', "unknown field 'score'"),
    ],
)
def test_a_bad_line_is_named_with_file_and_number(tmp_path: Path, line: str, complaint: str) -> None:
    path = write(tmp_path, f"{GOOD}\n{line}\n{GOOD}\n")
    with pytest.raises(InvalidPairs, match=complaint) as caught:
        read_pairs(path)
    assert f"{path}, line 2: " in str(caught.value)


def test_an_unusable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidPairs, match=r"absent\.jsonl cannot be read"):
        read_pairs(tmp_path / "absent.jsonl")
    with pytest.raises(InvalidPairs, match="cannot be read"):
        read_pairs(tmp_path)
    with pytest.raises(InvalidPairs, match="holds no pairs"):
        read_pairs(write(tmp_path, "\n \n"))
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "caf\xe9"}')
    with pytest.raises(InvalidPairs, match="not UTF-8"):
        read_pairs(tmp_path / "latin.jsonl")
