"""The program that links an imbalanced part of a folder."""

from experiments.imbalanced import main


def linked(root) -> dict[str, list[str]]:
    return {
        f"{part}/{name}": sorted(path.name for path in (root / part / name).iterdir())
        for part in ("train", "others")
        for name in "ab"
    }


def test_parts_are_random_apart_and_the_same_again(tmp_path, capsys):
    for name in "ab":
        (tmp_path / "all" / name).mkdir(parents=True)
        for row in range(12):
            (tmp_path / "all" / name / f"{row:02}.png").write_text(f"{name}{row}")
    counts = ["--counts", "6", "3", "--others", "4"]
    for output, more in (("one", []), ("two", []), ("three", ["--seed", "1"])):
        assert main([str(tmp_path / "all"), str(tmp_path / output), *counts, *more]) == 0
    one, two, three = (linked(tmp_path / output) for output in ("one", "two", "three"))
    assert one == two
    assert one != three
    sizes = {part: len(names) for part, names in one.items()}
    assert sizes == {"train/a": 6, "train/b": 3, "others/a": 4, "others/b": 4}
    for name in "ab":
        assert not {*one[f"train/{name}"]} & {*one[f"others/{name}"]}
    file = one["train/a"][0]
    assert (tmp_path / "one" / "train" / "a" / file).read_text() == f"a{int(file[:2])}"
    for arguments in (["all", "one", *counts], ["all", "four", "--counts", "9", "9"]):
        paths = [str(tmp_path / own) if own in ("all", "one", "four") else own for own in arguments]
        others = [] if "--others" in arguments else ["--others", "9"]
        assert main([*paths, *others]) == 2
    err = capsys.readouterr().err
    assert "one exists; expected a folder to make" in err
    assert "class 'a' has 12 images, 18 expected" in err
