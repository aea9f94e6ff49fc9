import dataclasses
import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from records import same_result

from twostage_jax.data.partition import SCENARIOS
from twostage_jax.study.approaches import names
from twostage_jax.study.folder import (
    read_record,
    read_records,
    record_key,
    record_path,
    write_record,
)
from twostage_jax.study.record import Record, RecordKey, failed_record
from twostage_jax.support import files
from twostage_jax.support.errors import InputError

KEY = RecordKey("linear", 10.0, 0, "ts_smote_rus")

key_parts = st.tuples(
    st.sampled_from(SCENARIOS),
    st.sampled_from([1.5, 2.0, 5.0, 10.0, 100.0, 1e6]),
    st.integers(0, 12),
    st.sampled_from(names()),
)


def make_record(key=KEY, n=16, classes=4, seed=0, **changes):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), n).astype(np.float32)
    values = {
        "key": key,
        "status": "done",
        "reason": "",
        "test_index": rng.permutation(100)[:n].astype(np.int32),
        "label": (np.arange(n) % classes).astype(np.int32),
        "kept": np.arange(n) < n // 2,
        "probabilities": probabilities,
        "curve1": rng.random((3, 2), np.float32),
        "curve2": np.zeros((0, 2), np.float32),
        "class_counts": np.full(classes, 9, np.int32),
        "settings": {"epochs": 3, "ratios": (2.0, 5.0), "nested": {"on": True, "none": None}},
        "settings_hash": "abc",
        "versions": {"numpy": "2"},
        "device": "cpu",
        "seconds": {"stage1": 1.5},
        "images": {"stage1": 600},
    }
    return Record(**(values | changes))


def make_failed(key=KEY, reason="out of memory"):
    return failed_record(
        key,
        reason,
        class_counts=np.full(4, 9, np.int32),
        settings={},
        settings_hash="abc",
        versions={},
        device="cpu",
    )


def test_path_of_a_key():
    assert record_path(KEY) == Path("linear/ir10/fold0/ts_smote_rus.safetensors")
    key = RecordKey("half_minority", 2.5, 11, "baseline")
    assert record_path(key) == Path("half_minority/ir2.5/fold11/baseline.safetensors")


@given(key_parts)
def test_the_key_of_a_path(parts):
    key = RecordKey(*parts)
    assert record_key(record_path(key)) == key


@pytest.mark.parametrize(
    "path",
    [
        "linear/ir10/fold0",
        "linear/ir10/fold0/Other.safetensors",
        "linear/ir10.0/fold0/is_rus.safetensors",
        "linear/irx/fold0/is_rus.safetensors",
        "linear/ir10/fold0/is_rus",
        "a/linear/ir10/fold0/is_rus.safetensors",
    ],
)
def test_other_paths_have_no_key(path):
    with pytest.raises(InputError, match="is not the path of a record"):
        record_key(Path(path))
    assert record_key(record_path(KEY)) == KEY


def test_keys_sort_as_the_tables_do():
    expected = [
        RecordKey("original", 1.0, 9, "baseline"),
        *(
            RecordKey(scenario, ratio, fold, approach)
            for scenario in ("linear", "single_majority", "single_minority", "half_minority")
            for ratio in (2.0, 10.0)
            for fold in (2, 10)
            for approach in names()
        ),
    ]
    shuffled = [expected[i] for i in np.random.default_rng(0).permutation(len(expected))]
    assert sorted(shuffled) == expected


@given(key_parts, key_parts)
def test_keys_are_a_total_order_and_name_one_path(a, b):
    a, b = RecordKey(*a), RecordKey(*b)
    assert (a < b) + (a == b) + (a > b) == 1
    assert (a == b) == (record_path(a) == record_path(b))
    assert a != b or hash(a) == hash(b)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("linaer", 2.0, 0, "baseline"), "did you mean linear"),
        (("linear", 2.0, 0, "is smote"), "found approach 'is smote'"),
        (("linear", 2.0, -1, "baseline"), "found fold -1"),
        (("linear", 0.5, 0, "baseline"), "found imbalance ratio 0.5"),
        (("linear", float("nan"), 0, "baseline"), "found imbalance ratio nan"),
        (("linear", float("inf"), 0, "baseline"), "found imbalance ratio inf"),
        (("linear", 10 / 3, 0, "baseline"), "6 significant digits"),
        (("linear", 1.0, 0, "baseline"), "'original' at ratio 1 and only there"),
        (("original", 2.0, 0, "baseline"), "'original' at ratio 1 and only there"),
    ],
)
def test_bad_keys_are_refused(parts, message):
    with pytest.raises(InputError, match=message):
        RecordKey(*parts)


@given(
    parts=key_parts,
    n=st.integers(1, 40),
    classes=st.integers(2, 9),
    seed=st.integers(0, 2**32 - 1),
    text=st.text(),
)
def test_written_records_read_back_the_same(tmp_path_factory, parts, n, classes, seed, text):
    key = RecordKey(*parts)
    folder = tmp_path_factory.mktemp("records")
    record = make_record(key, n, classes, seed, settings={"text": text}, device=text)
    path = write_record(folder, record)
    again = read_record(path)
    assert path == folder / record_path(key)
    assert same_result(record, again)
    for field in dataclasses.fields(Record):
        np.testing.assert_equal(getattr(again, field.name), getattr(record, field.name))


def test_failed_records_read_back_the_same(tmp_path):
    again = read_record(write_record(tmp_path, make_failed()))
    assert same_result(again, make_failed())
    assert (again.status, again.reason) == ("failed", "out of memory")
    assert again.probabilities.shape == (0, 4)


def test_memory_layout_does_not_matter(tmp_path):
    record = make_record()
    strided = dataclasses.replace(
        record,
        probabilities=np.asfortranarray(record.probabilities),
        test_index=np.repeat(record.test_index, 2)[::2],
    )
    assert same_result(read_record(write_record(tmp_path, strided)), record)


def test_equal_records_are_equal_files_in_every_process(tmp_path):
    script = (
        "import sys; from twostage_jax.study.folder import read_record, write_record;"
        "write_record(sys.argv[2], read_record(sys.argv[1]))"
    )
    first = write_record(tmp_path / "a", make_record())
    subprocess.run([sys.executable, "-c", script, first, tmp_path / "b"], check=True)
    assert first.read_bytes() == (tmp_path / "b" / record_path(KEY)).read_bytes()


def test_circumstances_do_not_change_the_result():
    a = make_record()
    assert same_result(a, make_record(device="gpu", versions={}, seconds={"stage1": 9.0}))
    # Lists and tuples are one in JSON, and the order of the settings is nobody's choice.
    backwards = dict(reversed(a.settings.items())) | {"ratios": [2.0, 5.0]}
    assert same_result(a, make_record(settings=backwards))


def test_everything_else_changes_the_result():
    a = make_record()
    nudged = a.probabilities.copy()
    nudged[0, 0] = np.nextafter(nudged[0, 0], np.float32(0.5))
    changes = {
        "key": dataclasses.replace(KEY, fold=1),
        "test_index": a.test_index[::-1],
        "label": a.label[::-1],
        "kept": ~a.kept,
        "probabilities": nudged,
        "curve1": a.curve1[:2],
        "curve2": np.full((1, 2), np.nan, np.float32),
        "class_counts": a.class_counts + np.int32(1),
        "settings": {},
        "settings_hash": "abd",
        "images": {},
    }
    for name, value in changes.items():
        assert not same_result(a, dataclasses.replace(a, **{name: value})), name
    assert not same_result(a, make_failed())
    assert not same_result(make_failed(), make_failed(reason="loss is not finite"))


def test_a_diverged_run_equals_itself():
    nans = np.full((1, 2), np.nan, np.float32)
    assert same_result(make_record(curve2=nans), make_record(curve2=nans.copy()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": np.zeros(16, np.int64)}, "'label': found int64"),
        ({"label": [0] * 16}, "'label': found list"),
        ({"label": np.zeros(15, np.int32)}, "'label': found shape"),
        ({"label": np.full(16, 4, np.int32)}, "'label': found 4 to 4; expected 0 to 3"),
        ({"kept": np.ones(3, np.bool_)}, "'kept': found shape"),
        ({"probabilities": np.ones((16, 3), np.float32)}, "'probabilities': found shape"),
        ({"probabilities": np.full((16, 4), 1.5, np.float32)}, "expected softmax outputs"),
        ({"probabilities": np.full((16, 4), np.nan, np.float32)}, "expected softmax outputs"),
        ({"curve1": np.zeros((3, 3), np.float32)}, "'curve1': found shape"),
        ({"curve2": np.zeros(2, np.float32)}, "'curve2': found float32 with 1 dimensions"),
        ({"test_index": np.zeros(16, np.int32)}, "repeated row"),
        ({"test_index": np.arange(16, dtype=np.int32) - 1}, "a negative or repeated row"),
        ({"status": "finished"}, "unknown status"),
        ({"status": "failed"}, "expected one if it failed"),
        ({"reason": "why"}, "found 'why' in a done record"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_bad_fields_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        make_record(**changes)


def test_a_done_record_has_test_samples():
    with pytest.raises(InputError, match="expected at least one when done"):
        make_record(n=0)


def test_settings_that_json_cannot_hold_are_refused(tmp_path):
    with pytest.raises(InputError, match="not JSON serializable"):
        write_record(tmp_path, make_record(settings={"path": Path("x")}))
    assert not list(tmp_path.iterdir())


@given(st.data())
def test_truncated_files_are_refused(tmp_path_factory, data):
    path = write_record(tmp_path_factory.mktemp("records"), make_record())
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InputError, match=r"ts_smote_rus\.safetensors is not a whole .* delete it"):
        read_record(path)


def foreign(metadata):
    return safetensors.numpy.save({"a": np.zeros(2)}, metadata=metadata)


@pytest.mark.parametrize(
    "content",
    [
        b"some text, long enough for a header",
        foreign(None),
        foreign({"record": "no JSON"}),
        foreign({"record": "[1]"}),
        foreign({"record": "3"}),
        foreign({"record": '{"format": "twostage_jax record 0"}'}),
        foreign({"record": '{"format": "twostage_jax record 1"}'}),
        foreign({"record": '{"format": "twostage_jax record 1", "key": {"fold": 1}}'}),
    ],
)
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"foreign\.safetensors is not a whole .* delete it") as e:
        read_record(path)
    assert "\n" not in str(e.value)


@pytest.mark.usefixtures("unchecked_types")
def test_a_changed_array_is_refused(tmp_path):
    path = write_record(tmp_path, make_record())
    metadata = safetensors.safe_open(path, "numpy").metadata()
    tensors = safetensors.numpy.load_file(path) | {"kept": np.ones(3, np.bool_)}
    safetensors.numpy.save_file(tensors, path, metadata)
    with pytest.raises(InputError, match="'kept': found shape"):
        read_record(path)


def test_missing_files_are_the_systems_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "none.safetensors")


def test_reading_a_folder_sorts_and_skips_temporary_files(tmp_path):
    written = [dataclasses.replace(KEY, fold=fold) for fold in (10, 2, 0)]
    for key in written:
        write_record(tmp_path, make_record(key))
    failed = dataclasses.replace(KEY, approach="baseline")
    write_record(tmp_path, make_failed(failed))
    (tmp_path / record_path(KEY)).with_name(f".{record_path(KEY).name}.123.tmp").write_bytes(
        b"half"
    )
    (tmp_path / "tables.md").write_text("text")
    assert [r.key for r in read_records(tmp_path)] == [failed, *sorted(written)]


def test_reading_an_empty_and_a_missing_folder(tmp_path):
    assert read_records(tmp_path) == []
    with pytest.raises(InputError, match="found no folder"):
        read_records(tmp_path / "none")


def test_a_record_in_the_place_of_another_is_refused(tmp_path):
    path = write_record(tmp_path, make_record())
    path.rename(path.with_name("baseline.safetensors"))
    with pytest.raises(InputError, match="holds the record of"):
        read_records(tmp_path)


def test_writing_replaces(tmp_path):
    write_record(tmp_path, make_failed())
    path = write_record(tmp_path, make_record())
    assert read_record(path).status == "done"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_failed_writes_leave_the_old_file_and_nothing_else(tmp_path, monkeypatch, call):
    path = write_record(tmp_path, make_failed())

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, call, full)
        with pytest.raises(OSError, match="No space left"):
            write_record(tmp_path, make_record())
    assert read_record(path).status == "failed"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_file_in_place_of_the_folder_is_the_systems_error(tmp_path):
    (tmp_path / "linear").write_text("in the way")
    with pytest.raises(OSError, match="linear"):
        write_record(tmp_path, make_record())


def test_files_have_the_users_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    files.write_atomically(tmp_path / "a" / "b", b"x")
    assert os.stat(tmp_path / "a" / "b").st_mode == plain.stat().st_mode


def test_records_and_tables_do_without_jax():
    # A stand-in for the package keeps its __init__, which may import jax, out of the picture.
    script = (
        "import sys, types; package = types.ModuleType('twostage_jax');"
        "package.__path__ = [sys.argv[1]]; sys.modules['twostage_jax'] = package;"
        "import twostage_jax.study.folder, twostage_jax.evaluation.tables;"
        "assert 'jax' not in sys.modules"
    )
    folder = Path(files.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", script, folder]).returncode == 0
