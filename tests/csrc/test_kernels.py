"""The compiled core by itself: its checker, also under sanitizers, and its object files."""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# An environment that is used without being activated has its tools beside its interpreter.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
PROCESSORS = os.cpu_count() or 1

pytestmark = [
    pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="needs a checkout of the sources"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="guard pages need a POSIX system"),
    pytest.mark.skipif(shutil.which("cmake", path=PATH) is None, reason="needs cmake"),
    pytest.mark.skipif(
        shutil.which(os.environ.get("CXX", "c++"), path=PATH) is None, reason="needs a C++ compiler"
    ),
    pytest.mark.timeout(1800),
    pytest.mark.xdist_group("csrc"),
]


def run(*command: object, cwd: Path | None = None) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PATH": PATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}"
    return done.stdout


def build(folder: Path, *options: str) -> Path:
    """Build the checker in a folder."""
    run("cmake", "-S", ROOT, "-B", folder, "-DPYNN_TESTS=ON", *options)
    run("cmake", "--build", folder, "--parallel", PROCESSORS)
    return folder / "kernels_test"


def sanitized(folder: Path, sanitizer: str, *options: str) -> Path:
    """Build the checker under a sanitizer, as fast as can be; skip where there is none."""
    empty = folder / "empty.cpp"
    empty.write_text("int main() {}\n")
    try:
        run(os.environ.get("CXX", "c++"), f"-fsanitize={sanitizer}", empty, "-o", folder / "empty")
        run(folder / "empty")
    except AssertionError as error:
        pytest.skip(f"no program runs here under -fsanitize={sanitizer}: {error}")
    options = f"-DPYNN_SANITIZE={sanitizer}", "-DCMAKE_BUILD_TYPE=Debug", *options
    return build(folder / "build", *options)


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checker with the kernels as they are installed."""
    return build(tmp_path_factory.mktemp("kernels"))


@functools.cache
def isas() -> list[str]:
    """The instruction sets of this machine."""
    core = pytest.importorskip("pynn.backends.cython._core")
    return core.info()["isas"]


@pytest.mark.slow
def test_every_kernel_at_every_size_between_guard_pages(checker: Path) -> None:
    said = run(checker, "--short")
    assert re.findall(r"^(\w+) +\d+ calls", said, re.MULTILINE) == isas()
    calls = dict(re.findall(r"^(\w+) +(\d+) calls", said, re.MULTILINE))
    # Floats are multiplied by the kernels of avx512 with amx too.
    assert all(int(n) > (5_000 if isa == "amx" else 90_000) for isa, n in calls.items()), calls


@pytest.mark.slow
def test_no_report_of_the_address_and_undefined_behaviour_sanitizers(tmp_path: Path) -> None:
    checker = sanitized(tmp_path, "address,undefined")
    with ThreadPoolExecutor(PROCESSORS) as pool:
        for isa, said in zip(
            isas(), pool.map(lambda isa: run(checker, "--short", "--isa", isa), isas())
        ):
            assert re.search(rf"^{isa} +\d+ calls", said, re.MULTILINE)


@pytest.mark.slow
def test_no_report_of_the_thread_sanitizer(tmp_path: Path) -> None:
    # The team of threads does not depend on the kernels.
    checker = sanitized(tmp_path, "thread", "-DPYNN_ONLY=plain")
    assert "all right" in run(checker, "--short", "--team")


@pytest.mark.slow
def test_the_checker_refuses_an_unknown_instruction_set(checker: Path) -> None:
    with pytest.raises(AssertionError, match="ended with 2:\\s+there are no kernels for mmx"):
        run(checker, "--short", "--isa", "mmx")


# --- What the object files hold ----------------------------------------------------------------

# Instructions that came after SSE2, by set. Not tzcnt: older machines take it for bsf, and
# compilers write it where both give the same.
SSE4 = re.compile(
    r"(addsub|hadd|hsub)p[sd]|lddqu|mov(d|sh|sl)dup|fisttp\w*"  # SSE3
    r"|pshufb|ph(add|sub)\w+|pmaddubsw|pmulhrsw|psign[bwd]|palignr|pabs[bwd]"  # SSSE3
    r"|blendv?p[sd]|pblend(w|vb)|dpp[sd]|extractps|insertps|mpsadbw|packusdw|pcmpeqq|pextr[bdq]"
    r"|pinsr[bdq]|pm(ax|in)(sb|sd|ud|uw)|phminposuw|pmov[sz]x\w+|pmuldq|pmulld|ptest"
    r"|round[ps][sd]|movntdqa"  # SSE4.1
    r"|pcmpgtq|pcmp[ei]str[im]|crc32\w*|popcnt\w*|cmpxchg16b"  # SSE4.2 and its company
)
AVX2 = re.compile(
    r"v(?!err|erw|m)\w+|vm(?!call|launch|resume|xo|ptr|read|write)\w+"
    r"|andn|bextr|bls(i|r|msk)|bzhi|lzcnt|mulx|pdep|pext|rorx|sarx|shlx|shrx|movbe"
)
AVX512 = re.compile(
    r"k(mov|and|or|xor|not|shift|test|unpck|add)\w+|vpternlog\w|vmovdq[ua](8|16|32|64)"
    r"|v\w+(32|64)x[248]|v(p?compress|p?expand|p?blendm|rndscale|range|reduce|getexp|getmant|scalef)\w+"
    r"|v(fixupimm|fpclass|align[dq]|perm[it]2|permi2|permt2|prol|pror|pconflict|plzcnt|popcnt)\w*"
    r"|vpm(ull|ax[su]|in[su])q|vpsrav?q|vpabsq|vcvtt?[ps][sd]2u\w+|vpmovu?s?[qdw][dwb]"
)
BF16 = re.compile(r"\tv(dpbf16|cvtne2?)ps")
AMX = re.compile(r"\t(tdpbf16ps|tile(load|store|zero|release)\w*|ldtilecfg)")
AVX512_OPERANDS = re.compile(r"%zmm|%k[0-7]|%[xy]mm(1[6-9]|2\d|3[01])|\{")


def above(disassembly: str, level: int) -> set[str]:
    """Instructions of sets above level: 0 for SSE2, 1 for SSE4.2, 2 for AVX2 and its company."""
    found = set()
    for line in disassembly.splitlines():
        parts = re.match(
            r" +[0-9a-f]+:\t(?:(?:rep\w*|lock|bnd|notrack|data16|cs) )*(\w+) *(.*)", line
        )
        if not parts:
            continue
        name, operands = parts.groups()
        if (
            (level < 1 and SSE4.fullmatch(name))
            or (level < 2 and (AVX2.fullmatch(name) or "%ymm" in operands))
            or AVX512.fullmatch(name)
            or AVX512_OPERANDS.search(operands)
        ):
            found.add(f"{name} {operands}")
    return found


x86_64 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64") or shutil.which("objdump") is None,
    reason="needs an x86-64 machine and objdump",
)


def objects(checker: Path) -> dict[str, list[Path]]:
    """The object files of each instruction set, and those of the rest of the core."""
    found: dict[str, list[Path]] = {}
    for path in sorted(checker.parent.rglob("*.o")):
        isa = re.search(r"kernels_(\w+)\.dir", str(path))
        if "tests" not in path.relative_to(checker.parent).parts:
            found.setdefault(isa[1] if isa and isa[1] != "test" else "core", []).append(path)
    return found


@pytest.mark.slow
@x86_64
def test_no_object_holds_an_instruction_above_its_set(checker: Path) -> None:
    found = objects(checker)
    # Compilers before GCC 10 and Clang 9 know no bfloat16, before GCC 11 and Clang 11 no AMX.
    assert set(found) - {"bf16", "amx"} == {"core", "plain", "sse4", "avx2", "avx512"}
    assert [path.name for path in found["core"]] == ["dispatch.cpp.o", "team.cpp.o"]
    for isa, level in {"core": 0, "plain": 0, "sse4": 1, "avx2": 2}.items():
        for path in found[isa]:
            code = run("objdump", "-d", "--no-show-raw-insn", path)
            assert code.count("\n") > 50
            assert above(code, level) == set(), path
    # That they are found where they are.
    for isa, level in {"sse4": 0, "avx2": 1, "avx512": 2}.items():
        assert above(run("objdump", "-d", "--no-show-raw-insn", *found[isa]), level), isa
    # Those of bfloat16 and of AMX are in objects of their own.
    for isa, paths in found.items():
        code = run("objdump", "-d", "--no-show-raw-insn", *paths)
        assert bool(BF16.search(code)) == (isa in ("bf16", "amx")), isa
        assert bool(AMX.search(code)) == (isa == "amx"), isa


@x86_64
@pytest.mark.parametrize(
    "line, level",
    [
        ("pshufb %xmm1,%xmm0", 1),
        ("pmulld (%rax),%xmm0", 1),
        ("roundps $0x1,%xmm0,%xmm0", 1),
        ("blendvps %xmm0,%xmm1,%xmm2", 1),
        ("popcnt %eax,%eax", 1),
        ("lock cmpxchg16b (%rdi)", 1),
        ("vaddps %xmm0,%xmm1,%xmm2", 2),
        ("vmovaps %ymm0,(%rax)", 2),
        ("vmulps %xmm0,%xmm1,%xmm2", 2),
        ("shlx %eax,%ebx,%ecx", 2),
        ("vaddps %zmm0,%zmm1,%zmm2", 3),
        ("vaddps %ymm0,%ymm1,%ymm17", 3),
        ("vmovdqu64 %ymm0,(%rax)", 3),
        ("vpternlogd $0xff,%ymm0,%ymm0,%ymm0", 3),
        ("vaddps (%rax){1to8},%ymm0,%ymm0", 3),
        ("kmovw %eax,%k1", 3),
        ("addps %xmm1,%xmm0", 0),
        ("pmaxub %xmm1,%xmm0", 0),
        ("repz tzcnt %eax,%eax", 0),
        ("verr %ax", 0),
    ],
)
def test_instructions_are_assigned_to_their_instruction_set(line: str, level: int) -> None:
    for allowed in range(3):
        assert bool(above(f"  1f:\t{line}", allowed)) == (level > allowed)


@pytest.mark.slow
def test_instruction_sets_share_no_symbol(checker: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("needs nm")
    for isa, paths in objects(checker).items():
        if isa == "core":
            continue
        seen = set()
        for path in paths:  # one at a time: of several files nm prints the names too
            for line in run("nm", "-C", "--defined-only", path).splitlines():
                kind, name = line.split(maxsplit=2)[1:]
                if kind.isupper() or kind in "uvw":
                    seen.add(name)
        names = ["table"] if isa in ("bf16", "amx") else ["tables", "code_tables"]
        assert seen == {f"pynn::{isa}::{name}" for name in names}
