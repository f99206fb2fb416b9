"""Files of class names as tools and people write them: understood by their numbers, or refused."""

import json
from pathlib import Path

import pytest

from glasshouse.data.names_file import read_class_names
from glasshouse.errors import UsageError

NAMES = ("Käse", "b, c", "d")


def _file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    "text",
    [
        '0,Käse\n1,"b, c"\n2,d\n',
        'index,name\r\n2,d\r\n0,Käse\r\n1,"b, c"\r\n',
        ',name\n0,Käse\n1,"b, c"\n2,d\n',
        '0, Käse\n1, "b, c"\n2, d\n',
        'Käse,0\n"b, c",1\nd,2\n',
        'class,index\nd,2\n"b, c",1\nKäse,0\n',
        "0\tKäse\n1\tb, c\n2\td\n",
        "label;id\nKäse;0\nb, c;1\nd;2\n",
        "0 Käse\n1 b, c\n2 d\n",
        "2: d\n0: Käse\n1:b, c\n",
        '"Käse"\n"b, c"\n"d"\n',
        "Ka\u0308se\nb, c\n d \n\n",
        "{0: 'Käse',\n 1: 'b, c',\n 2: 'd'}\n",
        "['Käse', 'b, c', 'd']",
        json.dumps(NAMES),
        json.dumps(NAMES, indent=2, ensure_ascii=False),
        json.dumps({"2": "d", "0": "Käse", "1": "b, c"}),
        json.dumps({"d": 2, "Käse": 0, "b, c": 1}, indent=1),
        json.dumps({"0": ["n1", "Käse"], "1": ["n2", "b, c"], "2": ["n3", "d"]}),
        json.dumps({"model_type": "vit", "id2label": {"0": "Käse", "1": "b, c", "2": "d"}}),
        json.dumps({"num_classes": 3, "label_names": NAMES}),
    ],
)
def test_numbers_say_which_output_a_name_belongs_to(tmp_path: Path, text: str) -> None:
    assert read_class_names(_file(tmp_path, "names.txt", text)) == NAMES


@pytest.mark.parametrize(
    "names",
    [
        ["0", "1", "2"],
        ["n01440764 tench, Tinca tinca", "n01443537 goldfish", "crane, 2"],
        ["7 up", "3 musketeers", "cola"],
        ["7 up", "3 musketeers"],
        ["[background]", "cat", "dog"],
        ["class 1", "class 0", "class 2"],
        ['5" pipe', '"quoted" name', "pipe"],
        ["time 10:30", "time 11:30", "noon"],
    ],
)
def test_names_with_numbers_and_marks_of_their_own_stay(tmp_path: Path, names: list[str]) -> None:
    assert read_class_names(_file(tmp_path, "n.txt", "\n".join(names))) == tuple(names)


def test_quoted_names_may_look_like_numbers_and_names(tmp_path: Path) -> None:
    path = _file(tmp_path, "names.csv", '"0,5 mm"\n"1,0 mm"\n"12"" pipe"\n')
    assert read_class_names(path) == ("0,5 mm", "1,0 mm", '12" pipe')


def test_names_that_wordnet_has_twice_keep_its_number(tmp_path: Path) -> None:
    text = json.dumps({"0": ["n1", "crane"], "1": ["n2", "cat"], "2": ["n3", "crane"]})
    names = read_class_names(_file(tmp_path, "imagenet_class_index.json", text))
    assert names == ("crane (n1)", "cat", "crane (n3)")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("n.csv", "1,a\n2,b\n", r"numbers of the outputs, 0 to 1, but there is no 0"),
        ("n.txt", "1: a\n2: b\n", r"there is no 0: they go from 1 to 2"),
        ("n.csv", "0,a\n2,b\n3,c\n", r"there is no 1: they go from 0 to 3"),
        ("n.csv", "0,a\n0,b\n", r"both 'a' and 'b' have the number 0"),
        ("n.csv", "0,a\nb\n2,c\n", r"but 'b' has no number"),
        ("n.csv", "0,a\nb\n", r"but 'b' has no number"),
        ("n.csv", "names\n0,a\n1,b\n", r"but 'names' has no number"),
        ("n.csv", "id,name,x\n0,a\n1,b\n", r"but 'id,name,x' has no number"),
        ("n.csv", "id,name\n0,a\n1,b,c\n", r"but '1,b,c' has 3 columns"),
        ("n.csv", "n1,a,0\nn2,b,1\n", r"but 'n1,a,0' has 3 columns"),
        ("n.csv", f"a\n{'x' * 140_000}\n", r"has a line that is no class name \("),
        ("n.json", '"ant"', r"expected a list of class names"),
        ("n.json", '{"ant": "bee"}', r"or under one of the keys .*; its keys are ant\. Write"),
        ("n.json", '{"0": 0.5, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}', r"are 0, b, c, d, e\. "),
        ("n.csv", "0,10\n1,20\n", r"'0,10' has two numbers"),
        ("n.csv", "id,wnid,name\n0,n1,a\n1,n2,b\n", r"'0,n1,a' has 3 columns"),
        ("n.txt", "0,5 mm\n1,0 mm\n1,5 mm\n", r'put each of them in "double quotes"'),
        ("n.json", '{"21": "fire lily", "3": "orchid"}', r"there is no 0"),
        ("n.json", '{"images": [], "categories": []}', r"its keys are images, categories"),
        ("n.json", "[1, 2]", r"expected a list of class names"),
        ("n.json", '{"id": 0}\n{"id": 1}\n', r"no valid JSON .* one name per line"),
        ("data.yaml", "path: x\nnames: [a, b]\n", r"is YAML"),
        ("n.txt", "names:\n  0: a\n  1: b\n", r"is YAML"),
        ("n.csv", "0,a\n1,\n", r"an empty name"),
        ("n.txt", "a,b,c\n", r"two class names or more, one per line"),
        ("n.txt", "a\nb\na\n", r"received 'a' twice"),
        ("n.txt", "", r"received 0"),
    ],
)
def test_what_does_not_say_which_output_is_which_is_refused(
    tmp_path: Path, name: str, text: str, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        read_class_names(_file(tmp_path, name, text))


def test_files_of_class_names_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read class names from .*none\.txt: .*No such"):
        read_class_names(tmp_path / "none.txt")
    (tmp_path / "names.txt").write_bytes("Käse\nd\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"names\.txt is not UTF-8 text \(.*save it as UTF-8"):
        read_class_names(tmp_path / "names.txt")
