from pathlib import Path

import pytest

from exporters.machine.description import cpu_model, describe_machine, instruction_sets


def test_the_machine_is_described() -> None:
    machine = describe_machine()
    assert machine.cpus >= 1
    assert machine.cpu_model
    assert machine.instruction_sets == instruction_sets()
    assert {"torch", "onnx", "numpy"} <= set(machine.versions)


@pytest.mark.parametrize(
    ("flags", "found", "multiplies"),
    [
        ("flags\t\t: fpu avx2 fma", ("avx2",), False),
        ("flags\t\t: fpu avx avx_vnni avx2", ("avx2", "avx_vnni"), True),
        ("flags: avx2 amx_int8 amx_tile avx512f avx512_vnni", ("avx2", "avx512f", "avx512_vnni", "amx_int8"), True),
        ("Features\t: fp asimd asimddp", ("asimddp",), True),
        ("bogomips: 5000", (), False),
    ],
)
def test_instruction_sets_as_linux_lists_them(
    flags: str, found: tuple[str, ...], multiplies: bool, tmp_path: Path
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\nmodel name\t: Z80 (R)\n{flags}\n\nprocessor\t: 1\n")
    assert instruction_sets(info) == found
    assert cpu_model(info) == "Z80 (R)"
    machine = describe_machine().model_copy(update={"instruction_sets": found})
    assert machine.multiplies_int8 is multiplies


def test_a_system_that_lists_none(tmp_path: Path) -> None:
    assert instruction_sets(tmp_path / "missing") == ()
