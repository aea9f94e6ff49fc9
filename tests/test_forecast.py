"""The forecast: compiled programs as text, bounds, devices, options and files."""

import csv
import dataclasses
import re
import shutil

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks.turns import WorkerError
from experiments.forecast import __main__ as program
from experiments.forecast import bounds, report, targets
from experiments.forecast.compiling import Entry, Found, Job, largest_entries
from experiments.forecast.devices import Device, devices
from experiments.forecast.hlo import read_instruction, read_module, read_shapes
from experiments.forecast.kernels import Kernel, read_step
from experiments.forecast.options import Options, list_jobs
from experiments.forecast.products import convolution, product_operations
from experiments.forecast.programs import PROGRAMS, Setting
from experiments.forecast.roofline import kernel_seconds, step_seconds
from experiments.forecast.table import STUDY, Table, members_that_fit, study_rows
from experiments.forecast.work import count_work, imagined_plans
from experiments.options import PRESETS
from twostage_jax.study.jobs import Scope, list_networks
from twostage_jax.support.errors import InputError
from twostage_jax.training.protocol import Protocol

GPU_TEXT = """
HloModule jit_train

%gathering (table: u8[100,10], rows: s32[4,1]) -> u8[4,10] {
  %table = u8[100,10]{1,0} parameter(0)
  %rows = s32[4,1]{1,0} parameter(1)
  ROOT %gather.1 = u8[4,10]{1,0} gather(%table, %rows), offset_dims={1}
}

%product (left: f32[8,16], right: f32[16,4]) -> f32[8,4] {
  %left = f32[8,16]{1,0} parameter(0)
  %right = f32[16,4]{1,0} parameter(1)
  %dot.1 = f32[8,4]{1,0} dot(%left, %right), lhs_contracting_dims={1}, \
rhs_contracting_dims={0}, operand_precision={highest,highest}
  ROOT %add.1 = f32[8,4]{1,0} add(%dot.1, %dot.1)
}

%updating (kept: f32[50,4], update: f32[1,4], at: s32[]) -> f32[50,4] {
  %kept = f32[50,4]{1,0} parameter(0)
  %update = f32[1,4]{1,0} parameter(1)
  %at = s32[] parameter(2)
  %zero = s32[] constant(0)
  ROOT %dus = f32[50,4]{1,0} dynamic-update-slice(%kept, %update, %at, %zero)
}

%many (value: f32[8]) -> (f32[8], f32[8], f32[8], f32[8], f32[8], f32[8]) {
  %value = f32[8]{0} parameter(0)
  %twice = f32[8]{0} add(%value, %value)
  ROOT %all = (f32[8]{0}, f32[8]{0}, f32[8]{0}, f32[8]{0}, f32[8]{0}, /*index=5*/f32[8]{0}) \
tuple(%twice, %twice, %twice, %twice, %twice, /*index=5*/%twice)
}

%inner_body (state: f32[8]) -> f32[8] {
  %state = f32[8]{0} parameter(0)
  ROOT %negate.1 = f32[8]{0} negate(%state)
}

%inner_condition (state.1: f32[8]) -> pred[] {
  %state.1 = f32[8]{0} parameter(0)
  ROOT %true = pred[] constant(true)
}

%step (carry: (u8[100,10], s32[4,1], f32[8,16], f32[16,4], f32[50,4], f32[1,4], f32[8])) -> f32[8] {
  %carry = (u8[100,10]{1,0}, s32[4,1]{1,0}, f32[8,16]{1,0}, f32[16,4]{1,0}, f32[50,4]{1,0}, \
/*index=5*/f32[1,4]{1,0}, f32[8]{0}) parameter(0)
  %images = u8[100,10]{1,0} get-tuple-element(%carry), index=0
  %numbers = s32[4,1]{1,0} get-tuple-element(%carry), index=1
  %a = f32[8,16]{1,0} get-tuple-element(%carry), index=2
  %b = f32[16,4]{1,0} get-tuple-element(%carry), index=3
  %c = f32[50,4]{1,0} get-tuple-element(%carry), index=4
  %d = f32[1,4]{1,0} get-tuple-element(%carry), index=5
  %e = f32[8]{0} get-tuple-element(%carry), index=6
  %gather_fusion = u8[4,10]{1,0} fusion(%images, %numbers), kind=kLoop, calls=%gathering
  %gemm_fusion = f32[8,4]{1,0} fusion(%a, %b), kind=kCustom, calls=%product, \
metadata={op_name="jit(train)/dot_general"}
  %update_fusion = f32[50,4]{1,0} fusion(%c, %d, %numbers), kind=kLoop, calls=%updating
  %many_fusion = (f32[8]{0}, f32[8]{0}, f32[8]{0}, f32[8]{0}, f32[8]{0}, /*index=5*/f32[8]{0}) \
fusion(%e), kind=kLoop, calls=%many
  ROOT %while.2 = f32[8]{0} while(%e), condition=%inner_condition, body=%inner_body, \
backend_config={"known_trip_count":{"n":"3"}}
}

ENTRY %main (carry.1: f32[8]) -> f32[8] {
  %carry.1 = f32[8]{0} parameter(0)
  %copy.1 = f32[8]{0} copy(%carry.1)
  ROOT %while.1 = f32[8]{0} while(%copy.1), condition=%inner_condition, body=%step
}
"""

TPU_TEXT = """
HloModule jit_train

%multiply (p: f32[9,32], q: f32[9,32]) -> f32[9,32] {
  %p = f32[9,32]{1,0:T(8,128)} parameter(0)
  %q = f32[9,32]{1,0:T(8,128)S(1)} parameter(1)
  ROOT %multiply.1 = f32[9,32]{1,0:T(8,128)S(1)} multiply(%p, %q)
}

%body (carry: f32[9,32]) -> f32[9,32] {
  %carry = f32[9,32]{1,0:T(8,128)} parameter(0)
  %copy-start.1 = (f32[9,32]{1,0:T(8,128)S(1)}, f32[9,32]{1,0:T(8,128)}, u32[]{:S(2)}) \
copy-start(%carry)
  %copy-done.1 = f32[9,32]{1,0:T(8,128)S(1)} copy-done(%copy-start.1)
  %slice-start.1 = ((f32[9,32]{1,0:T(8,128)}), f32[1,32]{1,0:T(8,128)S(1)}, s32[]{:S(2)}) \
slice-start(%carry), slice={[0:1], [0:32]}
  %buffer = f32[9,32]{1,0:T(8,128)} custom-call(), custom_call_target="AllocateBuffer"
  ROOT %fusion.1 = f32[9,32]{1,0:T(8,128)S(1)} fusion(%carry, %copy-done.1), kind=kLoop, \
calls=%multiply, backend_config={"window_config":{"estimated_cycles":"700"}}
}

ENTRY %main (start: f32[9,32]) -> f32[9,32] {
  %start = f32[9,32]{1,0:T(8,128)} parameter(0)
  %copy.2 = f32[9,32]{1,0:T(8,128)} copy(%start), backend_config={"estimated_cycles":"50"}
  ROOT %while.1 = f32[9,32]{1,0:T(8,128)} while(%copy.2), condition=%none, body=%body
}
"""
TILED = 16 * 128 * 4  # bytes of f32[9,32] in tiles of 8 x 128


def test_a_shape_counts_the_padding_of_its_tiles_and_knows_its_memory():
    plain, beside, flat = read_shapes(
        "(f32[9,32]{1,0}, bf16[3,9,32]{2,1,0:T(8,128)(2,1)S(1)}, pred[130]{0:T(128)})"
    )
    assert (plain.dims, plain.bytes, plain.packed, plain.beside) == ((9, 32), 1152, 1152, False)
    assert (beside.bytes, beside.packed, beside.beside) == (3 * 16 * 128 * 2, 1728, True)
    assert (flat.bytes, flat.elements) == (256, 130)
    (turned,) = read_shapes("f32[9,32]{0,1:T(8,128)}")  # the first dimension is the minor one
    assert turned.bytes == 128 * 32 * 4


def test_a_line_is_read_with_its_comments_tuples_and_parentheses():
    line = "  ROOT %x.1 = (f32[2]{0}, /*index=1*/s32[]) fusion(%a.b, /*index=1*/%c), calls=%f.1, "
    found = read_instruction(line + 'metadata={op_name="jit(f)/vmap()/mul"}')
    assert (found.name, found.opcode, found.operands) == ("x.1", "fusion", ("a.b", "c"))
    assert [shape.dims for shape in found.shapes] == [(2,), ()]
    assert (found.called("calls"), found.op_name) == ("f.1", "jit(f)/vmap()/mul")
    assert found.is_root
    assert read_instruction("// a comment") is None
    assert read_module(GPU_TEXT).entry == "main"


def test_kernels_of_a_step_on_a_gpu():
    """Gathered rows and updates count, and not the tables; a loop counts as often as it runs."""
    kernels = {kernel.name: kernel for kernel in read_step(GPU_TEXT, loop=True)}
    assert {name: kernel.times for name, kernel in kernels.items()} == {
        "gather_fusion": 1,
        "gemm_fusion": 1,
        "update_fusion": 1,
        "many_fusion": 1,
        "negate.1": 3,
    }
    assert kernels["gather_fusion"].bytes == 40 + 16 + 40
    assert kernels["gemm_fusion"].bytes == 4 * (128 + 64 + 32)
    assert kernels["gemm_fusion"].products == {"float32": 2 * 8 * 4 * 16}
    assert kernels["gemm_fusion"].vector == 32
    assert kernels["gemm_fusion"].op_name == "jit(train)/dot_general"
    assert kernels["gemm_fusion"].shape == "f32[8,4]"
    assert kernels["update_fusion"].bytes == 16 + 16 + 16
    assert kernels["many_fusion"].bytes == 7 * 32
    assert kernels["negate.1"].bytes == 64
    whole = read_step(GPU_TEXT, loop=False)
    assert whole[0].name == "copy.1"
    assert len(whole) == 1 + len(kernels)


def test_kernels_of_a_step_on_a_tpu():
    """The memory on the chip is no traffic, copies are beside, and cycles are the loop's alone."""
    kernels = {kernel.name: kernel for kernel in read_step(TPU_TEXT, loop=True)}
    assert sorted(kernels) == ["copy-start.1", "fusion.1", "slice-start.1"]
    assert kernels["fusion.1"].bytes == TILED
    assert kernels["copy-start.1"].bytes == TILED
    assert kernels["slice-start.1"].bytes == 8 * 128 * 4
    assert {name for name, kernel in kernels.items() if kernel.beside} == {
        "copy-start.1",
        "slice-start.1",
    }
    assert sum(kernel.cycles for kernel in kernels.values()) == 700


def test_a_program_without_a_loop_has_no_step():
    assert read_step("ENTRY %main (x: f32[2]) -> f32[2] {\n}", loop=True) == []


@pytest.mark.parametrize(
    ("stride", "padding", "groups", "holes"),
    [
        ((1, 1), "SAME", 1, (1, 1)),
        ((2, 2), "VALID", 4, (1, 1)),
        ((1, 2), ((1, 1), (2, 1)), 2, (2, 1)),
    ],
)
def test_operations_of_a_convolution_are_xlas(stride, padding, groups, holes):
    x, kernel = jnp.zeros((2, 9, 8, 4)), jnp.zeros((3, 3, 4 // groups, 8))

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            stride,
            padding,
            lhs_dilation=holes,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    lowered = jax.jit(convolve).lower(x, kernel)
    text = lowered.compiler_ir("hlo").as_hlo_text()
    (line,) = [line for line in text.splitlines() if " convolution(" in line]
    shapes = [
        read_shapes(str(jax.typeof(each)).replace("float32", "f32"))[0] for each in (x, kernel)
    ]
    made = convolution(*shapes, read_shapes(line.split("=")[1])[0], line)
    assert made == lowered.cost_analysis()["flops"]


def test_operations_of_products_by_their_peak():
    def found(line: str, *operands: str):
        return product_operations(read_instruction(line), [read_shapes(each) for each in operands])

    product = "  %d = f32[2,8,4]{2,1,0} dot(%a, %b), lhs_batch_dims={0}, lhs_contracting_dims={2}"
    pair = "f32[2,8,16]", "f32[2,16,4]"
    assert found(product, *pair) == ("default", 2 * 64 * 16)
    assert found(product + ", operand_precision={high,high}", *pair) == ("tf32", 2 * 64 * 16)
    assert found(product, "bf16[2,8,16]", "bf16[2,16,4]") == ("bfloat16", 2 * 64 * 16)
    assert found(product.replace("f32", "s32"), "s8[2,8,16]", "s8[2,16,4]")[0] == "int8"
    cublas = (
        "  %c = (f32[8,4]{1,0}, s8[99]{0}) custom-call(%a, %b), "
        'custom_call_target="__cublas$gemm", '
        'backend_config={"gemm_backend_config":{"dot_dimension_numbers":'
        '{"lhs_contracting_dimensions":["1"]},"precision_config":{"operand_precision":'
        '["HIGHEST","HIGHEST"]}}}'
    )
    assert found(cublas, "f32[8,16]", "f32[16,4]") == ("float32", 2 * 32 * 16)
    cudnn = (
        "  %c = (f32[3,3,4,8]{3,2,1,0}, u8[0]{0}) custom-call(%a, %b), window={size=3x3 "
        "stride=2x2 pad=0_1x0_1}, dim_labels=b01f_01io->b01f, "
        'custom_call_target="__cudnn$convBackwardFilter"'
    )
    # Of 4 x 4 images, the last of two windows meets the padding in one of three taps.
    operations = 2 * 5 * 4 * 8 * (3 + 2) ** 2
    assert found(cudnn, "f32[5,4,4,4]", "f32[5,2,2,8]") == ("default", operations)
    assert found("  %a = f32[2]{0} add(%x, %y)", "f32[2]", "f32[2]") is None


PEAKS = {"float32": 10.0, "bfloat16": 40.0, "vector": 5.0, "default": "bfloat16"}
GPU = Device("a GPU", "gpu", 100.0, 2.0, 0.5, PEAKS, {})
TPU = dataclasses.replace(GPU, kind="tpu", launch=0.0, clock=10.0)
KERNEL = Kernel("k", "fusion", "", "f32[2]", 3, 8, {"float32": 20, "default": 40}, 5, 0)


def test_a_kernel_takes_the_longest_of_traffic_and_operations():
    assert kernel_seconds(KERNEL, GPU) == 0.5 + 4
    assert kernel_seconds(KERNEL._replace(bytes=2), GPU) == 0.5 + 3  # two seconds and one
    assert kernel_seconds(KERNEL._replace(bytes=2, vector=20), GPU) == 0.5 + 4


def test_a_step_takes_its_kernels_or_its_traffic_or_its_cycles():
    beside = KERNEL._replace(beside=True, times=1, products={}, vector=0)
    assert step_seconds([KERNEL], GPU) == 3 * 4.5
    assert step_seconds([KERNEL, beside._replace(bytes=2)], GPU) == 3 * 4.5
    assert step_seconds([KERNEL, beside], GPU) == (3 * 8 + 8) / 2
    assert step_seconds([KERNEL._replace(cycles=100)], TPU) == 30


@pytest.mark.parametrize("name", devices())
def test_every_number_of_a_device_has_a_source(name):
    device = devices()[name]
    given = {
        key for key in ("clock", "topology", "description") if getattr(device, key) is not None
    }
    assert given == ({"description"} if device.kind == "gpu" else {"clock", "topology"})
    assert set(device.sources) == {"memory", "bandwidth", "peaks", "launch", *given}
    assert all(len(source) > 10 for source in device.sources.values())
    assert 1e10 < device.memory < 1e12 < 1e13 > device.bandwidth > 5e11
    peaks = [device.peak(kind) for kind in ("float32", "tf32", "bfloat16", "int8")]
    assert peaks == sorted(peaks)
    assert device.peak("default") in peaks
    assert device.digest != devices()["h100" if name != "h100" else "v5e"].digest


def test_jobs_are_all_combinations_and_tiles_once():
    options = Options(targets=("v5e",), members=(10, 1), precisions=("float32", "tf32"))
    jobs = list_jobs(options)
    assert len(jobs) == 3 * 2 * 2 + 2
    assert jobs[0] == Job("v5e", "float32", "stage1", "1")
    assert Job("v5e", "any", "pixel_neighbors", "any") in jobs


SMALL = ["--class-counts", "100", "90", "--preset", "quick", "--folds", "1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--targets", "h10"], "unknown target 'h10'; did you mean h100"),
        (["--precisions", "float16"], "unknown precision 'float16'; did you mean bfloat16"),
        (["--programs", "stage2"], "unknown program 'stage2'; did you mean stage1"),
        (["--members", "0"], "--members 0 found, 1 to 1,000,000 expected"),
        (["--class-counts", "9"], "--class-counts names 9 alone, two expected"),
        (["--price", "-1"], "--price -1 found, a number above 0 expected"),
        (["--price", "nan"], "--price nan found"),
        (["--largest", "-1"], "--largest -1 found, 0 or more expected"),
        (["--image-size", "8"], "--image-size 8 found, 32 or more"),
        (["--width", "0"], "--width 0.* found, a number above 0"),
        (["--approaches", "is_smot"], "did you mean is_smote"),
        (["--targets"], "--targets has no value"),
        (["--class-counts", "9", "3"], "too small|fewer|folds|images"),
    ],
)
def test_bad_input_is_one_line(arguments, message, tmp_path, capsys):
    assert program.main([*arguments, "--output", str(tmp_path / "none")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert re.search(message, line), line
    assert not (tmp_path / "none").exists()


def test_without_a_compiler_one_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(program, "missing", lambda kind: f"{kind} is missing; pip install it")
    arguments = [*SMALL, "--targets", "h100", "v5e", "h200", "--output", str(tmp_path)]
    assert program.main(arguments) == 2
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "h100, h200: gpu is missing; pip install it",
        "v5e: tpu is missing; pip install it",
    ]
    assert told.err == "error: nothing could be compiled: gpu is missing; pip install it\n"


def test_what_has_to_be_installed_is_named(monkeypatch):
    def absent(name):
        raise targets.PackageNotFoundError(name)

    monkeypatch.setattr(targets, "version", absent)
    assert targets.missing("tpu") == "libtpu is not installed; pip install -e '.[tpu]'"
    assert targets.missing("gpu") == "jax-cuda12-plugin is not installed; pip install -e '.[gpu]'"


SETTING = Setting((40, 30), 96, Protocol(width=0.25))
WORK = dict.fromkeys(PROGRAMS, 0.0) | {"stage1": 7200.0, "pixel_neighbors": 3600.0}
FOUND = Found(64, 5, 64_000_000, 640, 10**6, 64.0, 10**9, 2 * 10**9, 3.0, [])
STAGE1 = Job("v5e", "float32", "stage1", "2")
TILE = Job("v5e", "any", "pixel_neighbors", "any")


class Compilers:
    """Stands for the processes: programs have digests, and some fail."""

    def __init__(self, digest: str = "a", failure: str = ""):
        self.digest, self.failure, self.compiled = digest, failure, []

    def lower(self, job):
        return self.digest

    def compile(self, job):
        self.compiled.append(job)
        if self.failure:
            raise WorkerError(self.failure)
        return FOUND


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The versions of compilers that may not be here."""
    monkeypatch.setattr("experiments.forecast.table.versions", lambda kind: f"compiler of {kind}s")


def test_a_program_is_compiled_once(tmp_path):
    """Rows survive the process; another program or compiler, and thus digest, is compiled."""

    def take(digest, failure=""):
        table, compilers = Table(tmp_path, SETTING), Compilers(digest, failure)
        said = program.take(STAGE1, compilers, table)
        table.write(table.finished(WORK, 2.5))
        return said, len(compilers.compiled)

    assert take("a") == ("at most 1 images/s (compiled in 3 s)", 1)
    assert take("a") == ("as before", 0)
    assert take("b", "out of memory") == ("no: out of memory", 1)
    assert take("b") == ("as before", 0)
    with (tmp_path / "forecast.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["compiles"], row["reason"]) == ("no", "out of memory")
    assert row["images_per_second_bound"] == row["study_hours_bound"] == ""


def test_a_missing_compiler_keeps_what_another_environment_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(program, "missing", lambda kind: "it is missing")
    table = Table(tmp_path, SETTING)
    program.take(STAGE1, Compilers(), table)
    program.note_missing([STAGE1, TILE], table)
    assert table.rows[STAGE1]["compiles"] == "yes"
    assert (table.rows[TILE]["compiles"], table.rows[TILE]["reason"]) == ("no", "it is missing")
    assert not table.is_done(TILE, "")


def test_rows_have_the_columns_and_the_study_adds_up(tmp_path):
    table, entry = Table(tmp_path, SETTING), Entry("k", "jit(f)/mul", "f32[2]", 1, 2, 3, 4)
    for job in (STAGE1, TILE):
        table.put(job, "a", FOUND._replace(largest=[entry]))
    rows = table.finished(WORK, 2.5)
    table.write(rows)
    with (tmp_path / "forecast.csv").open() as file:
        read = {row["program"]: row for row in csv.DictReader(file)}
    row = read["stage1"]
    assert ",".join(list(row)[:6]) == "target,precision,program,members,compiles,kernels_per_step"
    assert ",".join(list(row)[6:10]) == "MB_per_image,GFLOP_per_image,Mcycles_per_step,temporary_GB"
    assert list(row)[10:12] == ["images_per_second_bound", "study_hours_bound"]
    assert (row["kernels_per_step"], row["MB_per_image"], row["Mcycles_per_step"]) == (
        "5",
        "1",
        "1",
    )
    assert (row["images_per_second_bound"], row["study_hours_bound"]) == ("1", "2")
    assert (row["cost_bound"], row["temporary_GB"], row["compiler"]) == (
        "5",
        "1",
        "compiler of tpus",
    )
    assert (read[STUDY]["study_hours_bound"], read[STUDY]["cost_bound"]) == ("3", "7.5")
    assert (read[STUDY]["precision"], read[STUDY]["members"]) == ("float32", "2")
    assert Table(tmp_path, SETTING).largest[STAGE1] == [entry]
    text = report.document(table, rows, WORK, ["Command: none"])
    assert "| v5e | float32 | study | 2 | yes |" in text
    assert "not forecasts of time" in text
    assert "Google TPU v5e: 16 GB, 819 GB/s" in text


def test_a_study_of_which_a_program_is_missing_has_no_row():
    table_rows = [dict.fromkeys(("target", "precision", "setting"), "x")]
    row = table_rows[0] | {"program": "stage1", "members": "1", "study_hours_bound": "2"}
    assert study_rows([row], WORK, None) == []


def test_a_program_larger_than_the_device_has_no_hours(tmp_path):
    table = Table(tmp_path, SETTING)
    table.put(STAGE1, "a", FOUND._replace(total=20 * 10**9))
    (row,) = table.finished(WORK, None)
    assert (row["compiles"], row["study_hours_bound"]) == ("yes", "")
    assert row["reason"] == "takes 4 GB more than the device has"
    (said,) = report.failures([row])
    assert said == "v5e, float32, stage1, 2 members: takes 4 GB more than the device has."


def test_a_folder_of_another_setting_or_kind_is_refused(tmp_path):
    table = Table(tmp_path, SETTING)
    table.put(STAGE1, "a", FOUND)
    table.write(table.finished(WORK, None))
    with pytest.raises(InputError, match=r"holds a forecast of mobilenet_v1 .*one of .*128 px"):
        Table(tmp_path, SETTING._replace(pixels=128))
    (tmp_path / "forecast.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"forecast\.csv is no forecast of this version"):
        Table(tmp_path, SETTING)


def test_members_fit_by_the_growth_of_memory():
    def row(members: int, size: float) -> dict:
        return {"target": "v5e", "members": str(members), "memory_GB": str(size)}

    # A member takes 0.5 GB, all share 1: 0.8 * 15 / 0.5, of the 16 GB of a v5e.
    assert members_that_fit([row(1, 1.5), row(3, 2.5)], SETTING) == "24"
    alone = Setting((500, 500), 1000, Protocol())  # 3 GB of images
    assert members_that_fit([row(2, 5)], alone) == "10"
    assert members_that_fit([row(2, 5), row(1, 4.9)], alone) == "40"
    assert members_that_fit([{"target": "v5e", "members": "1", "memory_GB": ""}], alone) == ""


def test_the_largest_kernels_come_first():
    one, other = KERNEL._replace(name="one"), KERNEL._replace(name="other", bytes=100, times=1)
    (first,) = largest_entries([one, other], 1)
    assert (first.kernel, first.bytes, first.operations) == ("other", 100, 65)
    assert largest_entries([one._replace(cycles=1), other], 1)[0].kernel == "one"
    assert "| `other` |  | `f32[2]` |" in report.largest_table([first])


def test_work_is_that_of_the_studys_networks():
    """Stage 1 as in a study's own count; a SMOTE study ranks neighbors once on pixels."""
    setting = Setting((100, 90), 32, Protocol(epochs=3))
    base = PRESETS["quick"]
    scope = dataclasses.replace(
        base, folds=1, approaches=("baseline", "fs_smote", "is_smote")
    ).scope
    scope = Scope(scope.scenarios[:1], scope.ratios, 1, scope.approaches)
    networks = list_networks(imagined_plans(setting), scope)
    work = count_work(setting, scope)
    assert work["stage1"] == 3 * sum(network.images for network in networks)
    # One of ten folds is scored by both networks; one of them extracts its training images, too.
    counts = imagined_plans(setting).class_counts(networks[0].partition)
    tests = [len(imagined_plans(setting).partition(net.partition).test) for net in networks]
    assert work["features"] == sum(tests) + counts.sum()
    assert work["heads"] == 3 * 2 * counts.max()
    assert work["pixel_neighbors"] > work["feature_neighbors"] > 0


def test_what_rises_over_a_bound_is_named():
    bound = {"kernels_per_step": 100, "MB_per_image": 2.0, "compiler": "old"}
    assert bounds.risen(bound | {"kernels_per_step": 105}, bound) == []
    (said,) = bounds.risen(bound | {"MB_per_image": 2.2, "compiler": "new"}, bound)
    assert said.startswith(
        "MB_per_image is 2.2 by new, at most 1.05 times 2.0 expected (bound by old"
    )


def test_bounds_are_there_for_both_kinds_of_devices():
    assert set(bounds.read_bounds()) == set(bounds.TARGETS)
    assert {devices()[target].kind for target in bounds.TARGETS} == {"gpu", "tpu"}


@pytest.mark.slow
@pytest.mark.parametrize("target", bounds.TARGETS)
def test_the_small_program_costs_no_more_than_before(target):
    """Rewrite the file with `python -m experiments.forecast.bounds` where a rise is meant."""
    if reason := targets.missing(devices()[target].kind):
        pytest.skip(reason)
    assert bounds.risen(bounds.measure(target), bounds.read_bounds()[target]) == []


@pytest.mark.slow
@pytest.mark.parametrize("target", ["a100", "v6e"])
def test_all_programs_compile_and_the_command_resumes(target, tmp_path, capsys):
    if reason := targets.missing(devices()[target].kind):
        pytest.skip(reason)
    arguments = [*SMALL, "--targets", target, "--members", "1", "--precisions", "bfloat16"]
    arguments += ["--image-size", "32", "--output", str(tmp_path)]
    assert program.main(arguments) == 0
    assert " study | 1 | yes |" in capsys.readouterr().out
    before = (tmp_path / "forecast.csv").read_text()
    assert program.main(arguments) == 0
    assert capsys.readouterr().out.count(": as before") == len(PROGRAMS)
    assert (tmp_path / "forecast.csv").read_text() == before
    shutil.rmtree(tmp_path)


@pytest.mark.slow
def test_the_papers_study_has_the_papers_work():
    options = Options()
    assert count_work(options.setting, options.study.scope)["stage1"] == 31_813_620
